"""Puts the calls of a function in another order."""

from __future__ import annotations

from collections.abc import Sequence

from mlir import ir

from ..fusion.order import ordered


def arrange(function: ir.OpView, calls: Sequence[ir.Operation]) -> None:
    """Moves the function's calls into the order given, and each view to what first reads it."""
    *ops, end = (view.operation for view in function.regions[0].blocks[0].operations)
    number = {result: n for n, op in enumerate(ops) for result in op.results}
    place = {op: n for n, op in enumerate(ops)}
    views = [n for n, op in enumerate(ops) if op.name != "func.call"]

    def needs(n: int) -> list[int]:
        return [number[value] for value in ops[n].operands if value in number]

    for n in ordered([*(place[op] for op in calls), *views], needs):
        ops[n].move_before(end)
