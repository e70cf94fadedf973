"""fit-memory: values are made again rather than kept, until the step fits a budget of memory.

Kernels over many tensors are cut first, so that gradients need not wait for one another; then launches are
made again (`memory/recompute.py`). Of all that was tried the first that fits is taken, else what takes
least.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from mlir import ir

from ..errors import LoweringError
from ..fusion.cut_instances import cut_instances
from ..loops import donations, loop_of
from ..memory.arrange import arrange
from ..memory.fit import AGAIN, ATTRIBUTE, Fit
from ..memory.footprint import Footprint, footprint, is_repeatable
from ..memory.overwrite import Overwriting
from ..memory.places import Planner
from ..memory.recompute import Schedule, Work, recompute
from ..memory.schedule import orders
from ..mlir import TensorType, callee, context, functions, parse_verified, text
from ..work import kernel_flops
from .base import Pass, PassError

PARTS = 8
"""Into how many kernels one over many tensors is cut."""
ATTEMPTS = 4
"""How often the target is lowered by what packing takes beside what is in use."""


@dataclass(frozen=True)
class FitMemory(Pass):
    """Option `budget`: the bytes of arguments, results and temporaries at the peak; or, as a fraction,
    the share of what the step takes otherwise.
    """

    name: ClassVar[str] = "fit-memory"
    takes: ClassVar[str] = "regions"
    gives: ClassVar[str] = "regions"
    by_size: ClassVar[bool] = True

    budget: int | float = 1.0

    def run(self, module: ir.Module) -> ir.Module:
        self.check_stage(module)
        try:
            return self._fit(module)
        except LoweringError as error:
            raise PassError(f"{self.name}: {error}") from None

    def _fit(self, module: ir.Module) -> ir.Module:
        before = _peak(module)
        budget = self.budget if isinstance(self.budget, int) else int(self.budget * before)
        if before <= budget:
            return module
        least, best = before, module
        for candidate, peak in _candidates(module, budget):
            if peak < least:
                least, best = peak, candidate
            if peak <= budget:
                break
        with context(), ir.Location.unknown():
            copied = parse_verified(text(best))
            copied.operation.attributes[ATTRIBUTE] = Fit(budget, before, least).to_attribute()
        return copied


def _peak(module: ir.Module) -> int:
    """Bytes of a module's step: arguments, results that are no argument's new value, temporaries."""
    known = functions(module)
    planner = Planner(known)
    planner.plan()
    kind = known["main"].type
    donated = set(donations(known)["main"].values())
    outputs = [result for k, result in enumerate(kind.results) if k not in donated]
    return planner.arena.pack().size + sum(
        TensorType.of(t).nbytes for t in (*kind.inputs, *outputs)
    )


def _candidates(module: ir.Module, budget: int) -> Iterator[tuple[ir.Module, int]]:
    """Modules in which more and more is made again, and their peaks."""
    for start in (module, cut_instances(module, PARTS)):
        known = functions(start)
        steps = footprint(known, "main", donations(known), Overwriting(known))
        work, rest = _work(known, steps), _peak(start) - steps.peak(range(len(steps.needs)))
        target = budget - rest
        for _ in range(ATTEMPTS):
            tried = [recompute(steps, order, work, target) for order in orders(steps)]
            schedule = min(tried, key=lambda each: (max(each.peak, target), len(each.order)))
            made = _written(start, steps, schedule)
            peak = _peak(made)
            yield made, peak
            if schedule.peak > target:
                break
            target -= peak - budget


def _work(known: Mapping[str, ir.OpView], steps: Footprint) -> list[Work]:
    flops = {name: kernel_flops(known[name]) for name in {s.callee for s in steps.program.steps}}
    return [
        Work(
            sum(part.type.nbytes for part in (*step.inputs, *step.results)),
            flops[step.callee],
            is_repeatable(known, step.callee) and loop_of(known[step.callee]) is None,
        )
        for step in steps.program.steps
    ]


def _written(module: ir.Module, steps: Footprint, schedule: Schedule) -> ir.Module:
    """The module with its steps as scheduled."""
    with context(), ir.Location.unknown():
        copied = parse_verified(text(module))
        _Rewriter(functions(copied)["main"], steps, schedule).rewrite()
        return copied


class _Rewriter:
    """Rewrites `@main`; the program's roots that are not made again keep their values."""

    def __init__(self, main: ir.OpView, steps: Footprint, schedule: Schedule) -> None:
        self.main, self.steps, self.schedule = main, steps, schedule
        block = main.regions[0].blocks[0]
        self.calls = [view.operation for view in block.operations if callee(view)]
        self.roots = {value: root for root, value in enumerate(block.arguments)}
        self.values: dict[int, ir.Value] = {}
        for step, call in zip(steps.program.steps, self.calls, strict=True):
            self.roots |= {r: part.root for r, part in zip(call.results, step.results, strict=True)}

    def rewrite(self) -> None:
        made, known = self.schedule, len(self.calls)
        ordered: list[ir.Operation] = []
        for step in made.order:
            call = self.calls[made.origin[step]]
            if step >= known:
                call = call.clone(ip=ir.InsertionPoint(call)).operation
                self.values |= dict(zip(made.makes[step], call.results, strict=True))
                if step in made.saved:
                    why = f"made again rather than kept: {made.saved[step]} bytes less at a peak"
                    call.attributes[AGAIN] = ir.StringAttr.get(why)
                else:
                    call.attributes[AGAIN] = ir.StringAttr.get("made again for what is made of it")
            ordered.append(call)
            self._redirect(call, made.reads[step])
        arrange(self.main, ordered)

    def _redirect(self, call: ir.Operation, reads: Mapping[int, int]) -> None:
        """Makes a call read what the schedule says."""
        for i, value in enumerate(call.operands):
            base, views = _origin(value)
            root = self.roots.get(base)
            if root is None or reads.get(root, root) == root:
                continue
            found = self.values[reads[root]]
            for view in views:
                again = view.clone(ip=ir.InsertionPoint(call)).operation
                again.operands[0] = found
                found = again.results[0]
            call.operands[i] = found


def _origin(value: ir.Value) -> tuple[ir.Value, list[ir.Operation]]:
    """The value that another is a view of, and the views between, innermost first."""
    views: list[ir.Operation] = []
    while not isinstance(value.owner, ir.Block) and value.owner.name.startswith("tensor."):
        if value.owner.name == "tensor.empty":
            break
        views.append(value.owner)
        value = value.owner.operands[0]
    return value, views[::-1]
