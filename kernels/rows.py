"""What every kernel over matrix rows (softmax, norms, losses) shares: tiles and tuning space."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import triton.language as tl

from .device import Device
from .problem import Problem, TensorSpec, ceil_div, next_power_of_two, wide
from .space import Space, dimension

FLOATS = ("float32", "bfloat16", "float16", "float64")

LONGEST_TILE = 16384
"""Columns up to which a first guess holds a whole row in registers; longer rows are looped over."""

MOST_VALUES = 32
"""Values of a tile one thread may hold: with 64, kernels that hold two tiles spill."""


@dataclass(frozen=True)
class RowConfig:
    """A program works on block_rows rows, block_cols columns at a time.

    Rows that fit block_cols are read once; longer ones are looped over, twice.
    """

    block_rows: int = dimension(1, 2, 4, 8, 16, 32, 64, default=1)
    block_cols: int = dimension(
        *(16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384), default=1024
    )
    num_warps: int = dimension(1, 2, 4, 8, 16, default=4)


def refuse(config: RowConfig, problem: Problem, device: Device) -> str | None:
    rows, cols = problem.shape(0)
    values = config.block_rows * config.block_cols // (32 * config.num_warps)
    if values > MOST_VALUES:
        return f"{values} values in each thread spill"
    if values == 0 and config.num_warps > 1:
        return "threads without a value"
    if config.block_cols > 16 and config.block_cols >= 2 * next_power_of_two(cols):
        return "a tile more than half empty"
    if config.block_rows > next_power_of_two(rows):
        return "a tile more than half empty"
    if config.block_cols < cols and config.block_rows > 1:
        return "rows that do not fit a tile are looped over one by one"
    return None


def guess(problem: Problem, device: Device) -> RowConfig:
    """Whole rows where they fit; several short rows a program, about 8 values a thread.

    One processor (the interpreter) pays for programs, not for threads: its tiles are larger.
    """
    rows, cols = problem.shape(0)
    width = max(next_power_of_two(cols), 16)
    if width > LONGEST_TILE:
        return RowConfig(1, 4096, 8)
    tile = 8192 if device.multiprocessors == 1 else 1024
    block_rows = max(min(tile // width, next_power_of_two(rows), 64), 1)
    num_warps = min(max(next_power_of_two(block_rows * width // 256), 1), 16)
    return RowConfig(block_rows, width, num_warps)


SPACE = Space(RowConfig, refuse, guess)


def accumulation_type(dtype: str) -> Any:
    """float64 for float64, else float32: the type rows are computed in."""
    return tl.float64 if dtype == "float64" else tl.float32


def statistics_dtype(dtype: str) -> str:
    """The dtype name of per-row results (mean, rstd, loss, lse)."""
    return "float64" if dtype == "float64" else "float32"


def row_constexprs(problem: Problem, config: RowConfig) -> dict[str, Any]:
    """The constants every row kernel takes."""
    rows, cols = problem.shape(0)
    return {
        "ROWS": rows,
        "COLS": cols,
        "INDEX": tl.int64 if wide(*problem.operands) else tl.int32,
        "ACC": accumulation_type(problem.dtype()),
        "BLOCK_ROWS": config.block_rows,
        "BLOCK_COLS": config.block_cols,
    }


def is_whole(problem: Problem, config: RowConfig) -> bool:
    """Whether a tile holds whole rows."""
    return config.block_cols >= problem.shape(0)[1]


def row_grid(problem: Problem, config: RowConfig) -> tuple[int, int, int]:
    rows, cols = problem.shape(0)
    return (ceil_div(rows, config.block_rows) if cols else 0, 1, 1)


def unsupported(problem: Problem) -> str | None:
    """Why a row kernel cannot take the operands, or None."""
    if problem.dtype() not in FLOATS:
        return f"rows of {problem.dtype()}; allowed: {', '.join(FLOATS)}"
    if len(problem.shape(0)) != 2:
        return f"an operand of shape {problem.shape(0)}; allowed: [rows, cols]"
    return None


def same(problem: Problem) -> tuple[TensorSpec, ...]:
    """One result like the first operand."""
    return (problem.operands[0],)


CASES = (
    ((5, 33), "float32"), ((3, 1), "float32"), ((1, 1), "float32"), ((7, 127), "float32"),
    ((3, 16), "float64"), ((9, 65), "bfloat16"), ((9, 65), "float16"),
)  # fmt: skip
"""Row matrices the kernels are tested on."""
