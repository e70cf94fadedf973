"""Rows of a table by integer index: out[i, :] = table[index[i], :] (embedding lookup).

A negative index counts from the end; an index outside the table reads as zeros, since a GPU cannot
raise.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from . import rows as row
from .device import Device
from .launch import Epilogue, Launch, Program
from .problem import Problem, TensorSpec, Work, ceil_div
from .rows import RowConfig
from .spec import KernelSpec, register


@triton.jit
def gather_kernel(
    table,
    index,
    outs,
    extras,
    ENTRIES: tl.constexpr,
    ROWS: tl.constexpr,
    COLS: tl.constexpr,
    EPILOGUE: tl.constexpr,
    INDEX: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_COLS: tl.constexpr,
):
    """One tile of ``epilogue(table[index])``."""
    rows = (tl.program_id(0) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)).to(INDEX)[:, None]
    cols = (tl.program_id(1) * BLOCK_COLS + tl.arange(0, BLOCK_COLS)).to(INDEX)[None, :]
    mask = (rows < ROWS) & (cols < COLS)
    entry = tl.load(index + rows, mask=rows < ROWS, other=0).to(INDEX)
    entry = tl.where(entry < 0, entry + ENTRIES, entry)
    known = (entry >= 0) & (entry < ENTRIES)
    value = tl.load(table + entry * COLS + cols, mask=mask & known, other=0.0)
    EPILOGUE(value, rows, cols, rows * COLS + cols, mask, outs, extras)


def gather_reference(table: torch.Tensor, index: torch.Tensor) -> tuple[torch.Tensor]:
    return (table[index],)


def _matrix(problem: Problem) -> Problem:
    """A problem whose first operand has the result's shape, as the row space wants it."""
    return Problem(_infer(problem))


def _infer(problem: Problem) -> tuple[TensorSpec, ...]:
    rows = problem.shape(1)[0]
    return (TensorSpec((rows, problem.shape(0)[1]), problem.dtype()),)


def _supports(problem: Problem) -> str | None:
    if len(problem.shape(1)) != 1:
        return f"an index of shape {problem.shape(1)}; allowed: [rows]"
    return row.unsupported(problem)


def _plan(problem: Problem, config: RowConfig, epilogue: Epilogue) -> Program:
    matrix = Problem((*_infer(problem), *problem.operands))
    constexprs = row.row_constexprs(matrix, config)
    del constexprs["ACC"]
    launch = Launch(
        kernel=gather_kernel,
        pointers={"table": "table", "index": "index", **epilogue.pointers},
        constexprs={
            "ENTRIES": problem.shape(0)[0],
            "EPILOGUE": epilogue.function,
            **constexprs,
        },
        grid=(
            row.row_grid(matrix, config)[0],
            ceil_div(matrix.shape(0)[1], config.block_cols),
            1,
        ),
        num_warps=config.num_warps,
    )
    return Program((launch,))


def _refuse(config: RowConfig, problem: Problem, device: Device) -> str | None:
    return row.refuse(config, _matrix(problem), device)


def _guess(problem: Problem, device: Device) -> RowConfig:
    return row.guess(_matrix(problem), device)


gather = register(
    KernelSpec(
        name="gather",
        operands=("table", "index"),
        results=("out0",),
        kernels=(gather_kernel,),
        infer=_infer,
        plan=_plan,
        reference=gather_reference,
        space=row.Space(RowConfig, _refuse, _guess),
        cases=tuple(
            Problem.of([((11, shape[1]), dtype), (shape[:1], "int64")])
            for shape, dtype in row.CASES
        ),
        work=lambda problem: Work(
            problem.operands[1].bytes + 2 * _infer(problem)[0].bytes,
            0,
        ),
        supports=_supports,
    )
)
