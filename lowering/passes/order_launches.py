"""order-launches: kernels run in the order in which the least memory is in use at once.

Where no other order needs less, they stay in the order of the program.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from mlir import ir

from ..errors import LoweringError
from ..loops import code, donations
from ..memory.arrange import arrange
from ..memory.footprint import footprint
from ..memory.overwrite import Overwriting
from ..memory.schedule import best_order
from ..mlir import callee, context, functions, parse_verified, text
from .base import Pass, PassError


@dataclass(frozen=True)
class OrderLaunches(Pass):
    name: ClassVar[str] = "order-launches"
    takes: ClassVar[str] = "regions"
    gives: ClassVar[str] = "regions"
    by_size: ClassVar[bool] = True

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
            copied = parse_verified(text(module))
            for name, order in orders.items():
                function = functions(copied)[name]
                calls = [op.operation for op in function.regions[0].blocks[0] if callee(op)]
                arrange(function, [calls[step] for step in order])
        return copied
