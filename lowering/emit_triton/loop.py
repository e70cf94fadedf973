"""A loop region as Triton functions: programs over rows of the domain, tiles of rows x columns.

Levels order a region with reductions: a full stage is at the level of the reductions it needs, a
reduction of level k is ready at level k + 1. When a row fits one tile, every stage is computed
once; else each level is a sweep over the columns which computes the full stages it needs again.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..region import Region
from .function import FunctionBuilder
from .tiling import Function, Tiling


def levels(region: Region) -> list[int]:
    """For each stage the sweep that computes it, or for a row stage after how many it is ready."""
    found: list[int] = []
    for stage in region.stages:
        needs = [
            found[read.index] + (region.stages[read.index].kind == "reduce")
            for read in stage.reads
            if read.source == "stage"
        ]
        found.append(max(needs, default=0))
    return found


def whole_function(
    name: str, region: Region, tiling: Tiling, arguments: Sequence[str], outputs: Sequence[str]
) -> Function:
    """The region as one function whose programs own whole rows."""
    builder = FunctionBuilder(name, region, tiling, arguments)
    if not region.reduction:
        for store in region.stores:
            builder.store_piece(outputs[store.result], store)
        return builder.finish()
    found = levels(region)
    for level in range(max(found) + 1):
        reductions, full = at_level(region, found, outputs, level)
        if reductions or full:
            builder.reduce(reductions, full)
    for buffer, index in zip(outputs, region.outputs, strict=True):
        if region.stages[index].kind != "full":
            builder.store_row(buffer, index)
    return builder.finish()


def stores_early(region: Region) -> bool:
    """Whether a full stage is stored by a sweep that is not the last one to read the inputs."""
    found = levels(region)
    last = max((found[i] for i, s in enumerate(region.stages) if s.kind != "row"), default=0)
    return any(
        region.stages[index].kind == "full" and found[index] < last for index in region.outputs
    )


def at_level(
    region: Region, found: Sequence[int], outputs: Sequence[str], level: int
) -> tuple[list[int], list[tuple[str, int]]]:
    """The reductions of a sweep, and the full outputs (buffer, stage) it stores."""
    mine = [
        i for i, stage in enumerate(region.stages) if found[i] == level and stage.kind == "reduce"
    ]
    full = [
        (buffer, index)
        for buffer, index in zip(outputs, region.outputs, strict=True)
        if region.stages[index].kind == "full" and found[index] == level
    ]
    return mine, full
