"""Rows folded into the rows of a table by index, in an order that is the same each time.

The indices are put in order (order.py). A program then owns rows of the table, finds where the updates of
each begin and end, and folds them in their order. Where a row has many (padding, a frequent word), whole
chunks of them have been folded before by other programs: of m updates a row reads m / CHUNK + 2 CHUNK at
most. Updates of an index that is no row are in nobody's range.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl

from . import order
from .device import Device
from .launch import MOST_REGISTERS, Epilogue, Launch, Program
from .order import bound
from .problem import Problem, TensorSpec, Work, ceil_div, next_power_of_two, wide
from .space import Space, dimension
from .spec import KernelSpec, register

CHUNK = 32
"""Ordered updates that are folded before, where they are all of one row."""

UNROLLED = 4
"""Updates of a row that are loaded at once."""

FOLDS = {"sum": "sum", "prod": "prod", "max": "amax", "min": "amin"}
"""What updates are folded with -> torch's name of it."""

LARGEST = 65_535
"""Programs along the second axis of a grid."""


@triton.jit
def joined(a, b, FOLD: tl.constexpr):
    """Two folds as one; NaN wins."""
    if FOLD == "sum":
        result = a + b
    elif FOLD == "prod":
        result = a * b
    elif FOLD == "max":
        result = tl.where((a > b) | (a != a), a, b)
    else:
        result = tl.where((a < b) | (a != a), a, b)
    return result


@triton.jit
def fold_rows(
    acc,
    data,
    order,
    begin,
    end,
    cols,
    COLS,
    ORDERED: tl.constexpr,
    FOLD: tl.constexpr,
    START: tl.constexpr,
    INDEX: tl.constexpr,
    UNROLLED: tl.constexpr,
):
    """Folds rows ``begin..end`` of ``data`` ([R, 1] each) into ``acc`` [R, C], one after another; with
    ORDERED, those that ``order`` names.
    """
    for start in tl.range(0, tl.max(end - begin), UNROLLED):
        for i in tl.static_range(UNROLLED):
            at = begin + start + i
            some = at < end
            place = tl.load(order + at, mask=some, other=0) if ORDERED else at
            offset = place.to(INDEX) * COLS + cols
            tile = tl.load(data + offset, mask=some & (cols < COLS), other=START)
            acc = joined(acc, tile.to(acc.dtype), FOLD)
    return acc


@triton.jit
def fold_chunks_kernel(
    updates,
    ordered,
    order,
    chunks,
    COUNT,
    COLS,
    FOLD: tl.constexpr,
    START: tl.constexpr,
    INDEX: tl.constexpr,
    ACC: tl.constexpr,
    CHUNK: tl.constexpr,
    UNROLLED: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_COLS: tl.constexpr,
):
    """Folds each chunk of the ordered updates that is of one row."""
    chunk = (tl.program_id(0) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS))[:, None]
    cols = (tl.program_id(1) * BLOCK_COLS + tl.arange(0, BLOCK_COLS))[None, :]
    there = chunk < COUNT // CHUNK
    begin = chunk * CHUNK
    first = tl.load(ordered + begin, mask=there, other=0)
    last = tl.load(ordered + begin + CHUNK - 1, mask=there, other=0)
    whole = there & (first == last)
    end = tl.where(whole, begin + CHUNK, begin)
    acc = tl.full((BLOCK_ROWS, BLOCK_COLS), START, dtype=ACC)
    acc = fold_rows(
        acc, updates, order, begin, end, cols, COLS, True, FOLD, START, INDEX, UNROLLED
    )  # fmt: skip
    tl.store(chunks + chunk.to(INDEX) * COLS + cols, acc, mask=whole & (cols < COLS))


@triton.jit(do_not_specialize=["STEPS"])
def scatter_kernel(
    updates,
    ordered,
    order,
    chunks,
    out,
    COUNT,
    STEPS,
    ROWS,
    COLS,
    FOLD: tl.constexpr,
    START: tl.constexpr,
    INDEX: tl.constexpr,
    ACC: tl.constexpr,
    CHUNK: tl.constexpr,
    UNROLLED: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_COLS: tl.constexpr,
):
    """A tile of the table."""
    rows = (tl.program_id(0) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS))[:, None]
    cols = (tl.program_id(1) * BLOCK_COLS + tl.arange(0, BLOCK_COLS))[None, :]
    none = tl.zeros_like(rows)
    begin = bound(ordered, none, none + COUNT, rows, False, STEPS)
    end = bound(ordered, begin, none + COUNT, rows, True, STEPS)
    first = (begin + CHUNK - 1) // CHUNK
    last = tl.maximum(end // CHUNK, first)
    whole = first < last
    head = tl.where(whole, first * CHUNK, end)
    tail = tl.where(whole, last * CHUNK, end)
    acc = tl.full((BLOCK_ROWS, BLOCK_COLS), START, dtype=ACC)
    acc = fold_rows(
        acc, updates, order, begin, head, cols, COLS, True, FOLD, START, INDEX, UNROLLED
    )  # fmt: skip
    acc = fold_rows(
        acc, chunks, order, first, last, cols, COLS, False, FOLD, START, INDEX, UNROLLED
    )  # fmt: skip
    acc = fold_rows(
        acc, updates, order, tail, end, cols, COLS, True, FOLD, START, INDEX, UNROLLED
    )  # fmt: skip
    mask = (rows < ROWS) & (cols < COLS)
    tl.store(out + rows.to(INDEX) * COLS + cols, acc.to(out.dtype.element_ty), mask=mask)


def scatter_reference(
    updates: torch.Tensor, indices: torch.Tensor, rows: int, fold: str
) -> tuple[torch.Tensor]:
    inside = (indices >= 0) & (indices < rows)
    places = torch.where(inside, indices, rows).long().flatten()
    updates = updates.reshape(places.numel(), updates.shape[-1])
    table = updates.new_full((rows + 1, updates.shape[-1]), _start(fold, updates.dtype))
    across = places[:, None].expand(updates.shape)
    return (table.scatter_reduce(0, across, updates, FOLDS[fold])[:rows],)


def _start(fold: str, dtype: torch.dtype) -> float | int:
    """What a fold leaves as it is, whatever it is."""
    if fold in ("sum", "prod"):
        return int(fold == "prod")
    if dtype.is_floating_point:
        return float("-inf" if fold == "max" else "inf")
    return torch.iinfo(dtype).min if fold == "max" else torch.iinfo(dtype).max


@dataclass(frozen=True)
class ScatterConfig:
    """A program owns block_rows by block_cols of the table; indices are ordered in blocks of
    ``ordered``."""

    block_rows: int = dimension(1, 2, 4, 8, 16, 32, 64, 128, 256, default=8)
    block_cols: int = dimension(1, 2, 4, 8, 16, 32, 64, 128, 256, default=128)
    ordered: int = dimension(16, 32, 64, 128, 256, 512, 1024, default=512)
    num_warps: int = dimension(1, 2, 4, 8, default=4)


def _table(problem: Problem) -> tuple[int, int, int]:
    """Updates, rows and columns."""
    count = problem.operands[1].size
    return count, problem.attrs["rows"], problem.shape(0)[-1]


def _infer(problem: Problem) -> tuple[TensorSpec, ...]:
    _, rows, cols = _table(problem)
    return (TensorSpec((rows, cols), problem.dtype()),)


def _supports(problem: Problem) -> str | None:
    count, rows, cols = _table(problem)
    if problem.dtype() not in ("float32", "float64", "int64", "int32", "int16", "int8"):
        return f"updates of {problem.dtype()}"
    if problem.dtype(1) not in ("int32", "int64"):
        return f"indices of {problem.dtype(1)}; allowed: int32, int64"
    if max(count, rows) >= 2**31 - 2**16:
        return f"{count} updates of {rows} rows; places have 32 bits"
    if cols > LARGEST:
        return f"rows of {cols} elements; a grid holds {LARGEST}"
    return None


def _constexprs(problem: Problem, config: ScatterConfig) -> dict[str, Any]:
    dtype, fold = getattr(torch, problem.dtype()), problem.attrs["fold"]
    return {
        "COLS": _table(problem)[2],
        "FOLD": fold,
        "START": _start(fold, dtype),
        "INDEX": tl.int64 if wide(*problem.operands, *_infer(problem)) else tl.int32,
        "ACC": getattr(tl, problem.dtype()),
        "CHUNK": CHUNK,
        "UNROLLED": UNROLLED,
        "BLOCK_ROWS": config.block_rows,
        "BLOCK_COLS": config.block_cols,
    }


def _plan(problem: Problem, config: ScatterConfig, epilogue: Epilogue) -> Program:
    count, rows, cols = _table(problem)
    shared, chunks = _constexprs(problem, config), count // CHUNK
    read = {name: name for name in ("updates", "ordered", "order", "chunks")}
    blocks = ceil_div(cols, config.block_cols)
    fold = Launch(
        kernel=fold_chunks_kernel,
        pointers=read,
        constexprs={"COUNT": count, **shared},
        grid=(ceil_div(chunks, config.block_rows), blocks, 1),
        num_warps=config.num_warps,
        max_registers=MOST_REGISTERS,  # left alone, ptxas spills a few bytes on sm_100
    )
    table = Launch(
        kernel=scatter_kernel,
        pointers={**read, "out": "out0"},
        constexprs={"COUNT": count, "STEPS": order.steps(count), "ROWS": rows, **shared},
        grid=(ceil_div(rows, config.block_rows), blocks, 1),
        num_warps=config.num_warps,
        max_registers=MOST_REGISTERS,
    )
    ordered = order.order_blocks("indices", 1, count, config.ordered)
    merged = order.merge_keys(1, count, config.ordered)
    scratch = {
        **order.scratch(1, count),
        "ordered": TensorSpec((count,), "int64"),
        "order": TensorSpec((count,), "int32"),
        "chunks": TensorSpec((chunks, cols), problem.dtype()),
    }
    return Program((ordered, merged, fold, table), scratch)


def _refuse(config: ScatterConfig, problem: Problem, device: Device) -> str | None:
    count, rows, cols = _table(problem)
    values = config.block_rows * config.block_cols // (32 * config.num_warps)
    if values > 16:
        return f"{values} values in each thread, of {UNROLLED} updates at once, spill"
    if values == 0 and config.num_warps > 1:
        return "threads without a value"
    if config.ordered > max(2 * next_power_of_two(count), 16):
        return "a block more than half empty"
    for block, extent in ((config.block_rows, rows), (config.block_cols, cols)):
        if block > 1 and block >= 2 * next_power_of_two(extent):
            return "a tile more than half empty"
    return None


def _guess(problem: Problem, device: Device) -> ScatterConfig:
    """Whole rows up to 128 columns, and 8 values a thread."""
    count, rows, cols = _table(problem)
    block_cols = min(next_power_of_two(cols), 128)
    block_rows = min(next_power_of_two(rows), max(1024 // block_cols, 1), 256)
    warps = min(max(block_rows * block_cols // 256, 1), 4)
    return ScatterConfig(block_rows, block_cols, order.block_of(count), warps)


def _work(problem: Problem) -> Work:
    moved = sum(spec.bytes for spec in (*problem.operands, *_infer(problem)))
    return Work(moved, problem.operands[0].size)


def _case(
    shape: tuple[int, ...],
    cols: int,
    rows: int,
    dtype: str,
    fold: str = "sum",
    index: str = "int64",
) -> Problem:
    return Problem.of([((*shape, cols), dtype), (shape, index)], rows=rows, fold=fold)


scatter = register(
    KernelSpec(
        name="scatter",
        operands=("updates", "indices"),
        results=("out0",),
        kernels=(
            order.order_blocks_kernel,
            order.merge_keys_kernel,
            fold_chunks_kernel,
            scatter_kernel,
        ),
        infer=_infer,
        plan=_plan,
        reference=scatter_reference,
        space=Space(ScatterConfig, _refuse, _guess),
        cases=(
            _case((7, 5), 19, 11, "float32"),
            _case((150,), 5, 3, "float32", index="int32"),
            _case((33,), 130, 9, "float64"),
            _case((70,), 3, 5, "float32", "prod"),
            _case((70,), 3, 5, "float32", "max"),
            _case((70,), 1, 40, "int64", "max"),
            _case((70,), 1, 4, "int32", "sum"),
        ),
        work=_work,
        supports=_supports,
        epilogues=False,
    )
)
