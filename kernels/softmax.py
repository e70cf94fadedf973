"""Softmax and log-softmax over the rows of a matrix, and their gradients.

Rows that fit a tile are read once; longer rows are read twice, their maximum and sum gathered in
one pass (Milakov and Gimelshein, "Online normalizer calculation for softmax", 2018).  A row with
NaN or +inf, or of -inf only, is NaN throughout, as in torch.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import triton
import triton.language as tl

from . import rows as row
from .launch import Epilogue, Launch, Program
from .problem import Problem, Work
from .rows import RowConfig
from .spec import KernelSpec, register


@triton.jit
def softmax_kernel(
    x,
    outs,
    extras,
    ROWS,
    COLS,
    WHOLE: tl.constexpr,
    LOG: tl.constexpr,
    EPILOGUE: tl.constexpr,
    INDEX: tl.constexpr,
    ACC: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_COLS: tl.constexpr,
):
    """``epilogue(softmax(x))`` or, with LOG, ``epilogue(log_softmax(x))``."""
    rows = (tl.program_id(0) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)).to(INDEX)[:, None]
    lane = tl.arange(0, BLOCK_COLS).to(INDEX)[None, :]
    if WHOLE:
        offset = rows * COLS + lane
        mask = (rows < ROWS) & (lane < COLS)
        value = tl.load(x + offset, mask=mask, other=-float("inf")).to(ACC)
        shifted = value - tl.max(value, axis=1, keep_dims=True)
        total = tl.sum(tl.exp(shifted), axis=1, keep_dims=True)
        y = shifted - tl.log(total) if LOG else tl.exp(shifted) / total
        EPILOGUE(y, rows, lane, offset, mask, outs, extras)
    else:
        highest = tl.full((BLOCK_ROWS, 1), -float("inf"), dtype=ACC)
        total = tl.zeros((BLOCK_ROWS, 1), dtype=ACC)
        for start in tl.range(0, COLS, BLOCK_COLS):
            cols = start + lane
            mask = (rows < ROWS) & (cols < COLS)
            value = tl.load(x + rows * COLS + cols, mask=mask, other=-float("inf")).to(ACC)
            higher = tl.maximum(highest, tl.max(value, axis=1, keep_dims=True))
            # While a row has shown nothing but -inf, -inf - -inf would spoil the sum with NaN.
            pivot = tl.where(higher == -float("inf"), 0.0, higher)
            chunk = tl.sum(tl.exp(value - pivot), axis=1, keep_dims=True)
            total = total * tl.exp(highest - pivot) + chunk
            highest = higher
        for start in tl.range(0, COLS, BLOCK_COLS):
            cols = start + lane
            offset = rows * COLS + cols
            mask = (rows < ROWS) & (cols < COLS)
            shifted = tl.load(x + offset, mask=mask, other=-float("inf")).to(ACC) - highest
            y = shifted - tl.log(total) if LOG else tl.exp(shifted) / total
            EPILOGUE(y, rows, cols, offset, mask, outs, extras)


@triton.jit
def softmax_grad_kernel(
    g,
    y,
    outs,
    extras,
    ROWS,
    COLS,
    WHOLE: tl.constexpr,
    LOG: tl.constexpr,
    EPILOGUE: tl.constexpr,
    INDEX: tl.constexpr,
    ACC: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_COLS: tl.constexpr,
):
    """``y (g - sum(g y))``, or with LOG ``g - exp(y) sum(g)``, y being the forward result."""
    rows = (tl.program_id(0) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)).to(INDEX)[:, None]
    lane = tl.arange(0, BLOCK_COLS).to(INDEX)[None, :]
    total = tl.zeros((BLOCK_ROWS, 1), dtype=ACC)
    if WHOLE:
        offset = rows * COLS + lane
        mask = (rows < ROWS) & (lane < COLS)
        upstream = tl.load(g + offset, mask=mask, other=0.0).to(ACC)
        result = tl.load(y + offset, mask=mask, other=0.0).to(ACC)
        total = tl.sum(upstream if LOG else upstream * result, axis=1, keep_dims=True)
        dx = upstream - tl.exp(result) * total if LOG else result * (upstream - total)
        EPILOGUE(dx, rows, lane, offset, mask, outs, extras)
    else:
        for start in tl.range(0, COLS, BLOCK_COLS):
            cols = start + lane
            offset = rows * COLS + cols
            mask = (rows < ROWS) & (cols < COLS)
            upstream = tl.load(g + offset, mask=mask, other=0.0).to(ACC)
            if LOG:
                total += tl.sum(upstream, axis=1, keep_dims=True)
            else:
                result = tl.load(y + offset, mask=mask, other=0.0).to(ACC)
                total += tl.sum(upstream * result, axis=1, keep_dims=True)
        for start in tl.range(0, COLS, BLOCK_COLS):
            cols = start + lane
            offset = rows * COLS + cols
            mask = (rows < ROWS) & (cols < COLS)
            upstream = tl.load(g + offset, mask=mask, other=0.0).to(ACC)
            result = tl.load(y + offset, mask=mask, other=0.0).to(ACC)
            dx = upstream - tl.exp(result) * total if LOG else result * (upstream - total)
            EPILOGUE(dx, rows, cols, offset, mask, outs, extras)


def softmax_reference(x: torch.Tensor) -> tuple[torch.Tensor]:
    return (torch.softmax(x, -1),)


def log_softmax_reference(x: torch.Tensor) -> tuple[torch.Tensor]:
    return (torch.log_softmax(x, -1),)


def softmax_grad_reference(g: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor]:
    return (y * (g - (g * y).sum(-1, keepdim=True)),)


def log_softmax_grad_reference(g: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor]:
    return (g - y.exp() * g.sum(-1, keepdim=True),)


def _plan(
    kernel: triton.JITFunction,
    operands: tuple[str, ...],
    log: bool,
    problem: Problem,
    config: RowConfig,
    epilogue: Epilogue,
) -> Program:
    launch = Launch(
        kernel=kernel,
        pointers={**{name: name for name in operands}, **epilogue.pointers},
        constexprs={
            "LOG": log,
            "EPILOGUE": epilogue.function,
            "WHOLE": row.is_whole(problem, config),
            **row.row_constexprs(problem, config),
        },
        grid=row.row_grid(problem, config),
        num_warps=config.num_warps,
    )
    return Program((launch,))


def _work(problem: Problem) -> Work:
    size = problem.operands[0].size
    moved = sum(spec.bytes for spec in (*problem.operands, problem.operands[0]))
    return Work(moved, 4 * size)


def _register(
    name: str, operands: tuple[str, ...], reference: Callable[..., tuple[torch.Tensor, ...]]
) -> KernelSpec:
    kernel = softmax_kernel if len(operands) == 1 else softmax_grad_kernel
    return register(
        KernelSpec(
            name=name,
            operands=operands,
            results=("out0",),
            kernels=(kernel,),
            infer=row.same,
            plan=partial(_plan, kernel, operands, name.startswith("log")),
            reference=reference,
            space=row.SPACE,
            cases=tuple(Problem.of([(shape, dtype)] * len(operands)) for shape, dtype in row.CASES),
            work=_work,
            supports=row.unsupported,
        )
    )


softmax = _register("softmax", ("x",), softmax_reference)
softmax_grad = _register("softmax_grad", ("g", "y"), softmax_grad_reference)
log_softmax = _register("log_softmax", ("x",), log_softmax_reference)
log_softmax_grad = _register("log_softmax_grad", ("g", "y"), log_softmax_grad_reference)
