"""How loop kernels are tiled: their tuning space, and a first guess that needs no search."""

from __future__ import annotations

from dataclasses import dataclass

from keras_triton.kernels.device import Device
from keras_triton.kernels.problem import ceil_div, next_power_of_two
from keras_triton.kernels.space import Space, dimension

from ..region import Region
from .index import Domain

POWERS = tuple(2**power for power in range(15))
ROWS_ON_CHIP = 8192
"""Elements of the longest row that one tile holds, so that no sweep reads it again."""
MOST_VALUES = 64
"""Elements of one tile a thread may hold: 128 spill in every region with two live tiles."""


@dataclass(frozen=True)
class LoopConfig:
    """Tiles of a loop kernel.

    ``block_p`` rows (without reductions: elements) and ``block_r`` columns make a tile; ``slices``
    programs share a row's columns.
    """

    block_p: int = dimension(*POWERS, default=1024)
    block_r: int = dimension(*POWERS, default=1)
    slices: int = dimension(*POWERS[:9], default=1)
    num_warps: int = dimension(1, 2, 4, 8, 16, default=4)
    num_stages: int = dimension(1, 2, 3, 4, default=2)


def refuse(config: LoopConfig, region: Region, device: Device) -> str | None:
    """Why a configuration cannot run on a region, or is hopeless; None when it may be tried."""
    domain = Domain(region.parallel, region.reduction)
    if not region.reduction and (config.block_r, config.slices) != (1, 1):
        return "a region without reductions has no columns to tile"
    values = config.block_p * config.block_r // (32 * config.num_warps)
    if values > MOST_VALUES:
        return f"{values} elements of a tile in each thread"
    if config.block_p > 1 and config.block_p >= 2 * next_power_of_two(domain.rows):
        return "a tile with more than half of its rows outside"
    if region.reduction:
        if config.block_r >= 2 * next_power_of_two(domain.columns) and config.block_r > 1:
            return "a tile with more than half of its columns outside"
        if config.slices > max(1, ceil_div(domain.columns, config.block_r)):
            return "more slices than tiles in a row"
    elif config.block_p < 32 <= domain.rows:
        return "fewer elements than a warp"
    return None


def guess(region: Region, device: Device) -> LoopConfig:
    """Tiles of about 2,048 elements, fewer while programs are too few to fill the device."""
    if not region.reduction:
        return _guess_elements(Domain(region.parallel, ()).rows, device)
    domain = Domain(region.parallel, region.reduction)
    rows, columns = max(domain.rows, 1), max(domain.columns, 1)
    if rows_contiguous(region):
        # Neighbouring rows are neighbours in memory: 32 of them fill a memory transaction.
        block_p = min(next_power_of_two(rows), 32 if rows < 64 * device.multiprocessors else 64)
        block_r = min(next_power_of_two(columns), 2048 // block_p)
    else:
        block_r = next_power_of_two(columns)
        if block_r > ROWS_ON_CHIP:
            block_r = ROWS_ON_CHIP // 2
        block_p = min(next_power_of_two(rows), max(1, 2048 // block_r))
        while block_p > 1 and ceil_div(rows, block_p) < 2 * device.multiprocessors:
            block_p //= 2
    slices = _guess_slices(ceil_div(rows, block_p), columns, block_r, device)
    warps = min(max(block_p * block_r // 512, 1), 16)
    return LoopConfig(block_p, block_r, slices, warps, 2)


def _guess_elements(size: int, device: Device) -> LoopConfig:
    share = next_power_of_two(ceil_div(size, 4 * device.multiprocessors))
    block = min(next_power_of_two(size), max(128, min(share, 1024)))
    return LoopConfig(block, 1, 1, min(max(block // 256, 1), 8), 2)


def _guess_slices(programs: int, columns: int, block_r: int, device: Device) -> int:
    """Programs for a row: as many as fill the device, but each at least four tiles long."""
    slices = 1
    while (
        slices < POWERS[8]
        and programs * slices < device.multiprocessors
        and columns >= 2 * slices * 4 * block_r
    ):
        slices *= 2
    return slices


def rows_contiguous(region: Region) -> bool:
    """Whether the elements that the region reads follow each other in memory along its rows."""
    domain = Domain(region.parallel, region.reduction)
    largest: tuple[int, str] = (0, "r")
    for stage in region.stages:
        for read in stage.reads:
            if read.source != "argument":
                continue
            kind = region.arguments[read.index]
            coordinates = domain.coordinates(kind.shape, read.dims)
            if coordinates and kind.size > largest[0]:
                largest = kind.size, coordinates[-1].axis
        for lookup in stage.lookups.values():
            kind, inner = region.arguments[lookup.argument], lookup.dims[-1]
            if inner is not None and kind.size > largest[0]:
                largest = kind.size, domain.axis(inner)
    return largest[1] == "p"


SPACE = Space(LoopConfig, refuse, guess)
"""The space of "loop" and "multi" kernels; a region stands where templates have a problem."""
