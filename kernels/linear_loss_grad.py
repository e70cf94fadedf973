"""Gradients of the cross-entropy of a last product whose logits never reach memory.

Both kernels make the logits again, tile by tile, turn each tile into its gradient
``(exp(z - lse) - onehot(target)) g`` where it lies, and multiply that at once: by ``w`` for the gradient of
``x``, by ``x`` for those of ``w`` and ``bias``. A program owns what it adds up, in a fixed order. It holds up
to `DEEPEST` of the depth; of deeper products each such part makes the logits anew.
"""
# ruff: noqa: RUF005 (tuples of Triton's language grow by addition)
# mypy: disable-error-code="assignment"

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl

from .device import Device
from .gemm import gemm_program
from .launch import Epilogue, Launch, Program
from .linear_loss import (
    OPERANDS,
    cases,
    head_constexprs,
    head_size,
    is_vector,
    logits_tile,
    refuse_tiles,
    unsupported,
)
from .problem import Problem, TensorSpec, Work, ceil_div, next_power_of_two
from .space import Space, dimension
from .spec import KernelSpec, register

GRAD_OPERANDS = (*OPERANDS, "lse", "g")
DEEPEST = {True: 384, False: 512}
"""Columns of the depth that a program adds up, without tensor cores and with them: their sums lie in
registers."""


@triton.jit
def logits_grad_tile(
    x,
    w,
    bias,
    target,
    lse,
    g,
    m,
    n,
    ROWS,
    COLS,
    DEPTH,
    W_ROW,
    W_COL,
    BIAS_STEP: tl.constexpr,
    EVEN: tl.constexpr,
    PRECISION: tl.constexpr,
    INDEX: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """The loss's gradient by a tile of logits, in float32; 0 beyond the rows and classes."""
    present = m < ROWS
    label = tl.load(target + m, mask=present, other=0)
    log_total = tl.load(lse + m, mask=present, other=0.0)
    upstream = tl.load(g + m, mask=present, other=0.0)
    upstream = tl.where((label >= 0) & (label < COLS), upstream, float("nan"))
    z = logits_tile(
        x, w, bias, m, n, ROWS, COLS, DEPTH, W_ROW, W_COL, BIAS_STEP, EVEN,
        PRECISION, INDEX, BLOCK_M, BLOCK_N, BLOCK_K,
    )  # fmt: skip
    dz = (tl.exp(z - log_total) - tl.where(n == label, 1.0, 0.0)) * upstream
    return tl.where(present & (n < COLS), dz, 0.0)


@triton.jit
def linear_cross_entropy_input_grad_kernel(
    x,
    w,
    bias,
    target,
    lse,
    g,
    outs,
    extras,
    ROWS,
    COLS,
    DEPTH,
    W_ROW,
    W_COL,
    BIAS_STEP: tl.constexpr,
    EVEN: tl.constexpr,
    PRECISION: tl.constexpr,
    EPILOGUE: tl.constexpr,
    INDEX: tl.constexpr,
    SPLIT: tl.constexpr,
    CHUNKS: tl.constexpr,
    CHUNK: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """``BLOCK_M`` rows of x's gradient, CHUNKS * CHUNK columns of it, from one of SPLIT shares of the
    classes; the result is [ROWS, DEPTH], SPLIT times over."""
    share = tl.program_id(1).to(INDEX)
    m = (tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)).to(INDEX)[:, None]
    lane = tl.arange(0, BLOCK_N).to(INDEX)
    first = (tl.program_id(2) * (CHUNKS * CHUNK)).to(INDEX)
    d = first + tl.arange(0, CHUNK).to(INDEX)[None, :]
    sums = ()
    for _ in tl.static_range(CHUNKS):
        sums = sums + (tl.zeros((BLOCK_M, CHUNK), dtype=tl.float32),)
    tiles = (COLS + BLOCK_N * SPLIT - 1) // (BLOCK_N * SPLIT)
    for tile in tl.range(0, tiles):
        n = (share * tiles + tile) * BLOCK_N + lane
        dz = logits_grad_tile(
            x, w, bias, target, lse, g, m, n[None, :], ROWS, COLS, DEPTH, W_ROW, W_COL, BIAS_STEP,
            EVEN, PRECISION, INDEX, BLOCK_M, BLOCK_N, BLOCK_K,
        ).to(w.dtype.element_ty)  # fmt: skip
        added = ()
        for i in tl.static_range(CHUNKS):
            at = d + i * CHUNK
            place = w + n[:, None] * W_COL + at * W_ROW
            part = tl.load(place, mask=(n[:, None] < COLS) & (at < DEPTH), other=0.0)
            added = added + (tl.dot(dz, part, sums[i], input_precision=PRECISION),)
        sums = added
    for i in tl.static_range(CHUNKS):
        at = d + i * CHUNK
        offset = (share * ROWS + m) * DEPTH + at
        mask = (m < ROWS) & (at < DEPTH)
        EPILOGUE(sums[i], m, at, offset, mask, outs, extras, tl.program_id(0))


@triton.jit
def linear_cross_entropy_weight_grad_kernel(
    x,
    w,
    bias,
    target,
    lse,
    g,
    dw,
    dbias,
    ROWS,
    COLS,
    DEPTH,
    W_ROW,
    W_COL,
    BIAS_STEP: tl.constexpr,
    EVEN: tl.constexpr,
    PRECISION: tl.constexpr,
    INDEX: tl.constexpr,
    CHUNKS: tl.constexpr,
    CHUNK: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """``BLOCK_N`` classes of the gradients of w, as w lies, CHUNKS * CHUNK of its depth, and of bias."""
    n = (tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)).to(INDEX)
    lane = tl.arange(0, BLOCK_M).to(INDEX)
    first = (tl.program_id(1) * (CHUNKS * CHUNK)).to(INDEX)
    d = first + tl.arange(0, CHUNK).to(INDEX)[None, :]
    total = tl.zeros((BLOCK_N,), dtype=tl.float32)
    sums = ()
    for _ in tl.static_range(CHUNKS):
        sums = sums + (tl.zeros((BLOCK_N, CHUNK), dtype=tl.float32),)
    for start in tl.range(0, ROWS, BLOCK_M):
        m = (start + lane)[:, None]
        dz = logits_grad_tile(
            x, w, bias, target, lse, g, m, n[None, :], ROWS, COLS, DEPTH, W_ROW, W_COL, BIAS_STEP,
            EVEN, PRECISION, INDEX, BLOCK_M, BLOCK_N, BLOCK_K,
        )  # fmt: skip
        total += tl.sum(dz, axis=0)
        left = tl.trans(dz.to(x.dtype.element_ty))
        added = ()
        for i in tl.static_range(CHUNKS):
            at = d + i * CHUNK
            part = tl.load(x + m * DEPTH + at, mask=(m < ROWS) & (at < DEPTH), other=0.0)
            added = added + (tl.dot(left, part, sums[i], input_precision=PRECISION),)
        sums = added
    for i in tl.static_range(CHUNKS):
        at = d + i * CHUNK
        mask = (n[:, None] < COLS) & (at < DEPTH)
        place = dw + n[:, None] * W_COL + at * W_ROW
        tl.store(place, sums[i].to(dw.dtype.element_ty), mask=mask)
    owner = (n < COLS) & (tl.program_id(1) == 0)
    tl.store(dbias + n, total.to(dbias.dtype.element_ty), mask=owner)


def _logits_grad(
    x: torch.Tensor,
    w: torch.Tensor,
    bias: torch.Tensor,
    target: torch.Tensor,
    lse: torch.Tensor,
    g: torch.Tensor,
) -> torch.Tensor:
    """[rows, classes], of a w of [depth, classes]."""
    onehot = torch.nn.functional.one_hot(target, w.shape[1])
    return ((x @ w + bias - lse[:, None]).exp() - onehot) * g[:, None]


def input_grad_reference(
    x: torch.Tensor, w: torch.Tensor, *rest: torch.Tensor, transpose_w: bool = False, **_: Any
) -> tuple[torch.Tensor]:
    w = w.mT if transpose_w else w
    return (_logits_grad(x, w, *rest) @ w.mT,)


def weight_grad_reference(
    x: torch.Tensor, w: torch.Tensor, *rest: torch.Tensor, transpose_w: bool = False, **_: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    dz = _logits_grad(x, w.mT if transpose_w else w, *rest)
    return dz.mT @ x if transpose_w else x.mT @ dz, dz.sum(0)


@dataclass(frozen=True)
class LinearLossGradConfig:
    """Tiles of block_m rows by block_n classes, made block_k deep at a time, and multiplied ``chunk`` of
    the depth at a time; ``shares`` programs for the classes of a row of x's gradient."""

    block_m: int = dimension(16, 32, 64, 128, default=64)
    block_n: int = dimension(16, 32, 64, 128, default=64)
    block_k: int = dimension(16, 32, 64, 128, default=32)
    chunk: int = dimension(16, 32, 64, 128, 256, default=128)
    shares: int = dimension(1, 2, 4, 8, 16, 32, default=1)
    num_warps: int = dimension(4, 8, default=8)
    num_stages: int = dimension(1, 2, 3, default=2)


def _chunks(problem: Problem, config: LinearLossGradConfig) -> int:
    """How many chunks of the depth a program adds up."""
    return ceil_div(_held(problem), config.chunk)


def _parts(problem: Problem, config: LinearLossGradConfig) -> int:
    """How many programs share the depth."""
    return ceil_div(head_size(problem).k, _chunks(problem, config) * config.chunk)


def times_made(problem: Problem) -> int:
    """How often either gradient makes the logits."""
    return max(ceil_div(head_size(problem).k, DEEPEST[is_vector(problem)]), 1)


def _held(problem: Problem) -> int:
    """What a program adds up of the depth: equal parts of it."""
    return ceil_div(head_size(problem).k, times_made(problem))


def _constexprs(problem: Problem, config: LinearLossGradConfig, *written: TensorSpec) -> dict:
    return {
        **head_constexprs(problem, config, *written),
        "CHUNKS": _chunks(problem, config),
        "CHUNK": config.chunk,
    }


def _plan_input(problem: Problem, config: LinearLossGradConfig, epilogue: Epilogue) -> Program:
    size = head_size(problem)
    tiles_m = ceil_div(size.m, config.block_m)

    def launch(stage: Epilogue, split: int) -> Launch:
        partials = TensorSpec((split, size.m, size.k), "float32")
        return Launch(
            kernel=linear_cross_entropy_input_grad_kernel,
            pointers={**{name: name for name in GRAD_OPERANDS}, **stage.pointers},
            constexprs={
                **_constexprs(problem, config, partials),
                "EPILOGUE": stage.function,
                "SPLIT": split,
            },
            grid=(tiles_m, split, _parts(problem, config)),
            num_warps=config.num_warps,
            num_stages=config.num_stages,
        )

    return gemm_program(launch, size.m, size.k, tiles_m, config.shares, epilogue)


def _plan_weight(problem: Problem, config: LinearLossGradConfig, epilogue: Epilogue) -> Program:
    launch = Launch(
        kernel=linear_cross_entropy_weight_grad_kernel,
        pointers={name: name for name in GRAD_OPERANDS} | {"dw": "out0", "dbias": "dbias"},
        constexprs=_constexprs(problem, config),
        grid=(ceil_div(head_size(problem).n, config.block_n), _parts(problem, config), 1),
        num_warps=config.num_warps,
        num_stages=config.num_stages,
    )
    return Program((launch,))


def _most_sums(problem: Problem) -> int:
    """That a thread may hold: more spill, as compiled for sm_80, sm_90 and sm_100."""
    return 24 if is_vector(problem) else 64


def _refuse(
    owned: str, config: LinearLossGradConfig, problem: Problem, device: Device
) -> str | None:
    size, threads = head_size(problem), 32 * config.num_warps
    if reason := refuse_tiles(config, problem, device):
        return reason
    if config.shares > (ceil_div(size.n, config.block_n) if owned == "rows" else 1):
        return "more shares than there are tiles to add up"
    if config.chunk > 16 and config.chunk >= 2 * next_power_of_two(size.k):
        return "a chunk more than half empty"
    block = config.block_m if owned == "rows" else config.block_n
    other = config.block_n if owned == "rows" else config.block_m
    sums = block * config.chunk * _chunks(problem, config) // threads
    if sums > _most_sums(problem):
        return f"{sums} sums in each thread spill"
    if is_vector(problem) and other > 32:
        return "a product without tensor cores unrolls what it adds up: more than 32 spills"
    return None


def _guess(owned: str, problem: Problem, device: Device) -> LinearLossGradConfig:
    """As many of the owned rows, or classes, as leave room for the sums; then shares of the classes."""
    size, vector = head_size(problem), is_vector(problem)
    chunk = min(max(next_power_of_two(size.k), 16), 64 if vector else 128)
    held = ceil_div(_held(problem), chunk) * chunk
    num_warps, most = 8, 32 * 8 * _most_sums(problem)
    mine, other = (size.m, size.n) if owned == "rows" else (size.n, size.m)
    block = min(max(next_power_of_two(mine), 16), 64)
    while block > 16 and block * held > most:
        block //= 2
    # Where sums take most registers, tiles of 64 beside them spill a few bytes.
    wide = 32 if vector or 2 * block * held > most else 64
    beside = min(max(next_power_of_two(other), 16), wide)
    block_m, block_n = (block, beside) if owned == "rows" else (beside, block)
    block_k = min(max(next_power_of_two(size.k), 16), 16 if vector else 64)
    shares, programs = 1, ceil_div(size.m, block_m) * ceil_div(size.k, held)
    while (
        owned == "rows"
        and programs * shares < device.multiprocessors
        and shares < 32
        and 2 * shares <= ceil_div(size.n, block_n)
    ):
        shares *= 2
    return LinearLossGradConfig(block_m, block_n, block_k, chunk, shares, num_warps, 2)


def _space(owned: str) -> Space:
    return Space(
        LinearLossGradConfig,
        lambda config, problem, device: _refuse(owned, config, problem, device),
        lambda problem, device: _guess(owned, problem, device),
    )


def _infer_input(problem: Problem) -> tuple[TensorSpec, ...]:
    return (problem.operands[0],)


def _infer_weight(problem: Problem) -> tuple[TensorSpec, ...]:
    return problem.operands[1], TensorSpec((head_size(problem).n,), problem.dtype(2))


def grad_flops(problem: Problem) -> int:
    """Of one of the two: a product, and the logits as often as they are made for it."""
    size = head_size(problem)
    return (1 + times_made(problem)) * size.flops + 4 * size.m * size.n


def _work(problem: Problem, made: tuple[TensorSpec, ...]) -> Work:
    return Work(sum(spec.bytes for spec in (*problem.operands, *made)), grad_flops(problem))


linear_cross_entropy_input_grad = register(
    KernelSpec(
        name="linear_cross_entropy_input_grad",
        operands=GRAD_OPERANDS,
        results=("out0",),
        kernels=(linear_cross_entropy_input_grad_kernel,),
        infer=_infer_input,
        plan=_plan_input,
        reference=input_grad_reference,
        space=_space("rows"),
        cases=cases(("lse", "g")),
        work=lambda problem: _work(problem, _infer_input(problem)),
        supports=unsupported,
    )
)

linear_cross_entropy_weight_grad = register(
    KernelSpec(
        name="linear_cross_entropy_weight_grad",
        operands=GRAD_OPERANDS,
        results=("out0", "dbias"),
        kernels=(linear_cross_entropy_weight_grad_kernel,),
        infer=_infer_weight,
        plan=_plan_weight,
        reference=weight_grad_reference,
        space=_space("classes"),
        cases=cases(("lse", "g")),
        work=lambda problem: _work(problem, _infer_weight(problem)),
        supports=unsupported,
        epilogues=False,
    )
)
