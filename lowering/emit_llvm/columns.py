"""Reductions over the outer dims of memory: rows stream by, accumulators of columns stay in L1."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager

from . import body as cpu_body
from .scope import Frame, Phases, Scope

# Columns whose accumulators stay in L1 beside the rows that stream by.
COLUMN_BLOCK = 512
# Longer sums go through partial sums: it bounds the rounding error and costs under 1%.
_ROW_BLOCK = 128
# So few columns fill no vectors; as many rows of them as _FOLD are added up side by side.
_NARROW, _FOLD = 32, 16


def write_columns(frame: Frame, low: str, high: str) -> None:
    """Block of columns by block: rows stream by, each added to accumulators in L1."""
    code, layout = frame.code, frame.layout
    *outer, inner = layout.parallel
    extent = layout.dims[inner].extent
    columns = _Columns(frame, inner)
    with code.loop(low, high) as unit:
        line, block = unit, code.integer(0)
        if extent > COLUMN_BLOCK:
            blocks = code.blocks(extent, COLUMN_BLOCK)
            line = code.let(f"arith.divui {unit}, {blocks} : i64")
            block = code.let(f"arith.remui {unit}, {blocks} : i64")
        scope = frame.scope(columns.wanted).enter_unit(outer, line, columns.wanted)
        columns.write(scope, code.mul(block, COLUMN_BLOCK))


class _Columns:
    """The passes over one block of columns. Every result of the block has a buffer in L1."""

    def __init__(self, frame: Frame, inner: int) -> None:
        self.frame, self.code, self.inner = frame, frame.code, inner
        self.phases = Phases.of(frame.region)
        self.wanted = [*frame.reads(self.phases.needed), *frame.layout.writes]
        self.extent = frame.layout.dims[inner].extent
        self.width = min(self.extent, COLUMN_BLOCK)
        lasting = [i for i in self.phases.needed if self.phases.stage(i).kind != "full"]
        folded = [i for i in lasting if self.phases.stage(i).kind == "reduce"]
        self.values = {index: self._buffer(index, self.width) for index in lasting}
        self.rows_a_line = _FOLD if self._narrow() else 1
        split = self._blocked() or self.rows_a_line > 1
        self.partials = {i: self._buffer(i, self._wide()) for i in folded} if split else {}

    def write(self, scope: Scope, first: str) -> None:
        code = self.code
        left = code.let(f"arith.subi {code.integer(self.extent)}, {first} : i64")
        self.count = code.let(f"arith.minsi {left}, {code.integer(self.width)} : i64")
        block = scope.enter(self.inner, first, self.wanted, partial=True)
        self._rows(block, 0)
        for level in range(self.phases.last + 1):
            self._pass(block, level)
            self._rows(block, level + 1)
        self._outputs(block)

    def _pass(self, block: Scope, level: int) -> None:
        folded, stored = self.phases.folded(level), self.phases.stored(level)
        if not folded and not stored:
            return
        code, loops = self.code, self.frame.layout.reduction
        self._fill(self.values, folded)
        if self.rows_a_line > 1:
            self._narrow_pass(block, folded)
            return
        if not self._blocked():
            self._sweep(block, loops, level, self.values)
            return
        end = code.integer(self.frame.layout.dims[loops[0]].extent)
        with code.loop(code.integer(0), end, step=_ROW_BLOCK) as low:
            high = code.let(f"arith.minsi {code.add(low, code.integer(_ROW_BLOCK))}, {end} : i64")
            self._fill(self.partials, folded)
            with code.loop(low, high) as row:
                inside = block.enter(loops[0], row, self.wanted)
                self._sweep(inside, loops[1:], level, self.partials)
            with self._line() as column:
                for index in folded:
                    self._add(self.values, index, column, self._get(self.partials, index, column))

    def _wide(self) -> int:
        """How many columns lie side by side in a line."""
        return self.width * self.rows_a_line

    def _narrow(self) -> bool:
        """Whether the one pass reads nothing but rows of few columns that lie end to end."""
        loops = self.frame.layout.reduction
        if self.phases.last or self.phases.stored(0) or len(loops) != 1 or self.extent > _NARROW:
            return False
        stages = self.phases.evaluated(0)
        bodies = [self.phases.stage(index) for index in stages]
        inside = all(
            read.source == "argument" or read.index in stages for b in bodies for read in b.reads
        )
        dense = all(
            access.strides[self.inner] == 1 and access.strides[loops[0]] == self.extent
            for access in self.frame.reads(stages)
        )
        enough = self.frame.layout.dims[loops[0]].extent >= 4 * _FOLD
        return inside and dense and enough and not any(map(cpu_body.uses_index, bodies))

    def _narrow_pass(self, block: Scope, folded: Sequence[int]) -> None:
        """Adds lines of several rows, then the rows of the sums; a shorter line comes last."""
        code, (loop,) = self.code, self.frame.layout.reduction
        rows, wide = code.integer(self.frame.layout.dims[loop].extent), code.integer(self._wide())
        left = code.let(f"arith.remui {rows}, {code.integer(self.rows_a_line)} : i64")
        whole = code.let(f"arith.subi {rows}, {left} : i64")
        self._fill(self.partials, folded, wide)
        with code.loop(code.integer(0), whole, step=self.rows_a_line) as row:
            self._add_line(block.enter(loop, row, self.wanted), wide)
        self._add_line(block.enter(loop, whole, self.wanted), code.mul(left, self.extent))
        with code.loop(code.integer(0), code.integer(self.rows_a_line)) as row:
            first = code.mul(row, self.extent)
            with self._line() as column:
                for index in folded:
                    part = self._get(self.partials, index, code.add(first, column))
                    self._add(self.values, index, column, part)

    def _add_line(self, scope: Scope, width: str) -> None:
        with self._line(width) as column:
            point = self._point(scope, column, self.phases.evaluated(0))
            for index in self.phases.folded(0):
                self._add(self.partials, index, column, point.point(index))

    def _sweep(
        self, scope: Scope, loops: Sequence[int], level: int, totals: dict[int, str]
    ) -> None:
        if loops:
            end = self.code.integer(self.frame.layout.dims[loops[0]].extent)
            with self.code.loop(self.code.integer(0), end) as row:
                self._sweep(scope.enter(loops[0], row, self.wanted), loops[1:], level, totals)
            return
        with self._line() as column:
            point = self._point(scope, column, self.phases.evaluated(level))
            for index in self.phases.folded(level):
                self._add(totals, index, column, point.point(index))
            for position in self.phases.stored(level):
                access = self.frame.layout.writes[position]
                point.store(access, point.evaluate(self.frame.region.outputs[position]))

    def _rows(self, block: Scope, level: int) -> None:
        """The row stages known after `level` passes."""
        stages = self.phases.rows(level)
        if not stages:
            return
        with self._line() as column:
            point = self._point(block, column, stages)
            for index in stages:
                self._put(self.values, index, column, point.evaluate(index))

    def _outputs(self, block: Scope) -> None:
        positions = self.phases.row_outputs()
        if not positions:
            return
        with self._line() as column:
            point = block.enter(
                self.inner, column, [self.frame.layout.writes[k] for k in positions]
            )
            for position in positions:
                value = self._get(self.values, self.frame.region.outputs[position], column)
                point.store(self.frame.layout.writes[position], value)

    def _point(self, scope: Scope, column: str, stages: Sequence[int]) -> Scope:
        """The scope at one column, with the results that `stages` read at hand."""
        point = scope.enter(
            self.inner, column, self.frame.reads(stages) + list(self.frame.layout.writes)
        )
        reads = (read for index in stages for read in self.phases.stage(index).reads)
        for index in dict.fromkeys(read.index for read in reads if read.source == "stage"):
            if index in self.values and index not in stages:
                point.values[index] = self._get(self.values, index, column)
        return point

    def _blocked(self) -> bool:
        loops = self.frame.layout.reduction
        return bool(loops) and self.frame.layout.dims[loops[0]].extent > 2 * _ROW_BLOCK

    def _line(self, width: str = "") -> AbstractContextManager[str]:
        return self.code.loop(self.code.integer(0), width or self.count, parallel=True)

    def _fill(self, buffers: dict[int, str], stages: Sequence[int], width: str = "") -> None:
        with self._line(width) as column:
            for index in stages:
                start = cpu_body.neutral(self.code, *self.phases.folding(index))
                self._put(buffers, index, column, start)

    def _add(self, buffers: dict[int, str], index: int, column: str, value: str) -> None:
        total = self._get(buffers, index, column)
        total = cpu_body.fold(self.code, *self.phases.folding(index), total, value)
        self._put(buffers, index, column, total)

    def _buffer(self, index: int, width: int) -> str:
        return self.code.stack(width, cpu_body.stored_kind(self.phases.stage(index).type.dtype))

    def _element(self, buffers: dict[int, str], index: int, column: str) -> tuple[str, str]:
        dtype = self.phases.stage(index).type.dtype
        return self.code.element(buffers[index], column, cpu_body.stored_kind(dtype)), dtype

    def _get(self, buffers: dict[int, str], index: int, column: str) -> str:
        return cpu_body.load(self.code, *self._element(buffers, index, column))

    def _put(self, buffers: dict[int, str], index: int, column: str, value: str) -> None:
        address, dtype = self._element(buffers, index, column)
        cpu_body.store(self.code, value, address, dtype)
