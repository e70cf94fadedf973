"""The loop nests of CPU kernels: parallel, by rows, by columns.

Each writes the code of units low..high, where a unit is what threads may share out: an element or a
line of a parallel region, a row, a block of columns. `Nest.units` says how many there are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..region import Region
from . import body as cpu_body
from .columns import COLUMN_BLOCK, write_columns
from .layout import Access, Layout
from .scope import Frame, Phases, Scope
from .text import Units

# Sums longer than these go through partial sums: it bounds the rounding error and costs under 1%.
_FOLD_BLOCK = 4096
# A tile of this square reads whole cache lines and stays within the sets of L1 that they fall into.
_TILE = 16
# Rows of kept values: they fit L1/L2, and the stacks of OpenMP's threads.
_SCRATCH_BYTES = 32 * 1024
_SCRATCH_ROWS = 4


@dataclass(frozen=True)
class Nest:
    """A way through a region.

    Attributes:
        units: the independent units that there are.
        align: threads take multiples of so many.
        write: write(frame, low, high) emits the code of units low..high.
    """

    units: Units
    align: int
    write: Callable[[Frame, str, str], None]


def nest_of(region: Region, layout: Layout) -> Nest:
    """The nest whose innermost loop runs along memory for most of the data."""
    if not region.reduction:
        if len(layout.dims) <= 1:
            return Nest(Units(layout.extent(layout.parallel)), 64, write_parallel)
        across, lines = _across(layout), layout.extent(_unit_loops(layout))
        extent = 1 if across is None else layout.dims[across].extent
        return Nest(Units(lines, extent, _TILE), 1, write_parallel)
    if _along(layout, layout.parallel) > _along(layout, layout.reduction):
        *outer, inner = layout.parallel
        units = Units(layout.extent(outer), layout.dims[inner].extent, COLUMN_BLOCK)
        return Nest(units, 1, write_columns)
    return Nest(Units(layout.extent(layout.parallel)), 1, _write_rows)


def _along(layout: Layout, loops: Sequence[int]) -> tuple[int, int]:
    """How many lookups, and how many accesses over both kinds of loops, move by one element along the
    last of `loops`. Lookups come first: each of another place is of another line of the cache.
    """
    if not loops:
        return 0, 0
    looked_up = sum(strides[loops[-1]] == 1 for strides in layout.lookups)
    both = [
        access
        for access in {access for row in layout.reads for access in row if access}
        | set(layout.writes)
        if any(access.strides[loop] for loop in layout.reduction)
    ]
    return looked_up, sum(access.strides[loops[-1]] == 1 for access in both)


def write_parallel(frame: Frame, low: str, high: str) -> None:
    """Lines of the outputs one by one; where a read runs across them, in square tiles."""
    code, layout = frame.code, frame.layout
    wanted = [*frame.reads(Phases.of(frame.region).needed), *layout.writes]
    root = frame.scope(wanted)
    if len(layout.dims) <= 1:
        with code.loop(low, high, parallel=True) as index:
            _store_point(root.enter(0, index, wanted) if layout.dims else root)
        return
    across = _across(layout)
    outer, inner = _unit_loops(layout), layout.parallel[-1]
    with code.loop(low, high) as unit:
        if across is None:
            scope = root.enter_unit(outer, unit, wanted)
            with code.loop(
                code.integer(0), code.integer(layout.dims[inner].extent), parallel=True
            ) as index:
                _store_point(scope.enter(inner, index, wanted))
            return
        blocks = code.blocks(layout.dims[across].extent, _TILE)
        line = code.let(f"arith.divui {unit}, {blocks} : i64")
        block = code.let(f"arith.remui {unit}, {blocks} : i64")
        scope = root.enter_unit(outer, line, wanted)
        _write_tiles(scope, across, inner, code.mul(block, _TILE), wanted)


def _write_tiles(
    scope: Scope, across: int, inner: int, first: str, wanted: Sequence[Access]
) -> None:
    code, dims = scope.frame.code, scope.frame.layout.dims
    rows = _tile_extent(scope, across, first)
    scope = scope.enter(across, first, wanted, partial=True)
    with code.loop(code.integer(0), code.integer(dims[inner].extent), step=_TILE) as start:
        columns = _tile_extent(scope, inner, start)
        tile = scope.enter(inner, start, wanted, partial=True)
        with code.loop(code.integer(0), rows) as row:
            line = tile.enter(across, row, wanted)
            with code.loop(code.integer(0), columns, parallel=True) as column:
                _store_point(line.enter(inner, column, wanted))


def _tile_extent(scope: Scope, loop: int, first: str) -> str:
    code = scope.frame.code
    left = code.let(
        f"arith.subi {code.integer(scope.frame.layout.dims[loop].extent)}, {first} : i64"
    )
    return code.let(f"arith.minsi {left}, {code.integer(_TILE)} : i64")


def _store_point(point: Scope) -> None:
    for access, index in zip(point.frame.layout.writes, point.frame.region.outputs, strict=True):
        point.store(access, point.evaluate(index))


def _across(layout: Layout) -> int | None:
    """The loop, other than the innermost, along which a transposed read moves by one element."""
    *outer, inner = layout.parallel
    for access in (access for row in layout.reads for access in row if access is not None):
        for loop in outer:
            extents = layout.dims[loop].extent, layout.dims[inner].extent
            if access.strides[inner] > 1 and access.strides[loop] == 1 and min(extents) >= _TILE:
                return loop
    return None


def _unit_loops(layout: Layout) -> list[int]:
    """The loops whose points are units: all but the innermost and a tiled one."""
    return [loop for loop in layout.parallel[:-1] if loop != _across(layout)]


def _write_rows(frame: Frame, low: str, high: str) -> None:
    """Row by row: each pass runs along the reduced loops with its totals in registers."""
    code, layout = frame.code, frame.layout
    phases = Phases.of(frame.region)
    keeps = _keep_in_scratch(frame, phases)
    row_writes = [layout.writes[position] for position in phases.row_outputs()]
    wanted = [*frame.reads(phases.needed), *layout.writes, *frame.saved.values()]
    at_row = [access for access in wanted if access.base != "scratch"]
    with code.loop(low, high) as unit:
        scope = frame.scope(at_row).enter_unit(layout.parallel, unit, at_row)
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
    wanted = [*frame.reads(stages), *at_hand, *to_write]
    saves = [frame.saved[index] for index in to_save]

    def at_point(point: Scope, totals: list[str]) -> list[str]:
        for index, access in zip(to_save, saves, strict=True):
            point.store(access, point.evaluate(index))
        following = [
            cpu_body.fold(code, *phases.folding(index), total, point.point(index))
            for index, total in zip(folded, totals, strict=True)
        ]
        for access, position in zip(to_write, stored, strict=True):
            point.store(access, point.evaluate(frame.region.outputs[position]))
        return following

    start = [cpu_body.neutral(code, *phases.folding(index)) for index in folded]
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

        zero, end = code.integer(0), code.integer(extent)
        if len(loops) > 1:
            return code.fold(zero, end, totals, kinds, body)
        if not self.folded or extent <= 2 * _FOLD_BLOCK:
            return code.fold(zero, end, totals, kinds, body, parallel=True)

        def block(low: str, carried: list[str]) -> list[str]:
            foldings = [self.phases.folding(index) for index in self.folded]
            high = code.let(f"arith.minsi {code.add(low, code.integer(_FOLD_BLOCK))}, {end} : i64")
            start = [cpu_body.neutral(code, *folding) for folding in foldings]
            parts = code.fold(low, high, start, kinds, body, parallel=True)
            pairs = zip(foldings, carried, parts, strict=True)
            return [cpu_body.fold(code, *folding, total, part) for folding, total, part in pairs]

        return code.fold(zero, end, totals, kinds, block, step=_FOLD_BLOCK)

    def _enter(self, scope: Scope, loop: int, index: str) -> Scope:
        inner = scope.enter(loop, index, self.wanted)
        # Values yet to be saved have addresses but nothing to load.
        for access in self.saves:
            step = scope.frame.code.mul(index, access.strides[loop])
            before = scope.offsets.get(access)
            inner.offsets[access] = scope.frame.code.add(before, step) if before else step
        return inner
