"""What is generated around a template's tiles: what makes its operands, the epilogue of its result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from .. import sizes
from ..errors import EmitError
from ..indexing import rename
from ..region import Read, Region, Stage
from ..templates import Prologue, TemplateKernel, columns_first
from .body import emit_body
from .function import FunctionBuilder
from .index import Coordinate
from .source import LANGUAGE_DTYPES, Value
from .tiling import Tiling


class TileBuilder(FunctionBuilder):
    """Writes a function over a tile of a tensor seen as a row-major matrix, given by `rows`, `cols`,
    `offset` and `mask` as kernels.launch.Epilogue has them.
    """

    parameters: tuple[str, ...] = ()

    def __init__(self, name: str, region: Region, arguments: Sequence[str], size: str) -> None:
        """`size` is where the function finds the symbolic size, if there is one."""
        super().__init__(name, region, Tiling(1, 0, 1), arguments)
        self.columns = region.parallel[-1] if len(region.parallel) > 1 else 1
        self.size, self.is_sized = size, False

    def _open_rows(self) -> None:
        self.row_mask, self.column_mask, self.row_name = "mask", "", "offset"
        for taken in self.parameters:
            self.names.fresh(taken)

    def pointer(self, buffer: str) -> str:
        return buffer

    def number(self, value: int) -> str:
        if sizes.is_symbolic(value):
            self.is_sized = True
            # Offsets may need 64 bits, which those of the kernel have then.
            cast = f"tl.cast({self.size}, offset.dtype)"
            self.once("size", False, lambda: self.line(f"size = {cast}", False))
        return super().number(value)

    def subscript(self, coordinate: Coordinate) -> tuple[str, int]:
        """Which of "offset", "rows" and "cols" a coordinate needs, and its divisor of it."""
        columns, inner = self.columns, coordinate.inner
        if columns > 1 and inner * coordinate.size <= columns and not coordinate.outermost:
            return "cols", inner
        if columns > 1 and sizes.divides(columns, inner):
            return "rows", inner // columns
        return "offset", inner

    def coordinate(self, coordinate: Coordinate) -> str:
        subscript, inner = self.subscript(coordinate)
        text = replace(coordinate, inner=inner).text(subscript, self.number)
        if subscript == "cols" and coordinate.size == self.columns and inner == 1:
            text = "cols"
        if text == subscript:
            return text
        dims = range(coordinate.first, coordinate.last + 1)
        stem = "d" + "_".join(str(dim) for dim in dims if self.domain.extents[dim] != 1)
        return self.once(coordinate, False, lambda: self.assign(stem, text, False))

    def load(
        self,
        buffer: str,
        dtype: str,
        coordinates: Sequence[Coordinate],
        stem: str,
        start: int = 0,
    ) -> Value:
        def make() -> Value:
            address = buffer + "".join(f" + {self.offset([c])}" for c in coordinates)
            if start:
                address += f" + {self.number(start)}"
            mask = self._mask_of(coordinates)
            text = f"tl.load({address}{f', mask={mask}' if mask else ''})"
            return Value(
                self.assign(stem, text, False), dtype, frozenset("p" if coordinates else "")
            )

        return self.once((buffer, tuple(coordinates), start), False, make)

    def _mask_of(self, coordinates: Sequence[Coordinate]) -> str:
        """A mask as small as the address: that of the columns, of the rows, or of the tile."""
        subscripts = {self.subscript(coordinate)[0] for coordinate in coordinates}
        if not subscripts:
            return ""
        if subscripts == {"cols"}:
            return f"cols < {self.number(self.columns)}"
        if subscripts == {"rows"}:
            return f"rows < {self.number(self.domain.rows // max(self.columns, 1))}"
        return "mask"

    def text(self) -> str:
        head = f"def {self.name}({', '.join(self.parameters)}):"
        return f"@triton.jit\n{head}\n{self.lines()}"


class PrologueBuilder(TileBuilder):
    """Writes what a template takes for the elements of an operand, as kernels.launch.Prologue has it."""

    parameters = ("ins", "rows", "cols", "offset", "mask", "first")

    def __init__(self, name: str, prologue: Prologue, keeps: bool) -> None:
        """`keeps` is whether it stores what it makes."""
        reads = [f"ins[{i}]" for i in range(len(prologue.arguments))]
        self.keeps = keeps
        super().__init__(name, prologue.region, reads, f"ins[{len(reads) + keeps}]")

    def subscript(self, coordinate: Coordinate) -> tuple[str, int]:
        """As for any tile; but what varies along rows takes the tile's shape, since its mask does."""
        subscript, inner = super().subscript(coordinate)
        return ("offset", coordinate.inner) if subscript == "rows" else (subscript, inner)

    def prologue(self) -> str:
        """The function."""
        (stage,) = self.region.outputs
        value = self.value(stage)
        zero = f"tl.full((), 0, {LANGUAGE_DTYPES[value.dtype]})"
        if self.keeps:
            address = f"ins[{len(self.arguments)}] + offset"
            self.write(f"tl.store({address}, {value.tensor()}, mask=mask & first)")
        self.write(f"return tl.where(mask, {value.tensor()}, {zero})")
        return self.text()


class EpilogueBuilder(TileBuilder):
    """Writes the epilogue of a template's kernel: what it stores of each tile of the result, and the
    column sums of each tile.

    Attributes:
        sums: the stages of the kernel's statistics that are such sums.
    """

    parameters = ("acc", "rows", "cols", "offset", "mask", "outs", "extras", "part")

    def __init__(self, name: str, parts: TemplateKernel) -> None:
        self.extras = [f"extras[{i}]" for i in range(len(parts.extras))]
        place = f"extras[{len(self.extras)}]"
        super().__init__(name, parts.epilogue, ["acc", *self.extras], place)
        self.result, self.statistics = parts.epilogue.arguments[0], parts.statistics
        stages = parts.statistics.stages if parts.statistics else ()
        self.sums = [i for i, stage in enumerate(stages) if stage.kind == "reduce"]

    def read(self, read: Read) -> Value:
        if read.source == "argument" and read.index == 0:
            if read.dims != tuple(range(len(self.region.parallel))):
                raise EmitError(f"{self.name}: an epilogue reads the template's result where it is")
            # Not yet rounded to the type the result would have in memory.
            wide = "f32" if self.result.dtype in ("f16", "bf16") else self.result.dtype
            return Value("acc", wide, frozenset("p"))
        return super().read(read)

    def epilogue(self, stored: Sequence[int]) -> str:
        """The function, storing these stages, or the tile for -1."""
        for place, index in enumerate(stored):
            value = Value("acc", self.result.dtype) if index < 0 else self.value(index)
            self.write(f"tl.store(outs[{place}] + offset, {value.tensor()}, mask=mask)")
        for place, index in enumerate(self.sums, len(stored)):
            assert self.statistics is not None  # it has these stages
            value = self._summed(self.statistics, self.statistics.stages[index])
            total = self.assign("column_sum", f"reduce_columns({value.tensor()}, mask)", False)
            columns = self.number(self.columns)
            address = f"outs[{place}] + part * {columns} + cols"
            self.write(f"tl.store({address}, {total}, mask=cols < {columns})")
        return self.text()

    def _summed(self, statistics: Region, stage: Stage) -> Value:
        """What a stage over the columns computes at the points of the tile."""
        order = columns_first(self.region.parallel)
        inputs = [self._read_summed(statistics, read, order) for read in stage.reads]
        assign = partial(self.assign, varies=False)
        return emit_body(
            stage,
            inputs,
            lambda dim: self.index(order[dim]),
            partial(self.look_up, assign),
            assign,
            self.number,
        )

    def _read_summed(self, statistics: Region, read: Read, order: tuple[int, ...]) -> Value:
        if read.source == "stage":
            return self._summed(statistics, statistics.stages[read.index])
        dims, made = rename(read.dims, order), len(self.region.stages)
        here = dims == tuple(range(len(self.region.parallel)))
        if read.index == 0:
            return self.read(Read("argument", 0, dims))
        if read.index <= made:
            if not here:
                raise EmitError(f"{self.name}: a sum reads a tile's values where they are made")
            return self.value(read.index - 1)
        return self.read(Read("argument", read.index - made, dims))
