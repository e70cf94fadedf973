"""Writes a plan: launches over views of arguments, outputs and the arena, loops as scf ops."""

from __future__ import annotations

from collections.abc import Mapping

from mlir import ir

from ..errors import LoweringError
from ..linalg.write import Writer, argument_text, op_text
from ..loops import Scan
from ..mlir import TensorType
from .memref import Memref, Views
from .places import Layout, LoopLayout, Place
from .program import Part, Step

ARENA = "%arena"


class PlanText:
    """The module of stage "plan": what all of its functions share."""

    def __init__(self, layout: Layout, known: Mapping[str, ir.OpView], arena_bytes: int) -> None:
        self.layout, self.known, self.arena_bytes = layout, known, max(arena_bytes, 64)
        self.writer = Writer()
        self.constants: dict[int, str] = {}
        self.declared: dict[str, str] = {}

    def text(self, kernels: list[str]) -> str:
        """The whole module; `kernels` are its kernels' names."""
        frame, parameters = self._main()
        frame.write()
        return "\n".join(
            [
                'module attributes {keras.stage = "plan"} {',
                "module @kernels {",
                *(op_text(self.known[name]) for name in kernels),
                "}",
                "module @plan {",
                *self.declared.values(),
                f"func.func @main({', '.join(parameters)}) {{",
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
            elif isinstance(loop.loop, Scan):
                self._scan(number, step, loop.loop, loop)
            else:
                self._while(step, loop)
        self._finish()

    def part(self, part: Part, location: str = "") -> Memref:
        """A piece of a root's memory."""
        place, kind = self.layout.places[part.root], part.type
        if place.base != "arena":
            key = (place, part.start, kind)
            if key not in self.made:
                self.made[key] = self.views.piece(self.memory[place], part.start, kind, location)
            return self.made[key]
        return self.arena(place.index + part.start * kind.torch_dtype.itemsize, kind)

    def arena(self, start: int, kind: TensorType) -> Memref:
        """The arena's bytes from `start` on."""
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

    def _root(self, root: int, location: str = "") -> Memref:
        return self.part(Part(root, 0, self.layout.program.types[root]), location)

    def _launch(self, step: Step) -> None:
        inputs = [self.part(part, step.location) for part in step.inputs]
        operands = [*inputs, *(self._root(root, step.location) for root in step.results)]
        self.plan.declare(step, operands)
        kinds = ", ".join(item.text for item in operands)
        names = ", ".join(item.name for item in operands)
        self.writer.line(f"func.call @{step.callee}({names}) : ({kinds}) -> () {step.location}")

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

    def _scan(self, number: int, step: Step, loop: Scan, found: LoopLayout) -> None:
        """An scf.for; carries that change places are its iteration arguments."""
        starts = [self.part(part, step.location) for part in step.inputs]
        results = [self._root(root, step.location) for root in step.results]
        memory: dict[Place, Memref] = {}
        moving: list[tuple[Memref, Memref]] = []  # the value inside, the first one

        def move(place: Place, first: Memref) -> None:
            first = self.views.movable(first)
            memory[place] = Memref(self.writer.fresh(), first.type, None)
            moving.append((memory[place], first))

        for i, carry in enumerate(found.carries):
            here = Place("argument", i)
            if carry.kind == "stack":
                move(here, starts[i])
            elif carry.kind == "swap":
                second = self.arena(carry.index, results[i].type)
                # The last iteration writes where the result is wanted.
                even = loop.length % 2 == 0
                pair = (results[i], second) if even else (second, results[i])
                self._start(step, i, starts[i], pair[0], same=even)
                move(here, pair[0])
                move(Place("next", i), pair[1])
            else:
                self._start(step, i, starts[i], results[i], same=True)
                memory[here] = results[i]
        names = self._open_for(loop, step, moving)
        index = self._place(loop, names[-1])
        first, last = loop.carries, loop.carries + loop.scanned
        for i, given in enumerate(starts[first:], first):
            at = self.views.place(given, index, step.location) if i < last else given
            memory[Place("argument", i)] = at
        for k, stacked in enumerate(results[first:]):
            memory[Place("output", k)] = self.views.place(stacked, index, step.location)
        Frame(self.plan, found.functions[loop.body], memory, self).write()
        self._close_for(step, found, memory)
        self._collect(number, step, found, names)

    def _start(self, step: Step, i: int, start: Memref, buffer: Memref, *, same: bool) -> None:
        """Copies a carry's first value into its buffer, unless the buffer (`same`: the result's) is
        where it lies.
        """
        place = self.layout.places[step.results[i]]
        if not (same and self.layout.is_at(step.inputs[i], place)):
            self.views.copy(start, buffer)

    def _open_for(self, loop: Scan, step: Step, moving: list[tuple[Memref, Memref]]) -> list[str]:
        """The loop's first line; the names of what it returns, and of its index."""
        results, index = [self.writer.fresh() for _ in moving], self.writer.fresh()
        zero, one, end = map(self.plan.constant, (0, 1, loop.length))
        head = f"scf.for {index} = {zero} to {end} step {one}"
        if moving:
            pairs = ", ".join(f"{inside.name} = {first.name}" for inside, first in moving)
            kinds = ", ".join(inside.text for inside, _ in moving)
            head = f"{', '.join(results)} = {head} iter_args({pairs}) -> ({kinds})"
        self.writer.line(f"{head} {{")
        return [*results, index]

    def _place(self, loop: Scan, index: str) -> str:
        """The place of an iteration in the scanned tensors."""
        if not loop.reverse:
            return index
        place, last = self.writer.fresh(), self.plan.constant(loop.length - 1)
        self.writer.line(f"{place} = arith.subi {last}, {index} : index")
        return place

    def _close_for(self, step: Step, found: LoopLayout, memory: dict[Place, Memref]) -> None:
        handed = []
        for i, carry in enumerate(found.carries):
            if carry.kind == "stack":
                stacked = memory[Place("output", carry.index)]
                handed.append(self.views.reshape(stacked, memory[Place("argument", i)].type.shape))
            elif carry.kind == "swap":
                handed += [memory[Place("next", i)], memory[Place("argument", i)]]
        if handed:
            names = ", ".join(item.name for item in handed)
            self.writer.line(f"scf.yield {names} : {', '.join(item.text for item in handed)}")
        self.writer.line(f"}} {step.location}")

    def _collect(self, number: int, step: Step, found: LoopLayout, names: list[str]) -> None:
        """Copies the last values of stacked carries out, for whom they are read."""
        position = 0
        for i, carry in enumerate(found.carries):
            root = step.results[i]
            if carry.kind == "stack" and root in self.layout.program.last_use:
                target = self._root(root)
                self.views.copy(Memref(names[position], target.type, None), target)
            position += {"place": 0, "stack": 1, "swap": 2}[carry.kind]

    def _while(self, step: Step, found: LoopLayout) -> None:
        """An scf.while; the carries stay where they are."""
        starts = [self.part(part, step.location) for part in step.inputs]
        results = [self._root(root, step.location) for root in step.results]
        memory = {Place("argument", i): memref for i, memref in enumerate(starts)}
        for i, result in enumerate(results):
            self._start(step, i, starts[i], result, same=True)
            memory[Place("argument", i)] = result
        condition, body = (found.functions[name] for name in found.loop.functions)
        flag, truth = self.arena(found.flag, TensorType((), "i1")), self.writer.fresh()
        self.writer.line("scf.while : () -> () {")
        Frame(self.plan, condition, memory | {Place("output", 0): flag}, self).write()
        self.writer.line(f"{truth} = memref.load {flag.name}[] : {flag.text}")
        self.writer.line(f"scf.condition({truth})")
        self.writer.line("} do {")
        Frame(self.plan, body, memory, self).write()
        self.writer.line("scf.yield")
        self.writer.line(f"}} {step.location}")
