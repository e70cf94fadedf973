"""A plan as the runtime takes it: dataclasses read from a module of stage "plan" (plan_reader.py)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from mlir import ir

from .mlir import TensorType


@dataclass(frozen=True)
class Ref:
    """A contiguous piece of memory.

    Attributes:
        base: "argument", "output" or "arena" of the step; within a loop "operand" (memory of the
            loop) or "moving" (memory that is another in each iteration).
        index: which of those (0 for the arena).
        offset: in bytes from the base's start.
        type: shape and dtype of what lies there.
        whole: it is its base, in shape and extent.
    """

    base: str
    index: int
    offset: int
    type: TensorType
    whole: bool


@dataclass(frozen=True)
class PlanArg:
    """An argument of the step; `donated` is the result that it holds afterwards, None if it
    stays.
    """

    name: str
    type: TensorType
    donated: int | None


@dataclass(frozen=True)
class Call:
    """A launch of a kernel or extern; the last `outputs` operands are written. `again` says why it
    makes values a second time, if it does.
    """

    kernel: str
    operands: tuple[Ref, ...]
    outputs: int
    layer: str
    again: str = ""


@dataclass(frozen=True)
class Copy:
    """A copy of `source` to `target`, of equal types."""

    source: Ref
    target: Ref
    layer: str


@dataclass(frozen=True)
class Loop:
    """Steps that run `count` times.

    Attributes:
        count: iterations.
        operands: memory around the loop that its steps touch.
        moving: for each memory that moves, where it is in each iteration: (operand, offset in bytes).
        steps: in order of execution, over operands and moving memory.
        layer: the Keras layer it belongs to, or "".
    """

    count: int
    operands: tuple[Ref, ...]
    moving: tuple[tuple[tuple[int, int], ...], ...]
    steps: tuple[Step, ...]
    layer: str


@dataclass(frozen=True)
class While:
    """Steps that run as long as the byte at `flag`, which `condition` writes each time, is not 0.

    Attributes:
        operands: memory around the loop that its steps touch.
        condition, steps: in order of execution, over operands.
        flag: a bool among the operands.
        layer: the Keras layer it belongs to, or "".
    """

    operands: tuple[Ref, ...]
    condition: tuple[Step, ...]
    flag: Ref
    steps: tuple[Step, ...]
    layer: str


Step: TypeAlias = Call | Copy | Loop | While


@dataclass(frozen=True)
class Plan:
    """A step's launches.

    Attributes:
        arguments: of the step; those that are donated are updated in place.
        outputs: the types of the results that are no argument's new value, in order.
        arena_bytes: memory for temporaries; offsets in it are multiples of 64.
        steps: in order of execution.
        kernels: the function of every kernel that is called (regions stage), and of every extern its
            declaration, which carries `keras.extern`.
        module: what the plan was read from; the bindings free a module under the feet of functions
            that were taken from it, so it must live as long as they do.
    """

    arguments: tuple[PlanArg, ...]
    outputs: tuple[TensorType, ...]
    arena_bytes: int
    steps: tuple[Step, ...]
    kernels: dict[str, ir.OpView]
    module: ir.Module


def walk(steps: Sequence[Step], times: int | None = 1) -> Iterator[tuple[Call | Copy, int | None]]:
    """Every launch and copy with how often it runs; None where a while loop decides that."""
    for step in steps:
        if isinstance(step, Loop):
            yield from walk(step.steps, None if times is None else times * step.count)
        elif isinstance(step, While):
            yield from walk((*step.condition, *step.steps), None)
        else:
            yield step, times
