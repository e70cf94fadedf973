"""The loop behind recurrent layers. While a step is captured, a loop node takes its place."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Tensors = Sequence[Tensor]
# `previous(k, like)`: what the k-th output was one step ago, zeros like `like` in the first step.
Previous = Callable[[int, Tensor], Tensor]
Step = Callable[[list[Tensor], list[Tensor], Previous], tuple[Tensors, Tensors]]


def recur(
    step: Step,
    states: Tensors,
    xs: Tensors,
    length: int,
    *,
    reverse: bool = False,
    keep_all: bool = True,
) -> tuple[list[Tensor], list[Tensor]]:
    """Call `step(states, slices of xs, previous) -> (outputs, new states)` `length` times.

    Each of `xs` has a leading axis of `length`; steps go along it, from the end if `reverse`.

    Returns:
        The last states, and the outputs: all of them, stacked on a new leading axis at the place of
        their step, or those of the last step if not `keep_all`.
    """
    rows = [x.unbind(0) for x in xs]
    current = list(states)
    kept: list[list[Tensor]] = []
    outputs: list[Tensor] = []

    def previous(number: int, like: Tensor) -> Tensor:
        return outputs[number] if outputs else torch.zeros_like(like)

    for t in reversed(range(length)) if reverse else range(length):
        made, new_states = step(current, [row[t] for row in rows], previous)
        outputs, current = list(made), list(new_states)
        kept.append(outputs)
    if not keep_all:
        return current, outputs
    if reverse:
        kept.reverse()
    return current, [torch.stack(column) for column in zip(*kept, strict=True)]
