"""Writes a plan: launches over views of arguments, outputs and the arena, loops as scf ops."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from mlir import ir

from ..arena import ALIGNMENT, Packing
from ..errors import LoweringError
from ..heads import ATTRIBUTE as LOGITS
from ..linalg.write import Writer, argument_text, op_text
from ..mlir import TensorType
from .fit import AGAIN, ATTRIBUTE, Fit
from .memref import Memref, Views
from .places import Layout, LoopLayout, Place
from .program import Part, Step

ARENA = "%arena"


class PlanText:
    """The module of stage "plan": what all of its functions share."""

    def __init__(
        self,
        layout: Layout,
        known: Mapping[str, ir.OpView],
        packing: Packing,
        write_loop: Callable[[Frame, Step, LoopLayout], None],
        fitted: Fit | None = None,
    ) -> None:
        self.layout, self.known, self.packing = layout, known, packing
        self.arena_bytes = max(packing.size, ALIGNMENT)
        self.write_loop, self.fitted = write_loop, fitted
        self.writer = Writer()
        self.constants: dict[int, str] = {}
        self.declared: dict[str, str] = {}

    def text(self, kernels: list[str]) -> str:
        """The whole module; `kernels` are its kernels' names."""
        frame, parameters = self._main()
        frame.write()
        fitted = f", {ATTRIBUTE} = {self.fitted.to_attribute()}" if self.fitted else ""
        main = self.known["main"].operation.attributes
        logits = f"attributes {{{LOGITS} = {main[LOGITS]}}} " if LOGITS in main else ""
        return "\n".join(
            [
                f'module attributes {{keras.stage = "plan"{fitted}}} {{',
                "module @kernels {",
                *(op_text(self.known[name]) for name in kernels),
                "}",
                "module @plan {",
                *self.declared.values(),
                f"func.func @main({', '.join(parameters)}) {logits}{{",
                *(f"{name} = arith.constant {n} : index" for n, name in self.constants.items()),
                *self.writer.lines,
                "return",
                "}",
                "}",
                "}",
            ]
        )

    def _main(self) -> tuple[Frame, list[str]]:
        """The frame of `@main`, and its parameters: arguments, outputs, the arena."""
        program, layout = self.layout.program, self.layout
        memory: dict[Place, Memref] = {}
        parameters = []
        for i, attributes in enumerate(argument_text(self.known["main"])):
            made = memory[Place("argument", i)] = Memref(f"%argument{i}", program.types[i])
            named = attributes or f'{{keras.name = "argument{i}"}}'
            parameters.append(f"{made.name}: {made.text} {named}")
        for part, place in zip(program.results, layout.wanted, strict=True):
            if place.base == "output":
                made = memory[place] = Memref(f"%output{place.index}", part.type)
                parameters.append(f"{made.name}: {made.text}")
        return Frame(self, layout, memory), [
            *parameters,
            f"{ARENA}: memref<{self.arena_bytes}xi8>",
        ]

    def constant(self, number: int) -> str:
        """An index."""
        return self.constants.setdefault(number, f"%c{number}")

    def declare(self, step: Step, operands: list[Memref]) -> None:
        """A kernel is launched once, an extern maybe often: then operands' layouts must agree."""
        kernel = self.known[step.callee].operation
        extern = (
            f", keras.extern = {kernel.attributes['keras.extern']}"
            if "keras.extern" in kernel.attributes
            else ""
        )
        text = (
            f"func.func private @{step.callee}({', '.join(item.text for item in operands)}) "
            f"attributes {{keras.outputs = {len(step.results)} : i64{extern}}}"
        )
        if self.declared.setdefault(step.callee, text) != text:
            raise LoweringError(f"@{step.callee} is called on operands of different layouts")


class Frame:
    """One function's launches; its arguments and outputs are memory that `memory` names."""

    def __init__(
        self,
        plan: PlanText,
        layout: Layout,
        memory: dict[Place, Memref],
        outer: Frame | None = None,
    ) -> None:
        self.plan, self.layout, self.memory, self.outer = plan, layout, memory, outer
        self.writer, self.views = plan.writer, Views(plan.writer)
        self.made: dict[tuple[Place, int, TensorType], Memref] = {}

    def write(self) -> None:
        """All steps, then copies of what no step could write in place."""
        for number, step in enumerate(self.layout.program.steps):
            loop = self.layout.loops.get(number)
            if loop is None:
                self._launch(step)
            else:
                self.plan.write_loop(self, step, loop)
        self._finish()

    def part(self, part: Part, location: str = "") -> Memref:
        """A piece of a root's memory."""
        place, kind = self.layout.places[part.root], part.type
        if place.base != "arena":
            key = (place, part.start, kind)
            if key not in self.made:
                self.made[key] = self.views.piece(self.memory[place], part.start, kind, location)
            return self.made[key]
        return self.arena(place.index, kind, part.start)

    def arena(self, buffer: int, kind: TensorType, first: int = 0) -> Memref:
        """A buffer of the arena from element `first` on."""
        start = self.plan.packing.offsets[buffer] + first * kind.torch_dtype.itemsize
        key = (Place("arena", start), 0, kind)
        frame: Frame | None = self
        while frame is not None:
            if key in frame.made:
                return frame.made[key]
            frame = frame.outer
        made = self.made[key] = Memref(self.writer.fresh(), kind)
        offset = self.plan.constant(start)
        self.writer.line(
            f"{made.name} = memref.view {ARENA}[{offset}][] "
            f": memref<{self.plan.arena_bytes}xi8> to {made.text}"
        )
        return made

    def _launch(self, step: Step) -> None:
        inputs = [self.part(part, step.location) for part in step.inputs]
        operands = [*inputs, *(self.part(part, step.location) for part in step.results)]
        self.plan.declare(step, operands)
        kinds = ", ".join(item.text for item in operands)
        names = ", ".join(item.name for item in operands)
        again = f' {{{AGAIN} = "{step.again}"}}' if step.again else ""
        self.writer.line(
            f"func.call @{step.callee}({names}){again} : ({kinds}) -> () {step.location}"
        )

    def _finish(self) -> None:
        """Copies results to where they are wanted: outputs first, then over arguments."""
        program, late = self.layout.program, []
        for k, (part, wanted) in enumerate(zip(program.results, self.layout.wanted, strict=True)):
            if self.layout.is_at(part, wanted):
                continue
            source, target = (
                self.part(part),
                self.views.reshape(self.memory[wanted], part.type.shape),
            )
            if k in self.layout.asides:
                aside = self.arena(self.layout.asides[k], part.type)
                self.views.copy(source, aside)
                source = aside
            if wanted.base == "argument":
                late.append((source, target))
            else:
                self.views.copy(source, target)
        for source, target in late:
            self.views.copy(source, target)
