"""A loop region whose rows are too few to fill a device: several programs share each row.

Each level becomes a function whose programs fold a slice of the columns into partial results, and a
function that folds those in order (never atomically: results repeat bit for bit) and goes on to the
row stages. Row values needed later are kept in scratch buffers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from keras_triton.kernels.problem import next_power_of_two

from ..mlir import TensorType
from ..region import Region
from .function import FunctionBuilder
from .loop import at_level, levels
from .tiling import Function, Tiling


@dataclass(frozen=True)
class Split:
    """The functions of a region in order, with the programs that share a row, and their scratch."""

    functions: tuple[tuple[Function, int], ...]
    scratch: dict[str, TensorType]


def split_functions(
    name: str, region: Region, tiling: Tiling, arguments: Sequence[str], outputs: Sequence[str]
) -> Split:
    """The region with `tiling.slices` programs a row."""
    return _Splitter(name, region, tiling, arguments, outputs).split()


class _Splitter:
    def __init__(
        self,
        name: str,
        region: Region,
        tiling: Tiling,
        arguments: Sequence[str],
        outputs: Sequence[str],
    ) -> None:
        self.name, self.region, self.tiling = name, region, tiling
        self.arguments, self.outputs = arguments, outputs
        self.levels = levels(region)
        self.functions: list[tuple[Function, int]] = []
        self.scratch: dict[str, TensorType] = {}
        self.stored: dict[int, str] = {}

    def split(self) -> Split:
        for level in range(max(self.levels) + 1):
            reductions, full = at_level(self.region, self.levels, self.outputs, level)
            if reductions or full:
                self._partials(level, reductions, full)
            self._combine(level, reductions)
        return Split(tuple(self.functions), self.scratch)

    def _builder(self, suffix: str, region: Region, tiling: Tiling) -> FunctionBuilder:
        return FunctionBuilder(f"{self.name}_{suffix}", region, tiling, self.arguments, self.stored)

    def _partials(self, level: int, reductions: list[int], full: list[tuple[str, int]]) -> None:
        builder = self._builder(f"slices{level}", self.region, self.tiling)
        builder.reduce(reductions, full)
        for index in reductions:
            kind = self.region.stages[index].type
            buffer = f"partials{index}"
            shape = (self.tiling.slices, *self.region.parallel)
            self.scratch[buffer] = TensorType(shape, kind.dtype)
            builder.store_partial(buffer, index)
        self.functions.append((builder.finish(), self.tiling.slices))

    def _combine(self, level: int, reductions: list[int]) -> None:
        """Folds the partial results of a level, then emits the row stages that are ready."""
        ready = [
            index
            for index, stage in enumerate(self.region.stages)
            if index in reductions or (stage.kind == "row" and self.levels[index] <= level + 1)
        ]
        kept = [index for index in ready if index not in self.stored and self._needed(index, ready)]
        if not kept:
            return
        columns = next_power_of_two(self.tiling.slices)
        region = replace(self.region, reduction=(self.tiling.slices,))
        builder = self._builder(
            f"rows{level}", region, Tiling(self.tiling.rows, columns, 1, self.tiling.index)
        )
        builder.combine({index: f"partials{index}" for index in reductions})
        for index in kept:
            for buffer in self._homes(index):
                builder.store_row(buffer, index)
        self.functions.append((builder.finish(), 1))
        for index in kept:
            self.stored[index] = self._homes(index)[0]

    def _needed(self, index: int, ready: list[int]) -> bool:
        """Whether a row value is an output, or read by what a later function computes."""
        readers = (
            i
            for i, stage in enumerate(self.region.stages)
            for read in stage.reads
            if read.source == "stage" and read.index == index
        )
        return index in self.region.outputs or any(reader not in ready for reader in readers)

    def _homes(self, index: int) -> list[str]:
        """The buffers a row value is stored to: its outputs, else scratch."""
        homes = [
            buffer
            for buffer, stage in zip(self.outputs, self.region.outputs, strict=True)
            if stage == index
        ]
        if homes:
            return homes
        buffer = f"row{index}"
        self.scratch[buffer] = TensorType(
            self.region.parallel, self.region.stages[index].type.dtype
        )
        return [buffer]
