"""plan-buffers: every value gets its memory, and `@main` becomes launches and loops over it.

Where values live `memory/places.py` decides, and `memory/write.py` writes it: the bodies of loops
stand inside scf.for and scf.while.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from mlir import ir

from ..errors import LoweringError
from ..loops import code
from ..memory.fit import Fit
from ..memory.places import Planner
from ..memory.write import PlanText
from ..memory.write_loops import write_loop
from ..mlir import context, functions, parse
from .base import Pass, PassError


@dataclass(frozen=True)
class PlanBuffers(Pass):
    name: ClassVar[str] = "plan-buffers"
    takes: ClassVar[str] = "regions"
    gives: ClassVar[str] = "plan"
    by_size: ClassVar[bool] = True

    def run(self, module: ir.Module) -> ir.Module:
        self.check_stage(module)
        known, callers = functions(module), code(module)
        kernels = [name for name, f in known.items() if f.regions[0].blocks and name not in callers]
        try:
            planner = Planner(known)
            layout = planner.plan()
            with context():
                plan = PlanText(
                    layout, known, planner.arena.pack(), write_loop, Fit.of(module)
                ).text(kernels)
        except LoweringError as error:
            raise PassError(f"{self.name}: {error}") from None
        return parse(plan)
