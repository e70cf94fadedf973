"""A while loop under capture."""

from collections.abc import Callable

import torch

from ..capture_errors import LoopError
from ..state import CaptureScope
from ..tracing import node_of
from .emit import emit_while
from .outline import Outline
from .region import Region
from .step import Carry, check_effects, check_form, split_closures

Tensors = list[torch.Tensor]


def repeat(
    outer: CaptureScope,
    goes_on: Callable[[Tensors], torch.Tensor],
    advance: Callable[[Tensors], Tensors],
    states: Tensors,
) -> Tensors:
    """The states after as many steps of `advance` as `goes_on(states)`, a bool scalar, holds.

    Variables that `advance` assigns have their last values afterwards.

    Raises:
        LoopError: a gradient would have to pass the loop, or no loop can do what a step does.
        Whatever the functions raise.
    """
    states = [state.contiguous() for state in states]
    region = Region(outer)
    with region.tracing():
        inside = [region.stand_in(state) for state in states]
        for stand_in, state in zip(inside, states, strict=True):
            if state.requires_grad and torch.is_grad_enabled():
                stand_in.leaf.requires_grad_()
        again = goes_on([stand_in.value.clone() for stand_in in inside])
        if any(closure.written for closure in region.closures):
            raise LoopError("the condition of a while loop assigns a variable")
        new = [region.inside(x) for x in advance([stand_in.value.clone() for stand_in in inside])]
    carries = [Carry(*parts) for parts in zip(inside, new, states, strict=True)]
    for carry in carries:
        check_form(carry)
        if carry.new.requires_grad:
            raise LoopError("a while loop has no gradient, since it takes any number of steps")
    check_effects(region)
    if region.scope.layer_losses:
        raise LoopError("a layer adds a loss in a while loop")
    written, read = split_closures(region.closures)
    new_values = [node_of(x) for x in (*new, *(closure.inside.leaf for closure in written))]
    condition = [node_of(again)]
    inputs = [part.inside.node for part in (*carries, *written)]
    init = [*map(node_of, states), *(closure.node for closure in written)]
    outline = Outline(region, inputs, {closure.inside.node: closure.node for closure in read})
    constants = outline.constants(inputs, [*condition, *new_values])
    results = emit_while(
        outline.body(inputs, constants, condition),
        outline.body(inputs, constants, new_values),
        init,
        constants,
    )
    for closure, value in zip(written, results[len(states) :], strict=True):
        outer.add_update((closure.variable, value))
    return list(results[: len(states)])
