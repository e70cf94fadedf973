"""The loop nests of CPU kernels: parallel, by rows, by columns.

Each writes the code of units low..high, where a unit is what threads may share out: an element or a line
of a parallel region, a row, a block of columns. `Nest.units` says how many there are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from . import cpu_body
from .cpu_layout import Access, Layout
from .cpu_scope import Frame, Phases, Scope
from .region import Region

# Sums longer than these go through partial sums: it bounds the rounding error and costs under 1%.
_FOLD_BLOCK = 4096
_ROW_BLOCK = 128
# Columns whose accumulators stay in L1 beside the rows that stream by.
_COLUMN_BLOCK = 512
# Rows of kept values: they fit L1/L2, and the stacks of OpenMP's threads.
_SCRATCH_BYTES = 32 * 1024
_SCRATCH_ROWS = 4


@dataclass(frozen=True)
class Nest:
    """A way through a region.

    Attributes:
        units: how many independent units there are.
        align: threads take multiples of so many.
        write: write(frame, low, high) emits the code of units low..high.
    """

    units: int
    align: int
    write: Callable[[Frame, str, str], None]


def nest_of(region: Region, layout: Layout) -> Nest:
    """The nest whose innermost loop runs along memory for most of the data."""
    if not region.reduction:
        flat = len(layout.dims) <= 1
        units = layout.extent(layout.parallel if flat else layout.parallel[:-1])
        return Nest(units, 64 if flat else 1, write_parallel)
    if _along(layout, layout.parallel) > _along(layout, layout.reduction):
        *outer, inner = layout.parallel
        blocks = -(-layout.dims[inner].extent // _COLUMN_BLOCK)
        return Nest(layout.extent(outer) * blocks, 1, _write_columns)
    return Nest(layout.extent(layout.parallel), 1, _write_rows)


def _along(layout: Layout, loops: Sequence[int]) -> int:
    """How many accesses over both kinds of loops move by one element along the last of `loops`."""
    if not loops:
        return 0
    both = [
        access
        for access in {access for row in layout.reads for access in row if access}
        | set(layout.writes)
        if any(access.strides[loop] for loop in layout.reduction)
    ]
    return sum(access.strides[loops[-1]] == 1 for access in both)


def _reads(frame: Frame, stages: Sequence[int]) -> list[Access]:
    """The arguments' accesses that stages read, each once."""
    found = (
        access for index in stages for access in frame.layout.reads[index] if access is not None
    )
    return list(dict.fromkeys(found))


def _enter_unit(scope: Scope, loops: Sequence[int], unit: str, wanted: Sequence[Access]) -> Scope:
    """The scope at one unit: its number split into the indices of `loops`, the last fastest."""
    code, layout = scope.frame.code, scope.frame.layout
    for position, loop in enumerate(loops):
        below = layout.extent(loops[position + 1 :])
        index = code.let(f"arith.divui {unit}, {code.int(below)} : i64") if below > 1 else unit
        if position:
            index = code.let(f"arith.remui {index}, {code.int(layout.dims[loop].extent)} : i64")
        scope = scope.enter(loop, index, wanted)
    return scope


def write_parallel(frame: Frame, low: str, high: str) -> None:
    code, layout = frame.code, frame.layout
    phases = Phases.of(frame.region)
    wanted = [*_reads(frame, phases.needed), *layout.writes]

    def store(scope: Scope) -> None:
        for access, index in zip(layout.writes, frame.region.outputs, strict=True):
            scope.store(access, scope.evaluate(index))

    root = frame.scope(wanted)
    if len(layout.dims) <= 1:
        with code.loop(low, high, parallel=True) as index:
            store(root.enter(0, index, wanted) if layout.dims else root)
        return
    *outer, inner = layout.parallel
    with code.loop(low, high) as unit:
        scope = _enter_unit(root, outer, unit, wanted)
        with code.loop(code.int(0), code.int(layout.dims[inner].extent), parallel=True) as index:
            store(scope.enter(inner, index, wanted))


def _write_rows(frame: Frame, low: str, high: str) -> None:
    """Row by row: each pass runs along the reduced loops with its totals in registers."""
    code, layout = frame.code, frame.layout
    phases = Phases.of(frame.region)
    keeps = _keep_in_scratch(frame, phases)
    row_writes = [layout.writes[position] for position in phases.row_outputs()]
    wanted = [*_reads(frame, phases.needed), *layout.writes, *frame.saved.values()]
    at_row = [access for access in wanted if access.base != "scratch"]
    with code.loop(low, high) as unit:
        scope = _enter_unit(frame.scope(at_row), layout.parallel, unit, at_row)
        for level in range(phases.last + 1):
            for index in phases.rows(level):
                scope.evaluate(index)
            scope.values.update(_row_pass(scope, phases, level, keeps))
        for index in phases.rows(phases.last + 1):
            scope.evaluate(index)
        for access, position in zip(row_writes, phases.row_outputs(), strict=True):
            scope.store(access, scope.evaluate(frame.region.outputs[position]))


def _keep_in_scratch(frame: Frame, phases: Phases) -> dict[int, int]:
    """Stage -> the pass that saves its values, for expensive stages that several passes read."""
    code, layout = frame.code, frame.layout
    length = layout.extent(layout.reduction)
    uses = [phases.evaluated(level) for level in range(phases.last + 1)]
    keeps: dict[int, int] = {}
    for index in phases.needed:
        stage = phases.stage(index)
        passes = [level for level, stages in enumerate(uses) if index in stages]
        size = length * max(1, stage.type.nbytes // max(1, stage.type.size))
        if stage.kind != "full" or len(passes) < 2 or not cpu_body.is_expensive(stage):
            continue
        if size <= _SCRATCH_BYTES and len(keeps) < _SCRATCH_ROWS:
            keeps[index] = passes[0]
            kind = cpu_body.stored_kind(stage.type.dtype)
            frame.pointers["scratch", index] = code.stack(length, kind)
            strides = tuple(
                0
                if loop in layout.parallel
                else layout.extent([k for k in layout.reduction if k > loop])
                for loop in range(len(layout.dims))
            )
            frame.saved[index] = Access("scratch", index, stage.type.dtype, strides)
    return keeps


def _row_pass(scope: Scope, phases: Phases, level: int, keeps: dict[int, int]) -> dict[int, str]:
    """One pass over a row; returns the reductions' results."""
    frame, code = scope.frame, scope.frame.code
    saved = [index for index, first in keeps.items() if first < level]
    folded, stored = phases.folded(level), phases.stored(level)
    if not folded and not stored:
        return {}
    stages = phases.evaluated(level, saved)
    to_save = [index for index in stages if keeps.get(index) == level]
    at_hand = [frame.saved[index] for index in saved if index in phases.evaluated(level)]
    to_write = [frame.layout.writes[position] for position in stored]
    wanted = [*_reads(frame, stages), *at_hand, *to_write]
    saves = [frame.saved[index] for index in to_save]

    def at_point(point: Scope, totals: list[str]) -> list[str]:
        for index, access in zip(to_save, saves, strict=True):
            point.store(access, point.evaluate(index))
        following = [
            cpu_body.fold(code, phases.stage(index), total, point.point(index))
            for index, total in zip(folded, totals, strict=True)
        ]
        for access, position in zip(to_write, stored, strict=True):
            point.store(access, point.evaluate(frame.region.outputs[position]))
        return following

    start = [cpu_body.neutral(code, phases.stage(index)) for index in folded]
    fold = _RowFold(phases, folded, wanted, saves, at_point)
    return dict(zip(folded, fold.run(scope, frame.layout.reduction, start), strict=True))


@dataclass(frozen=True)
class _RowFold:
    """The loops of one pass over a row, carrying the totals of `folded`."""

    phases: Phases
    folded: Sequence[int]
    wanted: Sequence[Access]
    saves: Sequence[Access]
    at_point: Callable[[Scope, list[str]], list[str]]

    def run(self, scope: Scope, loops: Sequence[int], totals: list[str]) -> list[str]:
        if not loops:
            return self.at_point(scope, totals)
        code, extent = scope.frame.code, scope.frame.layout.dims[loops[0]].extent
        kinds = [cpu_body.kind_of(self.phases.stage(index).type.dtype) for index in self.folded]

        def body(index: str, carried: list[str]) -> list[str]:
            return self.run(self._enter(scope, loops[0], index), loops[1:], carried)

        zero, end = code.int(0), code.int(extent)
        if len(loops) > 1:
            return code.fold(zero, end, totals, kinds, body)
        if not self.folded or extent <= 2 * _FOLD_BLOCK:
            return code.fold(zero, end, totals, kinds, body, parallel=True)

        def block(low: str, carried: list[str]) -> list[str]:
            stages = [self.phases.stage(index) for index in self.folded]
            high = code.let(f"arith.minsi {code.add(low, code.int(_FOLD_BLOCK))}, {end} : i64")
            start = [cpu_body.neutral(code, stage) for stage in stages]
            parts = code.fold(low, high, start, kinds, body, parallel=True)
            return [cpu_body.fold(code, *item) for item in zip(stages, carried, parts, strict=True)]

        return code.fold(zero, end, totals, kinds, block, step=_FOLD_BLOCK)

    def _enter(self, scope: Scope, loop: int, index: str) -> Scope:
        inner = scope.enter(loop, index, self.wanted)
        # Values yet to be saved have addresses but nothing to load.
        for access in self.saves:
            step = scope.frame.code.mul(index, access.strides[loop])
            before = scope.offsets.get(access)
            inner.offsets[access] = scope.frame.code.add(before, step) if before else step
        return inner


def _write_columns(frame: Frame, low: str, high: str) -> None:
    """Block of columns by block: rows stream by, each added to accumulators in L1."""
    code, layout = frame.code, frame.layout
    *outer, inner = layout.parallel
    blocks = -(-layout.dims[inner].extent // _COLUMN_BLOCK)
    columns = _Columns(frame, inner)
    with code.loop(low, high) as unit:
        line = code.let(f"arith.divui {unit}, {code.int(blocks)} : i64") if blocks > 1 else unit
        block = (
            code.let(f"arith.remui {unit}, {code.int(blocks)} : i64") if blocks > 1 else code.int(0)
        )
        scope = _enter_unit(frame.scope(columns.wanted), outer, line, columns.wanted)
        columns.write(scope, code.mul(block, _COLUMN_BLOCK))


class _Columns:
    """The passes over one block of columns. Every result of the block has a buffer in L1."""

    def __init__(self, frame: Frame, inner: int) -> None:
        self.frame, self.code, self.inner = frame, frame.code, inner
        self.phases = Phases.of(frame.region)
        self.wanted = [*_reads(frame, self.phases.needed), *frame.layout.writes]
        self.extent = frame.layout.dims[inner].extent
        self.width = min(self.extent, _COLUMN_BLOCK)
        lasting = [i for i in self.phases.needed if self.phases.stage(i).kind != "full"]
        folded = [i for i in lasting if self.phases.stage(i).kind == "reduce"]
        self.values = {index: self._buffer(index) for index in lasting}
        self.partials = {index: self._buffer(index) for index in folded} if self._blocked() else {}

    def write(self, scope: Scope, first: str) -> None:
        code = self.code
        left = code.let(f"arith.subi {code.int(self.extent)}, {first} : i64")
        self.count = code.let(f"arith.minsi {left}, {code.int(self.width)} : i64")
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
        if not self._blocked():
            self._sweep(block, loops, level, self.values)
            return
        end = code.int(self.frame.layout.dims[loops[0]].extent)
        with code.loop(code.int(0), end, step=_ROW_BLOCK) as low:
            high = code.let(f"arith.minsi {code.add(low, code.int(_ROW_BLOCK))}, {end} : i64")
            self._fill(self.partials, folded)
            with code.loop(low, high) as row:
                inside = block.enter(loops[0], row, self.wanted)
                self._sweep(inside, loops[1:], level, self.partials)
            with self._line() as column:
                for index in folded:
                    self._add(self.values, index, column, self._get(self.partials, index, column))

    def _sweep(
        self, scope: Scope, loops: Sequence[int], level: int, totals: dict[int, str]
    ) -> None:
        if loops:
            end = self.code.int(self.frame.layout.dims[loops[0]].extent)
            with self.code.loop(self.code.int(0), end) as row:
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
            self.inner, column, _reads(self.frame, stages) + list(self.frame.layout.writes)
        )
        reads = (read for index in stages for read in self.phases.stage(index).reads)
        for index in dict.fromkeys(read.index for read in reads if read.source == "stage"):
            if index in self.values and index not in stages:
                point.values[index] = self._get(self.values, index, column)
        return point

    def _blocked(self) -> bool:
        loops = self.frame.layout.reduction
        return bool(loops) and self.frame.layout.dims[loops[0]].extent > 2 * _ROW_BLOCK

    def _line(self):
        return self.code.loop(self.code.int(0), self.count, parallel=True)

    def _fill(self, buffers: dict[int, str], stages: Sequence[int]) -> None:
        with self._line() as column:
            for index in stages:
                self._put(
                    buffers, index, column, cpu_body.neutral(self.code, self.phases.stage(index))
                )

    def _add(self, buffers: dict[int, str], index: int, column: str, value: str) -> None:
        total = self._get(buffers, index, column)
        self._put(
            buffers, index, column, cpu_body.fold(self.code, self.phases.stage(index), total, value)
        )

    def _buffer(self, index: int) -> str:
        return self.code.stack(
            self.width, cpu_body.stored_kind(self.phases.stage(index).type.dtype)
        )

    def _element(self, buffers: dict[int, str], index: int, column: str) -> tuple[str, str]:
        dtype = self.phases.stage(index).type.dtype
        return self.code.element(buffers[index], column, cpu_body.stored_kind(dtype)), dtype

    def _get(self, buffers: dict[int, str], index: int, column: str) -> str:
        return cpu_body.load(self.code, *self._element(buffers, index, column))

    def _put(self, buffers: dict[int, str], index: int, column: str, value: str) -> None:
        address, dtype = self._element(buffers, index, column)
        cpu_body.store(self.code, value, address, dtype)
