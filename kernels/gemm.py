"""What every matrix-product kernel (matmul, convolutions) shares: tiles, policy, tuning space."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import triton
import triton.language as tl

from .device import Device
from .launch import MOST_REGISTERS, STORE, Epilogue, Launch, Program, load
from .partials import reduce_partials, row_blocks
from .problem import ITEM_BYTES, Problem, TensorSpec, ceil_div, next_power_of_two
from .space import Space, dimension

PRECISIONS = ("ieee", "tf32", "tf32x3")
"""float32 policies: full precision without tensor cores, one tensor-core pass, three passes."""

FLOATS = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class GemmConfig:
    """Tile sizes of C = A B (block_m x block_n results, block_k deep) and how a program runs.

    ``group_m`` tile rows are walked together for cache reuse; ``split_k`` programs share one tile's
    reduction, their partial tiles added by a second kernel.
    """

    block_m: int = dimension(16, 32, 64, 128, 256, default=64)
    block_n: int = dimension(16, 32, 64, 128, 256, default=64)
    block_k: int = dimension(16, 32, 64, 128, default=32)
    group_m: int = dimension(1, 4, 8, 16, default=8)
    split_k: int = dimension(1, 2, 4, 8, 16, 32, default=1)
    num_warps: int = dimension(2, 4, 8, default=4)
    num_stages: int = dimension(1, 2, 3, 4, 5, default=3)


@dataclass(frozen=True)
class GemmSize:
    """The product behind a problem: ``batch`` products of [m, k] by [k, n]."""

    m: int
    n: int
    k: int
    batch: int = 1

    @property
    def flops(self) -> int:
        return 2 * self.batch * self.m * self.n * self.k


@triton.jit
def grouped_tile(pid, M, N, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, GROUP_M: tl.constexpr):
    """Tile (row, column) of a program: GROUP_M tile rows are finished before the next ones."""
    tiles_m = (M + BLOCK_M - 1) // BLOCK_M
    tiles_n = (N + BLOCK_N - 1) // BLOCK_N
    group = pid // (GROUP_M * tiles_n)
    first = group * GROUP_M
    height = tl.minimum(tiles_m - first, GROUP_M)
    within = pid % (GROUP_M * tiles_n)
    return first + within % height, within // height


def precision_of(problem: Problem) -> str:
    return str(problem.attrs.get("precision", "ieee"))


def unsupported_dtype(problem: Problem) -> str | None:
    """Why the operands' dtypes cannot enter one product, or None."""
    dtypes = [spec.dtype for spec in problem.operands]
    if len(set(dtypes)) != 1 or dtypes[0] not in FLOATS:
        return f"operands of {' and '.join(dtypes)}; allowed: one of {', '.join(FLOATS)}"
    if precision_of(problem) not in PRECISIONS:
        return f"precision {precision_of(problem)!r}; allowed: {', '.join(PRECISIONS)}"
    return None


def gemm_grid(size: GemmSize, config: GemmConfig, split: int) -> tuple[int, int, int]:
    """Tiles of one product, products, shares of the reduction."""
    tiles = ceil_div(size.m, config.block_m) * ceil_div(size.n, config.block_n)
    return tiles, size.batch, split


def operand_pointers(
    operands: tuple[str, ...], loads: tuple[str, ...]
) -> dict[str, str | tuple[str, ...]]:
    """The kernel's pointer parameters, of operands by their own names: those in ``loads`` are tuples."""
    return {name: (name,) if name in loads else name for name in operands}


def operand_loads(loads: tuple[str, ...]) -> dict[str, Any]:
    """The constants that tell a kernel how to load operands: as they are."""
    return {f"LOAD_{name.upper()}": load for name in loads}


def tile_constexprs(
    config: GemmConfig, problem: Problem, stage: Epilogue, split: int
) -> dict[str, Any]:
    """The constants every product kernel takes."""
    return {
        "PRECISION": precision_of(problem),
        "EPILOGUE": stage.function,
        "SPLIT": split,
        "BLOCK_M": config.block_m,
        "BLOCK_N": config.block_n,
        "BLOCK_K": config.block_k,
        "GROUP_M": config.group_m,
    }


def is_even(depth: int, config: GemmConfig, split: int) -> bool:
    """Whether the reduction is as long as its steps, so that none of them needs a mask."""
    return depth % (config.block_k * split) == 0


def max_registers(config: GemmConfig, problem: Problem, stage: Epilogue) -> int | None:
    """A bound on registers for products without tensor cores, and for those with column sums, else
    None.

    Left alone, ptxas spills some of the former on sm_80 and sm_90 to fit a third program on an SM,
    and a few bytes of the latter on sm_100.
    """
    if not _is_vector(problem):
        return MOST_REGISTERS if stage.sums else None
    return 128 if config.block_m * config.block_n <= 32 * 32 * config.num_warps else MOST_REGISTERS


def gemm_space(size: Callable[[Problem], GemmSize], vector_results: int) -> Space:
    """The tuning space of a template whose problem is a product of the given size.

    ``vector_results`` is how many results one thread may hold in a product without tensor cores:
    more spill, as measured on sm_80 with the index arithmetic of the template.
    """
    refuse = partial(_refuse, size, vector_results)
    return Space(GemmConfig, refuse, partial(_guess, size, min(vector_results, 32)))


def _is_vector(problem: Problem) -> bool:
    """Whether the product runs without tensor cores."""
    return problem.dtype() == "float32" and precision_of(problem) == "ieee"


def _refuse(
    size: Callable[[Problem], GemmSize],
    vector_results: int,
    config: GemmConfig,
    problem: Problem,
    device: Device,
) -> str | None:
    tile = (config.block_m + config.block_n) * config.block_k * ITEM_BYTES[problem.dtype()]
    if tile * config.num_stages > device.shared_bytes:
        return f"{config.num_stages} stages take {tile * config.num_stages} bytes of shared memory"
    results = config.block_m * config.block_n // (32 * config.num_warps)
    if results > (vector_results if _is_vector(problem) else 128):
        return f"{results} results in each thread spill"
    operands = (config.block_m + config.block_n) * config.block_k // (32 * config.num_warps)
    if operands > 256:
        return f"{operands} operand values moved by each thread in a step spill"
    if _is_vector(problem) and config.block_k > 32:
        return "a product without tensor cores unrolls block_k: more than 32 spills"
    shape = size(problem)
    if config.split_k > 1 and config.split_k * config.block_k > shape.k:
        return "fewer reduction steps than splits"
    for block, extent in ((config.block_m, shape.m), (config.block_n, shape.n)):
        if block > 16 and block >= 2 * next_power_of_two(extent):
            return "a tile more than half empty"
    return None


def _guess(
    size: Callable[[Problem], GemmSize], vector_results: int, problem: Problem, device: Device
) -> GemmConfig:
    """Large tiles while they fill the device, then a split reduction, then smaller tiles."""
    shape = size(problem)
    vector = _is_vector(problem)
    results = vector_results if vector else 64
    block_n = min(max(next_power_of_two(shape.n), 16), 64 if vector else 128)
    block_m = min(max(next_power_of_two(shape.m), 16), 128, 256 * results // block_n)
    deepest = 16 if vector else 64 if problem.dtype() != "float32" else 32
    block_k = min(max(next_power_of_two(shape.k), 16), deepest)
    split_k = 1

    def programs() -> int:
        tiles = ceil_div(shape.m, block_m) * ceil_div(shape.n, block_n)
        return tiles * shape.batch * split_k

    def shrink(smallest: int) -> None:
        nonlocal block_m, block_n
        while programs() < device.multiprocessors and max(block_m, block_n) > smallest:
            if block_m >= block_n:
                block_m //= 2
            else:
                block_n //= 2

    shrink(64)
    # Below eight steps a share costs more to start and to add than it saves.
    while (
        programs() < device.multiprocessors
        and split_k < 32
        and (shape.k >= 2 * split_k * 8 * block_k)
    ):
        split_k *= 2
    shrink(32)
    num_warps = 8 if block_m * block_n > 4 * 32 * results else 4
    # A third stage only adds registers where arithmetic, not memory, is the limit.
    num_stages = 2 if vector else 3
    return GemmConfig(block_m, block_n, block_k, 8, split_k, num_warps, num_stages)


def gemm_program(
    launch: Callable[[Epilogue, int], Launch],
    rows: int,
    cols: int,
    parts: int,
    split: int,
    epilogue: Epilogue,
) -> Program:
    """One launch, or a split product (partial tiles, then their sum under the epilogue).

    ``launch(epilogue, split)`` describes the product kernel, whose result is a [rows, cols] matrix;
    ``parts`` is how many of its tiles share a column, ``split`` how many programs share a tile's sum.
    """
    if split > 1:
        parts = row_blocks(rows, cols, epilogue)
    sums = {f"sum{i}": TensorSpec((parts, cols), "float32") for i in range(epilogue.sums)}
    if split == 1:
        return Program((launch(epilogue, 1),), sums)
    tiles = launch(STORE, split)
    tiles = replace(tiles, pointers={**tiles.pointers, "outs": ("partials",)})
    total = reduce_partials("partials", split, rows, cols, epilogue)
    scratch = {"partials": TensorSpec((split, rows, cols), "float32")}
    return Program((tiles, total), scratch | sums)
