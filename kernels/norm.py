"""Layer normalisation over matrix rows: mean and biased variance of each row, computed in float32
(float64 for float64), whatever the type of the rows.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from . import rows as row
from .launch import Epilogue, Launch, Program
from .problem import Problem, TensorSpec, Work
from .rows import RowConfig
from .spec import KernelSpec, register


@triton.jit
def affine(x_hat, weight, bias, cols, COLS, WEIGHT: tl.constexpr, BIAS: tl.constexpr):
    """``x_hat * weight + bias`` for the columns, either of them optional."""
    y = x_hat
    if WEIGHT:
        y = y * tl.load(weight + cols, mask=cols < COLS, other=0.0).to(x_hat.dtype)
    if BIAS:
        y = y + tl.load(bias + cols, mask=cols < COLS, other=0.0).to(x_hat.dtype)
    return y


@triton.jit
def layer_norm_kernel(
    x,
    weight,
    bias,
    mean,
    rstd,
    outs,
    extras,
    EPS: tl.constexpr,
    WEIGHT: tl.constexpr,
    BIAS: tl.constexpr,
    ROWS,
    COLS,
    WHOLE: tl.constexpr,
    EPILOGUE: tl.constexpr,
    INDEX: tl.constexpr,
    ACC: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_COLS: tl.constexpr,
):
    """``epilogue((x - mean) * rstd * weight + bias)`` with ``rstd = 1 / sqrt(variance + EPS)``."""
    rows = (tl.program_id(0) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)).to(INDEX)[:, None]
    lane = tl.arange(0, BLOCK_COLS).to(INDEX)[None, :]
    present = rows < ROWS
    if WHOLE:
        offset = rows * COLS + lane
        mask = present & (lane < COLS)
        value = tl.load(x + offset, mask=mask, other=0.0).to(ACC)
        center = tl.sum(value, axis=1, keep_dims=True) / COLS
        delta = tl.where(lane < COLS, value - center, 0.0)
        variance = tl.sum(delta * delta, axis=1, keep_dims=True) / COLS
        scale = 1.0 / tl.sqrt(variance + EPS)
        y = affine(delta * scale, weight, bias, lane, COLS, WEIGHT, BIAS)
        EPILOGUE(y, rows, lane, offset, mask, outs, extras)
    else:
        # Chunks are merged by the parallel update of Chan, Golub and LeVeque (1979).
        center = tl.zeros((BLOCK_ROWS, 1), dtype=ACC)
        squares = tl.zeros((BLOCK_ROWS, 1), dtype=ACC)
        for start in tl.range(0, COLS, BLOCK_COLS):
            cols = start + lane
            count = tl.minimum(COLS - start, BLOCK_COLS)
            mask = present & (cols < COLS)
            value = tl.load(x + rows * COLS + cols, mask=mask, other=0.0).to(ACC)
            chunk = tl.sum(value, axis=1, keep_dims=True) / count
            delta = tl.where(cols < COLS, value - chunk, 0.0)
            shift = chunk - center
            share = tl.cast(count, ACC) / (start + count)
            within = tl.sum(delta * delta, axis=1, keep_dims=True)
            squares += within + shift * shift * (start * share)
            center += shift * share
        scale = 1.0 / tl.sqrt(squares / COLS + EPS)
        for start in tl.range(0, COLS, BLOCK_COLS):
            cols = start + lane
            offset = rows * COLS + cols
            mask = present & (cols < COLS)
            delta = tl.load(x + offset, mask=mask, other=0.0).to(ACC) - center
            y = affine(delta * scale, weight, bias, cols, COLS, WEIGHT, BIAS)
            EPILOGUE(y, rows, cols, offset, mask, outs, extras)
    tl.store(mean + rows, center.to(mean.dtype.element_ty), mask=present)
    tl.store(rstd + rows, scale.to(rstd.dtype.element_ty), mask=present)


def layer_norm_reference(
    x: torch.Tensor,
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    eps: float = 1e-5,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    mean = x.mean(-1, keepdim=True)
    rstd = (x.var(-1, correction=0, keepdim=True) + eps).rsqrt()
    y = (x - mean) * rstd
    y = y if weight is None else y * weight
    y = y if bias is None else y + bias
    return y, mean[:, 0], rstd[:, 0]


def _infer(problem: Problem) -> tuple[TensorSpec, ...]:
    x = problem.operands[0]
    statistics = TensorSpec(x.shape[:1], row.statistics_dtype(x.dtype))
    return x, statistics, statistics


def _plan(problem: Problem, config: RowConfig, epilogue: Epilogue) -> Program:
    present = len(problem.operands)
    launch = Launch(
        kernel=layer_norm_kernel,
        pointers={
            "x": "x",
            # A pointer that is never read when the operand is absent.
            "weight": "weight" if present > 1 else "x",
            "bias": "bias" if present > 2 else "x",
            "mean": "mean",
            "rstd": "rstd",
            **epilogue.pointers,
        },
        constexprs={
            "EPS": float(problem.attrs["eps"]),
            "WEIGHT": present > 1,
            "BIAS": present > 2,
            "EPILOGUE": epilogue.function,
            "WHOLE": row.is_whole(problem, config),
            **row.row_constexprs(problem, config),
        },
        grid=row.row_grid(problem, config),
        num_warps=config.num_warps,
    )
    return Program((launch,))


def _cases() -> tuple[Problem, ...]:
    cases = [
        Problem.of([(shape, dtype), (shape[1:], dtype), (shape[1:], dtype)], eps=1e-3)
        for shape, dtype in row.CASES
    ]
    cases.append(Problem.of([((5, 33), "float32"), ((33,), "float32")], eps=1e-5))
    cases.append(Problem.of([((5, 33), "bfloat16")], eps=1e-5))
    return tuple(cases)


layer_norm = register(
    KernelSpec(
        name="layer_norm",
        operands=("x", "weight", "bias"),
        results=("out0", "mean", "rstd"),
        kernels=(layer_norm_kernel,),
        infer=_infer,
        plan=_plan,
        reference=layer_norm_reference,
        space=row.SPACE,
        cases=_cases(),
        work=lambda problem: Work(
            sum(spec.bytes for spec in (*problem.operands, *_infer(problem))),
            8 * problem.operands[0].size,
        ),
        supports=row.unsupported,
    )
)
