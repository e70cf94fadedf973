"""Gradients of layer normalisation with respect to its rows, weight and bias.

The gradients of weight and bias are sums over all rows: a fixed number of partial sums, each over
every ``partials``-th block of rows, then their sum in a fixed order.  There are no atomics: one
configuration gives the same bits every time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl

from . import rows as row
from .device import Device
from .launch import STORE, Epilogue, Launch, Program
from .partials import reduce_partials
from .problem import Problem, TensorSpec, Work, ceil_div, next_power_of_two
from .rows import RowConfig
from .space import Space, dimension
from .spec import KernelSpec, register


@dataclass(frozen=True)
class NormGradConfig(RowConfig):
    """A row configuration, and how many partial sums make the gradients of weight and bias."""

    partials: int = dimension(16, 32, 64, 128, 256, 512, default=128)


@triton.jit
def scaled(upstream, weight, cols, COLS, WEIGHT: tl.constexpr):
    """The gradient with respect to the normalised row: ``upstream * weight``."""
    result = upstream
    if WEIGHT:
        result = result * tl.load(weight + cols, mask=cols < COLS, other=0.0).to(upstream.dtype)
    return result


@triton.jit
def layer_norm_grad_kernel(
    g,
    x,
    mean,
    rstd,
    weight,
    weight_partials,
    bias_partials,
    outs,
    extras,
    WEIGHT: tl.constexpr,
    PARTIALS,
    ROWS,
    COLS,
    EPILOGUE: tl.constexpr,
    INDEX: tl.constexpr,
    ACC: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_COLS: tl.constexpr,
):
    """One pass over rows that fit a tile: program p does row blocks p, p + PARTIALS, ..."""
    part = tl.program_id(0)
    cols = tl.arange(0, BLOCK_COLS).to(INDEX)[None, :]
    weight_sum = tl.zeros((BLOCK_ROWS, BLOCK_COLS), dtype=ACC)
    bias_sum = tl.zeros((BLOCK_ROWS, BLOCK_COLS), dtype=ACC)
    for start in tl.range(part * BLOCK_ROWS, ROWS, PARTIALS * BLOCK_ROWS):
        rows = (start + tl.arange(0, BLOCK_ROWS)).to(INDEX)[:, None]
        present = rows < ROWS
        offset = rows * COLS + cols
        mask = present & (cols < COLS)
        scale = tl.load(rstd + rows, mask=present, other=0.0).to(ACC)
        center = tl.load(mean + rows, mask=present, other=0.0).to(ACC)
        upstream = tl.load(g + offset, mask=mask, other=0.0).to(ACC)
        value = tl.load(x + offset, mask=mask, other=0.0).to(ACC)
        x_hat = tl.where(mask, (value - center) * scale, 0.0)
        inner = scaled(upstream, weight, cols, COLS, WEIGHT)
        along = tl.sum(inner * x_hat, axis=1, keep_dims=True) / COLS
        level = tl.sum(inner, axis=1, keep_dims=True) / COLS
        dx = (inner - level - x_hat * along) * scale
        EPILOGUE(dx, rows, cols, offset, mask, outs, extras)
        weight_sum += upstream * x_hat
        bias_sum += upstream
    place = part.to(INDEX) * COLS + cols
    tl.store(weight_partials + place, tl.sum(weight_sum, axis=0)[None, :], mask=cols < COLS)
    tl.store(bias_partials + place, tl.sum(bias_sum, axis=0)[None, :], mask=cols < COLS)


@triton.jit
def layer_norm_row_grad_kernel(
    g,
    x,
    mean,
    rstd,
    weight,
    outs,
    extras,
    WEIGHT: tl.constexpr,
    ROWS,
    COLS,
    EPILOGUE: tl.constexpr,
    INDEX: tl.constexpr,
    ACC: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_COLS: tl.constexpr,
):
    """The gradient with respect to one row that does not fit a tile: two passes over it."""
    row_index = tl.program_id(0).to(INDEX)
    lane = tl.arange(0, BLOCK_COLS).to(INDEX)[None, :]
    rows = row_index + tl.zeros((1, 1), dtype=INDEX)
    scale = tl.load(rstd + row_index).to(ACC)
    center = tl.load(mean + row_index).to(ACC)
    along = tl.zeros((1, 1), dtype=ACC)
    level = tl.zeros((1, 1), dtype=ACC)
    for start in tl.range(0, COLS, BLOCK_COLS):
        cols = start + lane
        mask = cols < COLS
        upstream = tl.load(g + rows * COLS + cols, mask=mask, other=0.0).to(ACC)
        value = tl.load(x + rows * COLS + cols, mask=mask, other=0.0).to(ACC)
        inner = scaled(upstream, weight, cols, COLS, WEIGHT)
        along += tl.sum(inner * (value - center), axis=1, keep_dims=True) * (scale / COLS)
        level += tl.sum(inner, axis=1, keep_dims=True) / COLS
    for start in tl.range(0, COLS, BLOCK_COLS):
        cols = start + lane
        offset = rows * COLS + cols
        mask = cols < COLS
        upstream = tl.load(g + offset, mask=mask, other=0.0).to(ACC)
        value = tl.load(x + offset, mask=mask, other=0.0).to(ACC)
        inner = scaled(upstream, weight, cols, COLS, WEIGHT)
        dx = (inner - level - (value - center) * scale * along) * scale
        EPILOGUE(dx, rows, cols, offset, mask, outs, extras)


@triton.jit
def layer_norm_partials_kernel(
    g,
    x,
    mean,
    rstd,
    weight_partials,
    bias_partials,
    PARTIALS,
    ROWS,
    COLS,
    INDEX: tl.constexpr,
    ACC: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_COLS: tl.constexpr,
):
    """Partial sums of the gradients of weight and bias, for columns that do not fit a tile."""
    part = tl.program_id(1)
    cols = (tl.program_id(0) * BLOCK_COLS + tl.arange(0, BLOCK_COLS)).to(INDEX)[None, :]
    weight_sum = tl.zeros((BLOCK_ROWS, BLOCK_COLS), dtype=ACC)
    bias_sum = tl.zeros((BLOCK_ROWS, BLOCK_COLS), dtype=ACC)
    for start in tl.range(part * BLOCK_ROWS, ROWS, PARTIALS * BLOCK_ROWS):
        rows = (start + tl.arange(0, BLOCK_ROWS)).to(INDEX)[:, None]
        present = rows < ROWS
        mask = present & (cols < COLS)
        scale = tl.load(rstd + rows, mask=present, other=0.0).to(ACC)
        center = tl.load(mean + rows, mask=present, other=0.0).to(ACC)
        upstream = tl.load(g + rows * COLS + cols, mask=mask, other=0.0).to(ACC)
        value = tl.load(x + rows * COLS + cols, mask=mask, other=0.0).to(ACC)
        weight_sum += tl.where(mask, upstream * ((value - center) * scale), 0.0)
        bias_sum += upstream
    place = part.to(INDEX) * COLS + cols
    tl.store(weight_partials + place, tl.sum(weight_sum, axis=0)[None, :], mask=cols < COLS)
    tl.store(bias_partials + place, tl.sum(bias_sum, axis=0)[None, :], mask=cols < COLS)


def layer_norm_grad_reference(
    g: torch.Tensor,
    x: torch.Tensor,
    mean: torch.Tensor,
    rstd: torch.Tensor,
    weight: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    x_hat = (x - mean[:, None]) * rstd[:, None]
    inner = g if weight is None else g * weight
    along = (inner * x_hat).mean(-1, keepdim=True)
    dx = (inner - inner.mean(-1, keepdim=True) - x_hat * along) * rstd[:, None]
    return dx, (g * x_hat).sum(0), g.sum(0)


def _infer(problem: Problem) -> tuple[TensorSpec, ...]:
    x = problem.operands[1]
    parameter = problem.operands[-1].dtype if len(problem.operands) > 4 else x.dtype
    return x, TensorSpec(x.shape[1:], parameter), TensorSpec(x.shape[1:], parameter)


def _plan(problem: Problem, config: NormGradConfig, epilogue: Epilogue) -> Program:
    rows, cols = problem.shape(1)
    constants = row.row_constexprs(problem, config)
    affine = len(problem.operands) > 4
    inputs: dict[str, Any] = {name: name for name in ("g", "x", "mean", "rstd")}
    weight = {"weight": "weight" if affine else "x"}
    sums = {"weight_partials": "weight_partials", "bias_partials": "bias_partials"}
    shape = {"WEIGHT": affine, "EPILOGUE": epilogue.function}
    warps, parts = config.num_warps, config.partials
    first: tuple[Launch, ...]
    if config.block_cols >= cols:
        pointers = {**inputs, **weight, **sums, **epilogue.pointers}
        constexprs = {**shape, "PARTIALS": parts, **constants}
        first = (Launch(layer_norm_grad_kernel, pointers, constexprs, (parts, 1, 1), warps),)
    else:
        pointers = {**inputs, **weight, **epilogue.pointers}
        one = {**shape, **constants}
        blocks = (ceil_div(cols, config.block_cols), parts, 1)
        first = (
            Launch(layer_norm_row_grad_kernel, pointers, one, (rows, 1, 1), warps),
            Launch(
                layer_norm_partials_kernel,
                {**inputs, **sums},
                {"PARTIALS": parts, **constants},
                blocks,
                warps,
            ),
        )
    totals = tuple(
        reduce_partials(f"{name}_partials", parts, 1, cols, STORE, (f"d{name}",))
        for name in ("weight", "bias")
    )
    partial = TensorSpec((parts, cols), row.statistics_dtype(problem.dtype()))
    return Program((*first, *totals), dict.fromkeys(sums, partial))


def _guess(problem: Problem, device: Device) -> NormGradConfig:
    """The forward guess with half the tile (two matrices and two sums are held)."""
    cols = problem.shape(1)[1]
    base = row.guess(problem, device)
    block_cols = min(base.block_cols, row.LONGEST_TILE // 2)
    block_rows = 1 if block_cols < cols else max(base.block_rows // 2, 1)
    num_warps = min(max(next_power_of_two(block_rows * block_cols // 256), 1), 16)
    partials = min(max(next_power_of_two(device.multiprocessors) // 2, 16), 512)
    return NormGradConfig(block_rows, block_cols, num_warps, partials)


def _refuse(config: NormGradConfig, problem: Problem, device: Device) -> str | None:
    values = config.block_rows * config.block_cols // (32 * config.num_warps)
    if values > row.MOST_VALUES // 2:
        return f"{values} values of four matrices in each thread spill"
    return row.refuse(config, problem, device)


def _cases() -> tuple[Problem, ...]:
    def case(shape: tuple[int, int], dtype: str, affine: bool) -> Problem:
        statistics = (shape[:1], row.statistics_dtype(dtype))
        weight = [(shape[1:], dtype)] if affine else []
        return Problem.of([(shape, dtype), (shape, dtype), statistics, statistics, *weight])

    cases = [case(shape, dtype, True) for shape, dtype in row.CASES]
    return (*cases, case((5, 33), "float32", False))


layer_norm_grad = register(
    KernelSpec(
        name="layer_norm_grad",
        operands=("g", "x", "mean", "rstd", "weight"),
        results=("out0", "dweight", "dbias"),
        kernels=(
            layer_norm_grad_kernel,
            layer_norm_row_grad_kernel,
            layer_norm_partials_kernel,
        ),
        infer=_infer,
        plan=_plan,
        reference=layer_norm_grad_reference,
        space=Space(NormGradConfig, _refuse, _guess),
        cases=_cases(),
        work=lambda problem: Work(
            sum(spec.bytes for spec in (*problem.operands, *_infer(problem))),
            14 * problem.operands[0].size,
        ),
        supports=row.unsupported,
    )
)
