"""How many calls of native code make the launches of a step, and which launches Python makes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from keras_triton.lowering.plan import Call, Copy, Loop, Step, While, walk

if TYPE_CHECKING:
    from ..runtime import Executor


@dataclass(frozen=True)
class PythonLaunch:
    """A launch that native code calls Python for.

    Attributes:
        reason: why.
        times: how often a step makes it; None where a while loop decides that.
    """

    kernel: str
    reason: str
    times: int | None

    def __str__(self) -> str:
        often = "as often as a loop asks" if self.times is None else f"{self.times} ×"
        return f"{self.kernel} ({often}: {self.reason})"


@dataclass(frozen=True)
class NativeCalls:
    """The calls of native code that a step makes.

    Attributes:
        count: those of the step itself, and one an iteration of each loop that Python iterates as it has
            a launch of Python inside; while loops count as running once.
        python: the launches that native code calls Python for in between.
    """

    count: int
    python: tuple[PythonLaunch, ...]

    @classmethod
    def of(cls, steps: Sequence[Step], executors: Mapping[str, Executor]) -> NativeCalls:
        """Those that the steps of a plan take."""
        python = tuple(
            PythonLaunch(item.kernel, reason, times)
            for item, times in walk(steps)
            if isinstance(item, Call) and (reason := _reason(item, executors))
        )
        return cls(1 + sum(_iterations(steps, executors)), python)

    def __add__(self, other: NativeCalls) -> NativeCalls:
        return NativeCalls(self.count + other.count, (*self.python, *other.python))

    def __str__(self) -> str:
        calls = f"{self.count} native call{'s' if self.count > 1 else ''} a step"
        shown = ", ".join(map(str, self.python))
        return calls + (f"; Python is called back for {shown}" if shown else "")


def _reason(item: Call | Copy, executors: Mapping[str, Executor]) -> str:
    """Why Python makes a launch, or ""."""
    entry = "" if isinstance(item, Copy) else executors[item.kernel].entry
    return entry if isinstance(entry, str) else ""


def _iterations(steps: Sequence[Step], executors: Mapping[str, Executor]) -> Iterator[int]:
    """The native calls of each loop that Python iterates; in a while loop, one for each part."""
    for step in steps:
        if not isinstance(step, Loop | While):
            continue
        parts = step.steps if isinstance(step, Loop) else (*step.condition, *step.steps)
        if any(_reason(item, executors) for item, _ in walk(parts)):
            times = step.count if isinstance(step, Loop) else 1
            yield times * (
                sum(_iterations(parts, executors)) + (1 if isinstance(step, Loop) else 2)
            )
