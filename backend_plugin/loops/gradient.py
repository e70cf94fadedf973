"""The gradient of one step of a recurrence, traced right after the step."""

import dataclasses
from collections.abc import Collection, Iterable

import torch

from ..capture_errors import LoopError
from ..provenance import ACCUMULATION, GRADIENT, autograd_nodes, current_track
from .region import Closure, StandIn
from .step import TracedStep


@dataclasses.dataclass(frozen=True)
class Tangent:
    """The gradient by a value: `inside` as a step of the backward loop begins, `new` as it ends."""

    inside: StandIn
    new: torch.Tensor


@dataclasses.dataclass(frozen=True)
class StepGradient:
    """The vector-Jacobian product of a step.

    Attributes:
        carries: by the number of a carry, the gradient by it.
        slices: by the number of a slice, the gradient by it.
        ys: by the number of a y, the stand-in for the gradient that comes in for it.
        closures: what the step closes over, with the sum of the gradients by it so far.
    """

    carries: dict[int, Tangent]
    slices: dict[int, torch.Tensor]
    ys: dict[int, StandIn]
    closures: list[tuple[Closure, Tangent]]


def trace_gradient(step: TracedStep) -> StepGradient | None:
    """The gradient of `step`; None if nobody asks for it.

    Raises:
        LoopError: gradients would flow past the stand-ins.
    """
    region = step.region
    carries = {i: c for i, c in enumerate(step.carries) if c.inside.leaf.requires_grad}
    slices = {i: x for i, x in enumerate(step.slices) if x.stacked.requires_grad}
    closures = [c for c in (*step.read, *step.written) if c.outer.requires_grad]
    starts = [c.init for c in carries.values() if c.init is not None]
    if not closures and not slices and not any(start.requires_grad for start in starts):
        return None
    with region.tracing():
        incoming = {i: region.stand_in(carry.inside.leaf) for i, carry in carries.items()}
        ys = {i: region.stand_in(y) for i, y in enumerate(step.ys) if y.requires_grad}
        flows = [(step.carries[i].new, tangent.leaf) for i, tangent in incoming.items()]
        flows += [(step.ys[i], tangent.leaf) for i, tangent in ys.items()]
        flows = [(result, tangent) for result, tangent in flows if result.requires_grad]
        if not flows:
            return None
        results, tangents = zip(*flows, strict=True)
        leaves = [part.inside.leaf for part in (*carries.values(), *slices.values(), *closures)]
        _check_flow(results, leaves, region.first_autograd_node)
        gradients = torch.autograd.grad(results, leaves, tangents, allow_unused=True)
        by_carry, by_slice = gradients[: len(carries)], gradients[len(carries) :][: len(slices)]
        by_closure = gradients[len(carries) + len(slices) :]
        track = current_track()
        with torch.no_grad(), track.within(track.path + GRADIENT):
            return StepGradient(
                {
                    i: Tangent(tangent, torch.zeros_like(tangent.leaf) if g is None else g)
                    for (i, tangent), g in zip(incoming.items(), by_carry, strict=True)
                },
                {i: g for i, g in zip(slices, by_slice, strict=True) if g is not None},
                ys,
                [
                    (closure, _sum(region.stand_in(g), g))
                    for closure, g in zip(closures, by_closure, strict=True)
                    if g is not None
                ],
            )


def _sum(so_far: StandIn, gradient: torch.Tensor) -> Tangent:
    return Tangent(so_far, so_far.leaf + gradient)


def _check_flow(
    results: Iterable[torch.Tensor], leaves: Collection[torch.Tensor], first: int
) -> None:
    """Gradients must end at `leaves`, in autograd nodes not older than number `first`."""
    known = set(map(id, leaves))
    for node in autograd_nodes(results):
        ends = node.name() == ACCUMULATION
        if id(node.variable) not in known if ends else node._sequence_nr() < first:
            raise LoopError(
                "a function with its own gradient takes a tensor from outside of the loop"
            )
