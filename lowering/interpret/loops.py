"""What a loop means: its body called again and again."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from ..loops import Scan, While

Tensors = Sequence[torch.Tensor]
Call = Callable[[str, Tensors], list[torch.Tensor]]


def run_loop(loop: Scan | While, operands: Tensors, count: int, call: Call) -> list[torch.Tensor]:
    """The results of a loop.

    Args:
        loop: what its declaration says.
        operands: what the loop is given.
        count: how many results it has.
        call: runs a function of the module by name.
    """
    if isinstance(loop, Scan):
        return _scan(loop, operands, count, call)
    carries, constants = list(operands[:count]), operands[count:]
    while call(loop.condition, [*carries, *constants])[0].item():
        carries = call(loop.body, [*carries, *constants])
    return carries


def _scan(loop: Scan, operands: Tensors, count: int, call: Call) -> list[torch.Tensor]:
    first, last = loop.carries, loop.carries + loop.scanned
    carries, scanned, constants = list(operands[:first]), operands[first:last], operands[last:]
    stacks: list[list[torch.Tensor]] = [[] for _ in range(count - first)]
    for step in range(loop.length):
        place = loop.place(step)
        made = call(loop.body, [*carries, *(x[place] for x in scanned), *constants])
        carries = made[:first]
        for stack, value in zip(stacks, made[first:], strict=True):
            stack.append(value)
    ordered = (stack[::-1] if loop.reverse else stack for stack in stacks)
    return [*carries, *map(torch.stack, ordered)]
