"""order-launches: kernels run in the order in which the least memory is in use at once.

Where no other order needs less, they stay in the order of the program.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from mlir import ir

from ..errors import LoweringError
from ..fusion.order import ordered
from ..loops import code, donations
from ..memory.footprint import footprint
from ..memory.overwrite import Overwriting
from ..memory.schedule import best_order
from ..mlir import context, functions, parse, text
from .base import Pass, PassError


@dataclass(frozen=True)
class OrderLaunches(Pass):
    name: ClassVar[str] = "order-launches"
    takes: ClassVar[str] = "regions"
    gives: ClassVar[str] = "regions"

    def run(self, module: ir.Module) -> ir.Module:
        self.check_stage(module)
        known = functions(module)
        donated, overwriting = donations(known), Overwriting(known)
        orders: dict[str, list[int]] = {}
        try:
            for name in code(module):
                order = best_order(footprint(known, name, donated, overwriting))
                if order != sorted(order):
                    orders[name] = order
        except LoweringError as error:
            raise PassError(f"{self.name}: {error}") from None
        if not orders:
            return module
        with context(), ir.Location.unknown():
            copied = parse(text(module))
            for name, order in orders.items():
                _reorder(functions(copied)[name], order)
        return parse(text(copied))


def _reorder(function: ir.OpView, order: list[int]) -> None:
    """Moves the calls of a function, and each view before what first reads it."""
    *ops, end = (view.operation for view in function.regions[0].blocks[0].operations)
    number = {result: n for n, op in enumerate(ops) for result in op.results}
    calls = [n for n, op in enumerate(ops) if op.name == "func.call"]
    wanted = [calls[step] for step in order]
    rest = [n for n in range(len(ops)) if ops[n].name != "func.call"]

    def needs(n: int) -> list[int]:
        return [number[value] for value in ops[n].operands if value in number]

    for n in ordered([*wanted, *rest], needs):
        ops[n].move_before(end)
