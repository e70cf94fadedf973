"""The second stage of a template's column sums: the sums of its tiles are added in a fixed order, and
what follows from them is computed for each column.
"""

from __future__ import annotations

from dataclasses import replace

from keras_triton.kernels.problem import next_power_of_two

from .. import sizes
from ..region import Region
from ..templates import TemplateKernel
from .function import FunctionBuilder
from .kernel import GeneratedLaunch
from .tiling import OPEN, Function, Tiling

ROWS, PARTS = 32, 64


def column_buffer(number: int) -> str:
    """The buffer of a result that the statistics return."""
    return f"column{number}"


TILES = sizes.extent(sizes.PRIME**3)
"""Stands for a number of tiles that is an argument: a power of the size that nothing else has."""


class _ColumnBuilder(FunctionBuilder):
    """Writes a function that takes the number of tiles, as `tiles`; it is compiled once for all."""

    decorator = '@triton.jit(do_not_specialize=["tiles"])'

    def number(self, value: int) -> str:
        return "tiles" if value == TILES else super().number(value)


def column_function(name: str, parts: TemplateKernel, tiles: int | None) -> Function:
    """The function that adds what `tiles` tiles have left of each column; None: as many as it is told."""
    statistics = parts.statistics
    assert statistics is not None  # asked for only where there are any
    inside = len(statistics.arguments) - len(parts.extras)
    arguments = ["", *[""] * (inside - 1), *(f"extra{i}" for i in range(len(parts.extras)))]
    if tiles is None:
        tiling = Tiling(_rows(statistics), PARTS, 1, OPEN)
        region = replace(statistics, reduction=(TILES,))
        builder: FunctionBuilder = _ColumnBuilder(name, region, tiling, arguments)
        builder.sized.append("tiles")
    else:
        tiling = Tiling(_rows(statistics), min(next_power_of_two(tiles), PARTS), 1)
        builder = FunctionBuilder(name, replace(statistics, reduction=(tiles,)), tiling, arguments)
    sums = [i for i, stage in enumerate(statistics.stages) if stage.kind == "reduce"]
    builder.combine({index: f"sum{i}" for i, index in enumerate(sums)}, "f32")
    for number, index in enumerate(statistics.outputs):
        builder.store_row(column_buffer(number), index)
    return builder.finish()


def column_launch(function: Function, parts: TemplateKernel) -> GeneratedLaunch:
    """Its launch."""
    assert parts.statistics is not None
    rows = _rows(parts.statistics)
    (columns,) = parts.statistics.parallel
    return GeneratedLaunch(
        function.name,
        function.pointers,
        {"BLOCK_P": rows, "BLOCK_R": function.columns},
        ((columns,), rows),
        open=function.open,
    )


def _rows(statistics: Region) -> int:
    (columns,) = statistics.parallel
    return ROWS if columns > ROWS else next_power_of_two(columns)
