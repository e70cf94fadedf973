"""A function of a CPU kernel while it is written: pointers, indices, what is already computed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ..lookups import Lookup
from ..region import Region, Stage
from . import body as cpu_body
from .layout import Access, Layout
from .text import Code


@dataclass
class Frame:
    """What a function's loops share.

    Attributes:
        code, region, layout, bodies: where it writes, what, over which loops, with which helpers.
        pointers: (base, index) of an Access -> the address of its first element.
        saved: stage -> the scratch access that holds its values for later phases.
    """

    code: Code
    region: Region
    layout: Layout
    bodies: cpu_body.BodyWriter
    pointers: dict[tuple[str, int], str] = field(default_factory=dict)
    saved: dict[int, Access] = field(default_factory=dict)

    def load_pointers(self, table: str) -> None:
        """Reads every argument's and output's address from the table: arguments, then outputs."""
        counts = ("argument", len(self.region.arguments)), ("output", len(self.region.results))
        slots = [(base, index) for base, count in counts for index in range(count)]
        for position, slot in enumerate(slots):
            entry = self.code.let(
                f"llvm.getelementptr {table}[{position}] : (!llvm.ptr) -> !llvm.ptr, !llvm.ptr"
            )
            self.pointers[slot] = self.code.let(f"llvm.load {entry} : !llvm.ptr -> !llvm.ptr")

    def reads(self, stages: Iterable[int]) -> list[Access]:
        """The arguments' accesses that stages read, each once."""
        found = (
            access for index in stages for access in self.layout.reads[index] if access is not None
        )
        return list(dict.fromkeys(found))

    def scope(self, wanted: Iterable[Access]) -> Scope:
        """The outermost scope; values that vary along no loop are loaded here."""
        scope = Scope(self, {}, frozenset(), {}, {}, {})
        scope.load_ready(wanted)
        return scope


@dataclass
class Scope:
    """One place in a loop nest.

    Attributes:
        indices: loop -> its index here.
        complete: the loops whose index is final (a blocked loop's is first the block's start).
        offsets, loads: access -> elements from its base so far; its value, once its loops are
            complete.
        values: stage -> its value here.
    """

    frame: Frame
    indices: dict[int, str]
    complete: frozenset[int]
    offsets: dict[Access, str]
    loads: dict[Access, str]
    values: dict[int, str]

    def enter(
        self, loop: int, index: str, wanted: Iterable[Access], *, partial: bool = False
    ) -> Scope:
        """The scope inside `loop`: addresses move on, what is now fixed is loaded once, here."""
        code = self.frame.code
        inner = Scope(
            self.frame,
            dict(self.indices),
            self.complete if partial else self.complete | {loop},
            dict(self.offsets),
            dict(self.loads),
            dict(self.values),
        )
        inner.indices[loop] = code.add(self.indices[loop], index) if loop in self.indices else index
        for access in wanted:
            if access.strides[loop]:
                step = code.mul(index, access.strides[loop])
                before = self.offsets.get(access)
                inner.offsets[access] = code.add(before, step) if before else step
        inner.load_ready(wanted)
        return inner

    def enter_unit(self, loops: Sequence[int], unit: str, wanted: Sequence[Access]) -> Scope:
        """The scope at one unit: its number split into the indices of `loops`, the last fastest."""
        code, layout, scope = self.frame.code, self.frame.layout, self
        for position, loop in enumerate(loops):
            below = layout.extent(loops[position + 1 :])
            index = (
                code.let(f"arith.divui {unit}, {code.integer(below)} : i64") if below > 1 else unit
            )
            if position:
                index = code.let(
                    f"arith.remui {index}, {code.integer(layout.dims[loop].extent)} : i64"
                )
            scope = scope.enter(loop, index, wanted)
        return scope

    def load_ready(self, wanted: Iterable[Access]) -> None:
        for access in wanted:
            moving = {loop for loop, stride in enumerate(access.strides) if stride}
            if access.base != "output" and access not in self.loads and moving <= self.complete:
                self.loads[access] = cpu_body.load(
                    self.frame.code, self._address(access), access.dtype
                )

    def store(self, access: Access, value: str) -> None:
        cpu_body.store(self.frame.code, value, self._address(access), access.dtype)

    def with_values(self, values: Mapping[int, str]) -> Scope:
        self.values.update(values)
        return self

    def evaluate(self, index: int) -> str:
        """The value of a stage here. Reductions must already have theirs."""
        if index not in self.values:
            saved = self.frame.saved.get(index)
            if saved is not None and saved in self.loads:
                self.values[index] = self.loads[saved]
            else:
                self.values[index] = self.point(index)
        return self.values[index]

    def point(self, index: int) -> str:
        """What a stage's body gives at this point: the value, or for a reduction what it folds."""
        stage = self.frame.region.stages[index]
        accesses = self.frame.layout.reads[index]
        inputs = [
            self.evaluate(read.index) if access is None else self.loads[access]
            for read, access in zip(stage.reads, accesses, strict=True)
        ]
        return self.frame.bodies.write(self.frame.code, stage, inputs, self)

    def look_up(self, lookup: Lookup, places: Sequence[str]) -> str:
        """The element of an argument at these indices, one an axis."""
        code, kind = self.frame.code, self.frame.region.arguments[lookup.argument]
        offset, stride = "", 1
        for place, extent in zip(reversed(places), reversed(kind.shape), strict=True):
            step = code.mul(place, stride)
            offset = code.add(offset, step) if offset else step
            stride *= extent
        pointer = self.frame.pointers["argument", lookup.argument]
        stored = cpu_body.stored_kind(kind.dtype)
        address = code.element(pointer, offset or code.integer(0), stored)
        return cpu_body.load(code, address, kind.dtype)

    def domain_index(self, dim: int) -> str:
        """The index along a dim of the domain, from that of the loop it was merged into."""
        code, layout = self.frame.code, self.frame.layout
        origin = layout.origins[dim]
        if origin is None:
            return code.integer(0)
        loop, step = origin
        index = self.indices[loop]
        if step > 1:
            index = code.let(f"arith.divui {index}, {code.integer(step)} : i64")
        extent = (self.frame.region.parallel + self.frame.region.reduction)[dim]
        if extent * step != layout.dims[loop].extent:
            index = code.let(f"arith.remui {index}, {code.integer(extent)} : i64")
        return index

    def _address(self, access: Access) -> str:
        code = self.frame.code
        offset = self.offsets.get(access, code.integer(0))
        if access.start:
            offset = code.add(offset, code.integer(access.start))
        pointer = self.frame.pointers[access.base, access.index]
        return code.element(pointer, offset, cpu_body.stored_kind(access.dtype))


@dataclass(frozen=True)
class Phases:
    """In which pass over the reduced loops each stage is first known, and what passes compute.

    A reduction's result is known only after its pass, so whatever depends on it belongs to a later
    one. Every full output is stored in the last pass, and row outputs after it: then an output may
    share memory with an argument that is read only at its own element.

    Attributes:
        levels: stage -> the pass that can compute it (the pass after which, for a reduction, is
            +1).
        last: the last pass.
        needed: the stages that outputs depend on.
    """

    region: Region
    levels: tuple[int, ...]
    last: int
    needed: tuple[int, ...]

    @classmethod
    def of(cls, region: Region) -> Phases:
        levels: list[int] = []
        for stage in region.stages:
            inner = [read.index for read in stage.reads if read.source == "stage"]
            levels.append(
                max((levels[i] + (region.stages[i].kind == "reduce") for i in inner), default=0)
            )
        needed = _closure(region, region.outputs, stop=())
        passes = [
            levels[i]
            for i in needed
            if region.stages[i].kind == "reduce"
            or (i in region.outputs and region.stages[i].kind == "full")
        ]
        return cls(region, tuple(levels), max(passes, default=0), needed)

    def folded(self, level: int) -> tuple[int, ...]:
        """The reductions of a pass."""
        return tuple(
            i for i in self.needed if self._kind(i) == "reduce" and self.levels[i] == level
        )

    def rows(self, level: int) -> tuple[int, ...]:
        """The row stages known once `level` passes are over."""
        return tuple(i for i in self.needed if self._kind(i) == "row" and self.levels[i] == level)

    def stored(self, level: int) -> tuple[int, ...]:
        """The positions of the outputs that a pass stores."""
        if level != self.last:
            return ()
        return tuple(k for k, i in enumerate(self.region.outputs) if self._kind(i) == "full")

    def row_outputs(self) -> tuple[int, ...]:
        """The positions of the outputs that are stored after all passes."""
        return tuple(k for k, i in enumerate(self.region.outputs) if self._kind(i) != "full")

    def evaluated(self, level: int, saved: Sequence[int] = ()) -> tuple[int, ...]:
        """The stages whose bodies a pass runs at each point, those in `saved` being at hand."""
        roots = self.folded(level) + tuple(self.region.outputs[k] for k in self.stored(level))
        ready = tuple(i for i in self.needed if self._kind(i) == "row") + tuple(
            i for i in self.needed if self._kind(i) == "reduce" and self.levels[i] < level
        )
        return _closure(self.region, roots, stop=(*ready, *saved))

    def stage(self, index: int) -> Stage:
        return self.region.stages[index]

    def folding(self, index: int) -> tuple[str, str]:
        """What a reduction folds with, and the element type it does that in."""
        stage = self.region.stages[index]
        return stage.combiner, stage.type.dtype

    def _kind(self, index: int) -> str:
        return self.region.stages[index].kind


def _closure(region: Region, roots: Iterable[int], stop: Sequence[int]) -> tuple[int, ...]:
    """The stages that `roots` need, themselves included, in order; `stop` are not looked into."""
    found: set[int] = set()
    pending = [i for i in roots if i not in stop]
    while pending:
        index = pending.pop()
        if index not in found:
            found.add(index)
            inner = (read.index for read in region.stages[index].reads if read.source == "stage")
            pending += [i for i in inner if i not in stop]
    return tuple(sorted(found))
