"""plan-buffers: every value gets its memory, and `@main` becomes a list of launches over it.

Values that die share one arena. A result is written where the caller wants it by the kernel that
makes it, and the new value of a donated argument into the argument itself, when nothing reads the
old value afterwards and the kernel reads each old element only to make the new one in its place.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import ClassVar

from mlir import ir

from ..arena import Arena
from ..linalg.write import Writer, argument_text, op_text, reshape
from ..loops import donations
from ..mlir import TensorType, functions, parse
from ..region import Region, kernel_kind, read_instances, read_region
from .base import Pass, PassError


@dataclass(frozen=True)
class _Part:
    """A contiguous piece of a root value (an argument's number or a call result's), from an
    element on.
    """

    root: int
    start: int
    type: TensorType


@dataclass
class _Step:
    kernel: str
    inputs: list[_Part]
    results: list[int]
    location: str


@dataclass(frozen=True)
class _Place:
    """Memory of a root: argument i, output i, or the arena from a byte on."""

    base: str
    index: int


@dataclass
class _Program:
    """`@main` of stage "regions" as launches over root values."""

    types: list[TensorType]
    arguments: int
    steps: list[_Step] = field(default_factory=list)
    results: list[_Part] = field(default_factory=list)

    def last_use(self) -> dict[int, int]:
        """Root -> the last step that reads it; len(steps) for what `@main` returns."""
        last: dict[int, int] = {}
        for number, step in enumerate(self.steps):
            last.update({part.root: number for part in step.inputs})
        last.update({part.root: len(self.steps) for part in self.results})
        return last


@dataclass(frozen=True)
class PlanBuffers(Pass):
    name: ClassVar[str] = "plan-buffers"
    takes: ClassVar[str] = "regions"
    gives: ClassVar[str] = "plan"

    def run(self, module: ir.Module) -> ir.Module:
        self.check_stage(module)
        known = functions(module)
        main = known.pop("main")
        program = _read(main)
        donated = donations({**known, "main": main})["main"]
        places, arena = _places(program, donated, known)
        return parse(_PlanWriter(program, donated, places, arena, known, main).text())


def _read(main: ir.OpView) -> _Program:
    block = main.regions[0].blocks[0]
    types = [TensorType.of(argument) for argument in block.arguments]
    program = _Program(types, len(types))
    parts: dict[ir.Value, _Part] = {a: _Part(i, 0, types[i]) for i, a in enumerate(block.arguments)}
    for view in block.operations:
        op = view.operation
        operands = [parts[value] for value in op.operands]
        if op.name == "func.call":
            results = []
            for result in op.results:
                results.append(len(types))
                types.append(TensorType.of(result))
                parts[result] = _Part(results[-1], 0, types[-1])
            callee = ir.FlatSymbolRefAttr(op.attributes["callee"]).value
            program.steps.append(_Step(callee, operands, results, str(op.location)))
        elif op.name in ("tensor.collapse_shape", "tensor.expand_shape"):
            kind = TensorType.of(op.results[0])
            parts[op.results[0]] = _Part(operands[0].root, operands[0].start, kind)
        elif op.name == "tensor.extract_slice":
            parts[op.results[0]] = _sliced(op, operands[0])
        elif op.name == "func.return":
            program.results = operands
        else:
            raise PassError(f"plan-buffers: {op.name} cannot stand in @main of stage regions")
    return program


def _sliced(op: ir.Operation, part: _Part) -> _Part:
    """The piece of memory that a slice names.

    Raises:
        PassError: the slice is not one piece.
    """
    offsets, sizes, strides = (
        list(ir.DenseI64ArrayAttr(op.attributes[f"static_{name}"]))
        for name in ("offsets", "sizes", "strides")
    )
    shape = part.type.shape
    cut = [i for i, extent in enumerate(shape) if sizes[i] != extent]
    outer = cut[-1] if cut else 0
    if any(size != 1 for size in sizes[:outer]) or any(stride != 1 for stride in strides):
        raise PassError(
            f"plan-buffers: a slice of {sizes} from {part.type} is not one piece of memory"
        )
    start, step = 0, 1
    for extent, offset in zip(reversed(shape), reversed(offsets), strict=True):
        start, step = start + offset * step, step * extent
    return _Part(part.root, part.start + start, TensorType.of(op.results[0]))


def _places(
    program: _Program, donated: dict[int, int], kernels: dict[str, ir.OpView]
) -> tuple[dict[int, _Place], Arena]:
    """Where each root lives: an output or argument where that is safe, else the arena."""
    places = {i: _Place("argument", i) for i in range(program.arguments)}
    owner = {result: argument for argument, result in donated.items()}
    maker = {root: (i, step) for i, step in enumerate(program.steps) for root in step.results}
    outputs = iter(range(len(program.results)))
    last = program.last_use()
    regions = cache(lambda kernel: _regions(kernels[kernel]))
    for k, part in enumerate(program.results):
        output = None if k in owner else next(outputs)
        whole = part.root in maker and part.type.size == program.types[part.root].size
        if not whole or part.root in places:
            continue
        if output is not None:
            places[part.root] = _Place("output", output)
        elif last.get(owner[k], -1) <= maker[part.root][0] and _safe_in_place(
            program, owner[k], part.root, *maker[part.root], regions
        ):
            places[part.root] = _Place("argument", owner[k])
    arena = Arena()
    for number, step in enumerate(program.steps):
        fresh = [root for root in step.results if root not in places]
        for root in fresh:
            places[root] = _Place("arena", arena.take(program.types[root].nbytes))
        read = {part.root for part in step.inputs}
        for root in dict.fromkeys([*fresh, *sorted(read)]):
            if last.get(root, number) == number and places[root].base == "arena":
                arena.give(places[root].index, program.types[root].nbytes)
    return places, arena


def _safe_in_place(
    program: _Program,
    argument: int,
    root: int,
    number: int,
    step: _Step,
    regions: Callable[[str], list[Region]],
) -> bool:
    """Whether step `number` may write `root` over `argument`."""
    reads = [i for i, part in enumerate(step.inputs) if part.root == argument]
    if not reads:
        return True
    whole = all(step.inputs[i].type.size == program.types[argument].size for i in reads)
    return (
        whole
        and len(reads) == 1
        and _elementwise(regions(step.kernel), reads[0], step.results.index(root))
    )


def _elementwise(regions: list[Region], argument: int, result: int) -> bool:
    """Whether a kernel reads element i of the argument only while it makes element i of the result.

    No later stage may read the argument, since a stage may store what it computes at once.
    """
    if not regions:
        return False
    i, argument = divmod(argument, len(regions[0].arguments))
    j, result = divmod(result, len(regions[0].outputs))
    region = regions[i]
    writer = region.outputs[result]
    if i != j or region.stages[writer].kind not in (("row",) if region.reduction else ("full",)):
        return False
    for number, stage in enumerate(region.stages):
        for read in stage.reads:
            if (read.source, read.index) != ("argument", argument):
                continue
            dims = tuple(dim for dim in read.dims if dim is not None)
            own_place = dims == tuple(range(len(region.parallel)))
            if number > writer or stage.kind != region.stages[writer].kind or not own_place:
                return False
    return True


def _regions(kernel: ir.OpView) -> list[Region]:
    """The instances of a kernel of loops; none for a template."""
    if kernel_kind(kernel) == "multi":
        return read_instances(kernel)
    return [read_region(kernel)] if kernel_kind(kernel) == "loop" else []


class _PlanWriter:
    """Writes the module of stage "plan"."""

    def __init__(
        self,
        program: _Program,
        donated: dict[int, int],
        places: dict[int, _Place],
        arena: Arena,
        kernels: dict[str, ir.OpView],
        main: ir.OpView,
    ) -> None:
        self.program, self.donated, self.places = program, donated, places
        self.kernels, self.main = kernels, main
        # Results that are old values of arguments which the step overwrites: copied aside first.
        self.asides = {
            k: arena.take(program.results[k].type.nbytes)
            for argument, k in donated.items()
            if self._is_other_state(program.results[k], argument)
        }
        self.arena_bytes = max(arena.size, 64)
        self.writer = Writer()
        self.offsets: dict[int, str] = {}
        self.made: dict[tuple[_Place, int, TensorType], tuple[str, str]] = {}
        self.declared: dict[str, str] = {}
        self.outputs = [k for k in range(len(program.results)) if k not in donated.values()]

    def text(self) -> str:
        for step in self.program.steps:
            self._launch(step)
        self._finish()
        inside = [op_text(kernel) for kernel in self.kernels.values() if kernel.regions[0].blocks]
        return "\n".join(
            [
                'module attributes {keras.stage = "plan"} {',
                "module @kernels {",
                *inside,
                "}",
                "module @plan {",
                *self.declared.values(),
                f"func.func @main({', '.join(self._parameters())}) {{",
                *(
                    f"{name} = arith.constant {offset} : index"
                    for offset, name in self.offsets.items()
                ),
                *self.writer.lines,
                "return",
                "}",
                "}",
                "}",
            ]
        )

    def _parameters(self) -> list[str]:
        parameters = []
        for i, attributes in enumerate(argument_text(self.main)):
            named = attributes or f'{{keras.name = "argument{i}"}}'
            parameters.append(f"%argument{i}: {_memref(self.program.types[i])} {named}")
        parameters += [
            f"%output{i}: {_memref(self.program.results[k].type)}"
            for i, k in enumerate(self.outputs)
        ]
        return [*parameters, f"%arena: memref<{self.arena_bytes}xi8>"]

    def _launch(self, step: _Step) -> None:
        parts = [*step.inputs, *(_Part(root, 0, self.program.types[root]) for root in step.results)]
        named = [self._part(part, step.location) for part in parts]
        self._declare(step, [kind for _, kind in named])
        kinds = ", ".join(kind for _, kind in named)
        operands = ", ".join(name for name, _ in named)
        self.writer.line(f"func.call @{step.kernel}({operands}) : ({kinds}) -> () {step.location}")

    def _declare(self, step: _Step, kinds: list[str]) -> None:
        """A kernel is launched once, an extern maybe often: then operands' layouts must agree."""
        kernel = self.kernels[step.kernel].operation
        extern = (
            f", keras.extern = {kernel.attributes['keras.extern']}"
            if "keras.extern" in kernel.attributes
            else ""
        )
        text = (
            f"func.func private @{step.kernel}({', '.join(kinds)}) "
            f"attributes {{keras.outputs = {len(step.results)} : i64{extern}}}"
        )
        if self.declared.setdefault(step.kernel, text) != text:
            raise PassError(
                f"plan-buffers: @{step.kernel} is called on operands of different layouts"
            )

    def _part(self, part: _Part, location: str) -> tuple[str, str]:
        """SSA name and memref type of a piece of a root's memory."""
        place, kind = self.places[part.root], part.type
        key = (place, part.start, kind)
        if place.base == "arena":
            start = place.index + part.start * max(1, kind.nbytes // max(1, kind.size))
            key = (_Place("arena", start), 0, kind)
        if key not in self.made:
            self.made[key] = self._view(part, key[0], location)
        return self.made[key]

    def _view(self, part: _Part, place: _Place, location: str) -> tuple[str, str]:
        kind, spelled = part.type, _memref(part.type)
        if place.base == "arena":
            return self._arena_view(place.index, kind)
        base = f"%{place.base}{place.index}"
        declared = self.program.types[place.index]
        if place.base == "output":
            declared = self.program.results[self.outputs[place.index]].type
        if kind.size == declared.size:
            if kind.shape == declared.shape:
                return base, spelled
            return reshape(self.writer, (base, declared), kind.shape, location, "memref"), spelled
        strides = _strides(kind.shape)
        layout = f"memref<{str(kind)[7:-1]}, strided<{strides}, offset: {part.start}>>"
        name = self.writer.fresh()
        self.writer.line(
            f"{name} = memref.reinterpret_cast {base} to offset: [{part.start}], "
            f"sizes: {list(kind.shape)}, strides: {strides} : {_memref(declared)} to {layout}"
        )
        return name, layout

    def _is_other_state(self, part: _Part, argument: int) -> bool:
        place = self.places[part.root]
        return (
            place.base == "argument"
            and place.index in self.donated
            and (place.index != argument or part.start != 0)
        )

    def _finish(self) -> None:
        """Copies what no kernel could write in place: outputs first, then arguments."""
        owner = {result: argument for argument, result in self.donated.items()}
        late: list[tuple[tuple[str, str], tuple[str, str]]] = []
        for k, part in enumerate(self.program.results):
            wanted = (
                _Place("argument", owner[k])
                if k in owner
                else _Place("output", self.outputs.index(k))
            )
            if self.places[part.root] == wanted and part.start == 0:
                continue
            source, target = (
                self._part(part, ""),
                (f"%{wanted.base}{wanted.index}", _memref(part.type)),
            )
            if k in self.asides:
                aside = self._arena_view(self.asides[k], part.type)
                self._copy(source, aside)
                source = aside
            if wanted.base == "output":
                self._copy(source, target)
            else:
                late.append((source, target))
        for source, target in late:
            self._copy(source, target)

    def _arena_view(self, start: int, kind: TensorType) -> tuple[str, str]:
        name, offset = self.writer.fresh(), self.offsets.setdefault(start, f"%c{start}")
        spelled = _memref(kind)
        self.writer.line(
            f"{name} = memref.view %arena[{offset}][] : memref<{self.arena_bytes}xi8> to {spelled}"
        )
        return name, spelled

    def _copy(self, source: tuple[str, str], target: tuple[str, str]) -> None:
        self.writer.line(f"memref.copy {source[0]}, {target[0]} : {source[1]} to {target[1]}")


def _memref(kind: TensorType) -> str:
    return str(kind).replace("tensor", "memref", 1)


def _strides(shape: tuple[int, ...]) -> list[int]:
    strides: list[int] = []
    step = 1
    for extent in reversed(shape):
        strides.insert(0, step)
        step *= extent
    return strides
