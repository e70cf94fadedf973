"""What Python changed about the pipeline: edits, in force for the whole process while asked for.

An edit takes the passes and gives others. Those made here are plain data, so that two that are equal
make programs that can stand for each other; see `in_force`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from .errors import LoweringError
from .passes.base import Pass

Edit = Callable[[Sequence[Pass]], Sequence[Pass]]
# Not of a thread: torch differentiates on threads of its own, and what they compile counts too.
_in_force: tuple[Edit, ...] = ()


@dataclass(frozen=True)
class Without:
    """Leaves passes out."""

    names: tuple[str, ...]

    def __call__(self, passes: Sequence[Pass]) -> list[Pass]:
        for name in self.names:
            find(passes, name)
        return [step for step in passes if step.name not in self.names]


@dataclass(frozen=True)
class Replaced:
    """Puts `step` where the pass `name` is."""

    name: str
    step: Pass

    def __call__(self, passes: Sequence[Pass]) -> list[Pass]:
        find(passes, self.name)
        return [self.step if step.name == self.name else step for step in passes]


@dataclass(frozen=True)
class Inserted:
    """Runs `step` right after the pass `name`, or right before it."""

    step: Pass
    name: str
    after: bool

    def __call__(self, passes: Sequence[Pass]) -> list[Pass]:
        find(passes, self.name)
        made: list[Pass] = []
        for step in passes:
            pair = [step, self.step] if self.after else [self.step, step]
            made += pair if step.name == self.name else [step]
        return made


def in_force() -> tuple[Edit, ...]:
    """The edits that count now, oldest first: part of what a compiled program depends on."""
    return _in_force


@contextlib.contextmanager
def under(edits: tuple[Edit, ...]) -> Iterator[None]:
    """Exactly these edits count within."""
    global _in_force
    before, _in_force = _in_force, edits
    try:
        yield
    finally:
        _in_force = before


def edited(passes: Sequence[Pass]) -> list[Pass]:
    """The passes as the edits in force make them.

    Raises:
        LoweringError: an edit names a pass that is not there, or the passes that are left do not lead
            from stage keras to a plan.
    """
    for edit in _in_force:
        passes = edit(passes)
    _check(passes)
    return list(passes)


def find(passes: Sequence[Pass], name: str) -> Pass:
    """The pass of that name.

    Raises:
        LoweringError: there is none; the sentence says which there are.
    """
    for step in passes:
        if step.name == name:
            return step
    names = ", ".join(dict.fromkeys(step.name for step in passes))
    raise LoweringError(f"there is no pass {name!r}; there are {names}")


def _check(passes: Sequence[Pass]) -> None:
    stage = "keras"
    for step in passes:
        if step.takes != stage:
            raise LoweringError(
                f"the pass {step.name} takes stage {step.takes!r}, but what runs before it gives "
                f"{stage!r}"
            )
        stage = step.gives
    if stage != "plan":
        raise LoweringError(f"the passes end at stage {stage!r}, not at a plan")
