"""Carries of a scan that are stacked as they are before each iteration: they live in the stack.

Iteration t reads place t and writes place t + 1, so nothing is copied; the stack has one place more,
where the final value is. What is stacked after each iteration is then the same memory, a place later.
In reverse, places count down and the final value comes first.
"""

from __future__ import annotations

from dataclasses import dataclass

from mlir import ir

from ..loops import Scan
from ..mlir import TensorType


@dataclass(frozen=True)
class History:
    """One such carry.

    Attributes:
        carry: its number.
        old, new: the results of the loop that are its values before, and after each iteration.
    """

    carry: int
    old: tuple[int, ...]
    new: tuple[int, ...]

    def starts(self, loop: Scan, size: int) -> dict[int, int]:
        """Where in all places, of `size` elements each, the carry's results of the loop begin."""
        old, new, final = (size, 0, 0) if loop.reverse else (0, size, loop.length * size)
        found = {self.carry: final}
        return found | dict.fromkeys(self.old, old) | dict.fromkeys(self.new, new)


def histories(loop: Scan, body: ir.OpView) -> list[History]:
    """The carries of a scan that live in stacks."""
    block = body.regions[0].blocks[0]
    arguments, returned = list(block.arguments), list(list(block.operations)[-1].operation.operands)
    found: list[History] = []
    free = set(range(loop.carries, len(returned)))
    for i in range(loop.carries):
        if returned[i] == arguments[i]:
            continue
        old = tuple(k for k in sorted(free) if returned[k] == arguments[i])
        new = tuple(k for k in sorted(free) if returned[k] == returned[i])
        if old:
            found.append(History(i, old, new))
            free -= {*old, *new}
    return found


def places_type(loop: Scan, carry: TensorType) -> TensorType:
    """All values of a carry, the final one too."""
    return carry.with_shape((loop.length + 1, *carry.shape))
