"""A recurrence under capture: a scan, whose gradient is a scan the other way."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch

from ..capture_errors import LoopError
from ..state import CaptureScope
from ..tracing import node_of, own_node
from .emit import emit_scan
from .gradient import StepGradient, trace_gradient
from .hoist import take_after, take_ahead
from .outline import Outline
from .step import Step, Tensors, TracedStep, trace_step

Node = torch.fx.Node


def recur(
    outer: CaptureScope,
    step: Step,
    states: Tensors,
    xs: Tensors,
    length: int,
    *,
    reverse: bool,
    keep_all: bool,
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """The last states and the outputs of `length` steps: of the last step, or of all on a new
    leading axis.

    Variables that the step assigns have their last values afterwards; losses that layers add in it
    are added up.

    Raises:
        LoopError: no loop can do what the step does. Nothing has been changed.
        Whatever `step` raises.
    """
    states, xs = ([tensor.contiguous() for tensor in tensors] for tensors in (states, xs))
    traced = trace_step(outer, step, states, xs, keep_all=keep_all)
    gradient = trace_gradient(traced) if torch.is_grad_enabled() else None
    loop = _Loop(traced, gradient, length, reverse)
    results = loop.run() if gradient is None else _Differentiable.apply(loop, *loop.sources)
    carries, rest = results[: len(traced.carries)], results[len(traced.carries) :]
    written, ys = rest[: len(traced.written)], rest[len(traced.written) :]
    for closure, value in zip(traced.written, written, strict=True):
        outer.add_update((closure.variable, value))
    losses = traced.region.scope.layer_losses
    for (layer, _), loss in zip(losses, ys[len(ys) - len(losses) :], strict=True):
        layer.add_loss(loss.sum(0))
    outputs = [(ys if keep_all else carries)[place] for place in traced.outputs]
    return list(carries[: len(states)]), outputs


class _Loop:
    """A traced step cut out of the graph, and the scans made of it.

    The results are the carries, the variables written, the ys.
    """

    def __init__(
        self, step: TracedStep, gradient: StepGradient | None, length: int, reverse: bool
    ) -> None:
        self._step, self._gradient = step, gradient
        self._length, self._reverse = length, reverse
        self._carried = [part.inside.node for part in (*step.carries, *step.written)]
        new_values = [*(c.new for c in step.carries), *(c.inside.leaf for c in step.written)]
        self._forward = [node_of(tensor) for tensor in (*new_values, *step.ys)]
        # Of each slice, the node of all slices.
        self._stacks = {part.inside.node: node_of(part.stacked) for part in step.slices}
        self._backward: list[Node] = []
        incoming: list[Node] = []
        if gradient is not None:
            sums = [*gradient.carries.values(), *(total for _, total in gradient.closures)]
            self._backward = [node_of(total.new) for total in sums]
            self._backward += [node_of(by_slice) for by_slice in gradient.slices.values()]
            self._summed = [total.inside.node for total in sums]
            incoming = [*self._summed, *(stand_in.node for stand_in in gradient.ys.values())]
        self._outline = Outline(
            step.region,
            inputs=[*self._carried, *self._stacks, *incoming],
            outer={closure.inside.node: closure.node for closure in step.read},
        )
        take_ahead(self._outline, self._stacks, self._forward, length)
        kept = self._outline.kept(self._forward, self._backward)
        self._kept = {node: node for node in kept if node not in self._stacks}

    def fixed(self, results: Tensors) -> list[torch.Tensor]:
        """Those of the results that depend on nothing by which there is a gradient."""
        step = self._step
        inside = [*(carry.new for carry in step.carries), *(None for _ in step.written), *step.ys]
        return [
            result
            for result, tensor in zip(results, inside, strict=True)
            if tensor is None or not tensor.requires_grad
        ]

    @property
    def sources(self) -> list[torch.Tensor]:
        """The tensors by which there is a gradient, in the order of `run_back`'s results."""
        step, gradient = self._step, self._gradient
        assert gradient is not None
        return [
            *(c.init for i in gradient.carries if (c := step.carries[i]).init is not None),
            *(closure.outer for closure, _ in gradient.closures),
            *(step.slices[i].stacked for i in gradient.slices),
        ]

    def run(self) -> tuple[torch.Tensor, ...]:
        """The results, from a new scan in the graph."""
        step = self._step
        init = _nodes(_zeros_like(c.new) if c.init is None else c.init for c in step.carries)
        init += [closure.node for closure in step.written]
        carried = dict(zip(self._carried, init, strict=True))
        results = self._scan(carried, self._stacks, [*self._forward, *self._kept], self._reverse)
        count = len(self._forward)
        stacks = map(own_node, results[count:])
        self._kept = dict(zip(self._kept, stacks, strict=True))
        return results[:count]

    def run_back(self, gradients: Sequence[torch.Tensor | None]) -> list[torch.Tensor | None]:
        """The gradients by `sources`, from those by the results; a new scan in the graph."""
        step, gradient = self._step, self._gradient
        assert gradient is not None
        by_y = gradients[len(self._carried) :]
        heard = {t.node: node_of(g) for i, t in gradient.ys.items() if (g := by_y[i]) is not None}
        silent = [t.node for t in gradient.ys.values() if t.node not in heard]
        init = [
            _zeros_like(t.inside.leaf) if (given := gradients[i]) is None else given
            for i, t in gradient.carries.items()
        ]
        init += [_zeros_like(total.inside.leaf) for _, total in gradient.closures]
        carried = dict(zip(self._summed, _nodes(init), strict=True))
        sums, by_slices = self._backward[: len(carried)], self._backward[len(carried) :]
        later = [take_after(self._outline, x, self._backward, self._length) for x in by_slices]
        results = self._scan(
            carried,
            {**self._kept, **self._stacks, **heard},
            [*sums, *(node for node, _ in later)],
            not self._reverse,
            silent,
        )
        starts = [step.carries[i].init is not None for i in gradient.carries]
        by_init = [result for result, starts in zip(results, starts, strict=False) if starts]
        by_closure = results[len(starts) : len(carried)]
        stacks = zip(later, results[len(carried) :], strict=True)
        return [*by_init, *by_closure, *(finish(stack) for (_, finish), stack in stacks)]

    def _scan(
        self,
        carried: dict[Node, Node],
        stacks: dict[Node, Node],
        outputs: list[Node],
        reverse: bool,
        zero: Sequence[Node] = (),
    ) -> tuple[torch.Tensor, ...]:
        """A scan of the region's nodes `outputs`, from nodes inside to nodes outside."""
        slices = self._outline.read(stacks, [*carried, *stacks], outputs)
        inputs = [*carried, *slices]
        constants = self._outline.constants([*inputs, *zero], outputs)
        return emit_scan(
            self._outline.body(inputs, constants, outputs, zero),
            list(carried.values()),
            [stacks[node] for node in slices],
            constants,
            self._length,
            reverse,
        )


class _Differentiable(torch.autograd.Function):
    """What autograd sees of a loop: results that depend on its sources."""

    @staticmethod
    def forward(ctx: Any, loop: _Loop, *sources: torch.Tensor) -> tuple[torch.Tensor, ...]:
        ctx.loop = loop
        ctx.set_materialize_grads(False)
        results = loop.run()
        ctx.mark_non_differentiable(*loop.fixed(results))
        return results

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise LoopError("the gradient of a loop has no gradient", unrolled=False)
        return None, *ctx.loop.run_back(gradients)


def _nodes(tensors: Iterable[torch.Tensor]) -> list[Node]:
    return [node_of(tensor) for tensor in tensors]


def _zeros_like(tensor: torch.Tensor) -> torch.Tensor:
    return torch.zeros(tensor.shape, dtype=tensor.dtype, device=tensor.device)
