"""One step of a recurrence, traced."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence

import torch

from ..capture_errors import LoopError
from ..state import CaptureScope
from .region import WRITTEN, Closure, Part, Region, StandIn

Tensors = Sequence[torch.Tensor]
# What the k-th output was in the step before; zeros like the given tensor in the first step.
Previous = Callable[[int, torch.Tensor], torch.Tensor]
# (states, slices of the xs, previous) -> (outputs, new states)
Step = Callable[[list[torch.Tensor], list[torch.Tensor], Previous], tuple[Tensors, Tensors]]


@dataclasses.dataclass(frozen=True)
class Carry(Part):
    """A value handed from step to step. `init`: its first value, None for zeros."""

    new: torch.Tensor
    init: torch.Tensor | None


@dataclasses.dataclass(frozen=True)
class Slice(Part):
    """A value with a leading axis of steps, of which each step gets a slice."""

    stacked: torch.Tensor


@dataclasses.dataclass(frozen=True)
class TracedStep:
    """One step of a recurrence.

    Attributes:
        carries: its states, then outputs that are handed on.
        slices: one for each of its xs.
        ys: what is stacked over the steps: its outputs if all are wanted, then losses of layers.
        outputs: the k-th output's number among the ys or, if only the last is wanted, the carries.
        written: the variables it assigns.
        read: what else it closes over that takes gradients.
    """

    region: Region
    carries: list[Carry]
    slices: list[Slice]
    ys: list[torch.Tensor]
    outputs: list[int]
    written: list[Closure]
    read: list[Closure]


def trace_step(
    outer: CaptureScope, step: Step, states: Tensors, xs: Tensors, *, keep_all: bool
) -> TracedStep:
    """Trace `step` once. `states` and `xs` are dense.

    Raises:
        LoopError: a step gives other shapes or dtypes of states than it takes, or has an effect
            that a loop cannot have.
    """
    region = Region(outer)
    options = {"differentiable": torch.is_grad_enabled()}
    fed_back: dict[int, StandIn] = {}

    def previous(number: int, like: torch.Tensor) -> torch.Tensor:
        if number not in fed_back:
            fed_back[number] = region.stand_in(like, **options)
        return fed_back[number].value

    with region.tracing():
        inside = [region.stand_in(state, **options) for state in states]
        slices = [Slice(region.stand_in(x, slice_of=True, **options), x) for x in xs]
        outputs, new_states = (
            [region.inside(tensor) for tensor in tensors]
            for tensors in step(
                [s.value for s in inside], [x.inside.value for x in slices], previous
            )
        )
        carries = [Carry(*parts) for parts in zip(inside, new_states, states, strict=True)]
        places = []
        for number, output in enumerate(outputs):
            state = next((i for i, new in enumerate(new_states) if new is output), None)
            if number in fed_back or (state is None and not keep_all):
                state = len(carries)
                stand_in = fed_back.get(number) or region.stand_in(output, **options)
                carries.append(Carry(stand_in, output, None))
            places.append(number if keep_all or state is None else state)
    for carry in carries:
        check_form(carry)
    losses = [loss for _, loss in region.scope.layer_losses]
    check_effects(region)
    written, read = split_closures(region.closures)
    ys = [*(outputs if keep_all else ()), *losses]
    return TracedStep(region, carries, slices, ys, places, written, read)


def check_form(carry: Carry) -> None:
    before, after = carry.inside.leaf, carry.new
    if before.shape != after.shape or before.dtype != after.dtype:
        raise LoopError(f"a step makes {_form(after)} of a state that is {_form(before)}")


def _form(tensor: torch.Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}"


def check_effects(region: Region) -> None:
    """Raises LoopError if a step has an effect that no loop has."""
    if region.scope.losses:
        raise LoopError("a branch of a condition in it adds a loss")
    for closure in region.closures:
        state = closure.variable
        added = closure.inside.leaf.grad is not None
        if added and (state is None or id(state._value) not in region.scope.cleared):
            raise LoopError("it adds to gradients of the step before")


def split_closures(closures: Iterable[Closure]) -> tuple[list[Closure], list[Closure]]:
    """Variables that are assigned, and all else.

    Raises:
        LoopError: a tensor that is no variable is written to.
    """
    written: list[Closure] = []
    read: list[Closure] = []
    for closure in closures:
        (written if closure.written else read).append(closure)
        if closure.written and closure.variable is None:
            raise LoopError(WRITTEN, unrolled=False)
    return written, read
