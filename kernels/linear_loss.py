"""Cross-entropy of a last product, rows by classes, whose logits never reach memory.

A program computes tile after tile of ``x w + bias`` and keeps of each row a running maximum, the sum of
exponentials below it, the target's logit and the place of the maximum (Milakov and Gimelshein 2018,
"Online normalizer calculation for softmax"). Programs share a row's classes where there are few rows; a
second kernel puts their shares together in a fixed order.

Logits are float32, whatever the operands are. A target outside [0, classes) makes the row's loss NaN.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl

from .device import Device
from .gemm import FLOATS, GemmSize, precision_of, unsupported_dtype
from .launch import Epilogue, Launch, Program
from .problem import ITEM_BYTES, Problem, TensorSpec, Work, ceil_div, next_power_of_two, wide
from .space import Space, dimension
from .spec import KernelSpec, register

OPERANDS = ("x", "w", "bias", "target")
SHARES = ("highest", "total", "chosen", "place", "odd")
"""What a program knows of a row's share of the classes: the largest logit, the sum of exponentials
relative to it, the target's logit (0 elsewhere), the first place of the largest, and of a NaN."""
COMBINED = 128
"""Rows that a program of the second kernel puts together."""


@triton.jit
def logits_tile(
    x,
    w,
    bias,
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
    """The logits of rows ``m`` [BLOCK_M, 1] and classes ``n`` [1, BLOCK_N]; beyond them, any number.

    ``w`` has the strides ``W_ROW, W_COL``, ``bias`` one element for each class or, with a step of 0, one
    for all.
    """
    k = tl.arange(0, BLOCK_K).to(INDEX)
    acc = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    for start in tl.range(0, DEPTH, BLOCK_K):
        depth = start + k
        a_mask, b_mask = m < ROWS, n < COLS
        if not EVEN:
            a_mask = a_mask & (depth[None, :] < DEPTH)
            b_mask = b_mask & (depth[:, None] < DEPTH)
        left = tl.load(x + m * DEPTH + depth[None, :], mask=a_mask, other=0.0)
        right = tl.load(w + depth[:, None] * W_ROW + n * W_COL, mask=b_mask, other=0.0)
        acc = tl.dot(left, right, acc, input_precision=PRECISION)
    return acc + tl.load(bias + n * BIAS_STEP, mask=n < COLS, other=0.0).to(tl.float32)


@triton.jit
def joined_sum(highest, total, other, more):
    """The larger of two maxima, and both sums of exponentials relative to it.

    Beside an infinite maximum exponentials are relative to 0: inf - inf would be NaN.
    """
    higher = tl.maximum(highest, other)
    pivot = tl.where(tl.abs(higher) == float("inf"), 0.0, higher)
    before = tl.where(tl.abs(highest) == float("inf"), 0.0, highest)
    after = tl.where(tl.abs(other) == float("inf"), 0.0, other)
    # A sum of nothing is 0, however far its pivot of 0 lies above.
    old = tl.where(highest == -float("inf"), 0.0, total * tl.exp(before - pivot))
    new = tl.where(other == -float("inf"), 0.0, more * tl.exp(after - pivot))
    # But NaN, which no maximum shows, stays.
    return higher, tl.where(total != total, total, old) + tl.where(more != more, more, new)


@triton.jit
def linear_cross_entropy_kernel(
    x,
    w,
    bias,
    target,
    highest,
    total,
    chosen,
    place,
    odd,
    ROWS,
    COLS,
    DEPTH,
    W_ROW,
    W_COL,
    BIAS_STEP: tl.constexpr,
    EVEN: tl.constexpr,
    PRECISION: tl.constexpr,
    INDEX: tl.constexpr,
    SHARES: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """What ``BLOCK_M`` rows show in one of SHARES shares of the classes; results are [SHARES, ROWS]."""
    share = tl.program_id(1)
    m = (tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)).to(INDEX)[:, None]
    lane = tl.arange(0, BLOCK_N)[None, :]
    label = tl.load(target + m, mask=m < ROWS, other=-1)
    most = tl.full((BLOCK_M, 1), -float("inf"), dtype=tl.float32)
    sums = tl.zeros((BLOCK_M, 1), dtype=tl.float32)
    hit = tl.zeros((BLOCK_M, 1), dtype=tl.float32)
    best = tl.full((BLOCK_M, 1), COLS, dtype=tl.int32)
    nan = tl.full((BLOCK_M, 1), COLS, dtype=tl.int32)
    tiles = (COLS + BLOCK_N * SHARES - 1) // (BLOCK_N * SHARES)
    for tile in tl.range(0, tiles):
        n = (share * tiles + tile) * BLOCK_N + lane
        z = logits_tile(
            x, w, bias, m, n.to(INDEX), ROWS, COLS, DEPTH, W_ROW, W_COL, BIAS_STEP, EVEN,
            PRECISION, INDEX, BLOCK_M, BLOCK_N, BLOCK_K,
        )  # fmt: skip
        z = tl.where(n < COLS, z, -float("inf"))
        number = tl.where(z == z, z, -float("inf"))
        top = tl.max(number, axis=1, keep_dims=True)
        pivot = tl.where(tl.abs(top) == float("inf"), 0.0, top)
        chunk = tl.sum(tl.exp(z - pivot), axis=1, keep_dims=True)
        first = tl.min(tl.where((number == top) & (n < COLS), n, COLS), axis=1, keep_dims=True)
        best = tl.where((top > most) | (best == COLS), first, best)
        nan = tl.minimum(nan, tl.min(tl.where(z == z, COLS, n), axis=1, keep_dims=True))
        hit += tl.sum(tl.where(n == label, z, 0.0), axis=1, keep_dims=True)
        most, sums = joined_sum(most, sums, top, chunk)
    offset, present = share * ROWS + m, m < ROWS
    tl.store(highest + offset, most, mask=present)
    tl.store(total + offset, sums, mask=present)
    tl.store(chosen + offset, hit, mask=present)
    tl.store(place + offset, best, mask=present)
    tl.store(odd + offset, nan, mask=present)


@triton.jit
def combine_shares_kernel(
    highest,
    total,
    chosen,
    place,
    odd,
    target,
    loss,
    lse,
    best,
    ROWS,
    COLS,
    SHARES: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """The results of rows from what their shares show, in the order of the classes."""
    rows = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    present = rows < ROWS
    most = tl.full((BLOCK,), -float("inf"), dtype=tl.float32)
    sums = tl.zeros((BLOCK,), dtype=tl.float32)
    hit = tl.zeros((BLOCK,), dtype=tl.float32)
    found = tl.full((BLOCK,), COLS, dtype=tl.int32)
    nan = tl.full((BLOCK,), COLS, dtype=tl.int32)
    for share in tl.range(0, SHARES):
        offset = share * ROWS + rows
        top = tl.load(highest + offset, mask=present, other=0.0)
        first = tl.load(place + offset, mask=present, other=0)
        found = tl.where((top > most) | (found == COLS), first, found)
        nan = tl.minimum(nan, tl.load(odd + offset, mask=present, other=0))
        hit += tl.load(chosen + offset, mask=present, other=0.0)
        more = tl.load(total + offset, mask=present, other=0.0)
        most, sums = joined_sum(most, sums, top, more)
    log_total = tl.where(tl.abs(most) == float("inf"), 0.0, most) + tl.log(sums)
    label = tl.load(target + rows, mask=present, other=0)
    known = (label >= 0) & (label < COLS)
    tl.store(loss + rows, tl.where(known, log_total - hit, float("nan")), mask=present)
    tl.store(lse + rows, log_total, mask=present)
    tl.store(best + rows, tl.where(nan < COLS, nan, found).to(tl.int64), mask=present)


def linear_cross_entropy_reference(
    x: torch.Tensor,
    w: torch.Tensor,
    bias: torch.Tensor,
    target: torch.Tensor,
    transpose_w: bool = False,
    precision: str = "ieee",
) -> tuple[torch.Tensor, ...]:
    logits = x @ (w.mT if transpose_w else w) + bias
    lse = torch.logsumexp(logits, -1)
    return lse - logits.gather(1, target[:, None])[:, 0], lse, logits.argmax(-1)


@dataclass(frozen=True)
class LinearLossConfig:
    """Tiles of block_m rows by block_n classes, made block_k deep at a time; ``shares`` programs for
    the classes of a row."""

    block_m: int = dimension(16, 32, 64, 128, default=64)
    block_n: int = dimension(16, 32, 64, 128, 256, default=64)
    block_k: int = dimension(16, 32, 64, 128, default=32)
    shares: int = dimension(1, 2, 4, 8, 16, 32, default=1)
    num_warps: int = dimension(4, 8, default=4)
    num_stages: int = dimension(1, 2, 3, 4, default=3)


def head_size(problem: Problem) -> GemmSize:
    """The product that makes the logits: rows, classes, depth."""
    rows, depth = problem.shape(0)
    return GemmSize(rows, problem.shape(1)[0 if problem.attrs.get("transpose_w") else 1], depth)


def is_vector(problem: Problem) -> bool:
    """Whether products run without tensor cores."""
    return problem.dtype() == "float32" and precision_of(problem) == "ieee"


def unsupported(problem: Problem) -> str | None:
    """Why no kernel takes the operands ``x, w, bias``, or None."""
    if reason := unsupported_dtype(Problem(problem.operands[:2], problem.attributes)):
        return reason
    if problem.dtype(2) not in FLOATS:
        return f"a bias of {problem.dtype(2)}; allowed: one of {', '.join(FLOATS)}"
    size, inner = head_size(problem), problem.shape(1)[1 if problem.attrs.get("transpose_w") else 0]
    if inner != size.k or problem.shape(2) not in ((size.n,), (1,)):
        shapes = ", ".join(str(problem.shape(i)) for i in range(3))
        return f"operands of shape {shapes} make no logits"
    if size.n == 0:
        return "there are no classes"
    return None


def head_constexprs(problem: Problem, config: Any, *written: TensorSpec) -> dict[str, Any]:
    """The constants that `logits_tile` takes, for tiles of `block_m, block_n, block_k`."""
    size = head_size(problem)
    strides = (1, size.k) if problem.attrs.get("transpose_w") else (size.n, 1)
    return {
        "ROWS": size.m,
        "COLS": size.n,
        "DEPTH": size.k,
        "W_ROW": strides[0],
        "W_COL": strides[1],
        "BIAS_STEP": int(problem.shape(2) != (1,)),
        "EVEN": size.k % config.block_k == 0,
        "PRECISION": precision_of(problem),
        "INDEX": tl.int64 if wide(*problem.operands, *written) else tl.int32,
        "BLOCK_M": config.block_m,
        "BLOCK_N": config.block_n,
        "BLOCK_K": config.block_k,
    }


def _infer(problem: Problem) -> tuple[TensorSpec, ...]:
    rows = problem.shape(0)[:1]
    return TensorSpec(rows, "float32"), TensorSpec(rows, "float32"), TensorSpec(rows, "int64")


def _plan(problem: Problem, config: LinearLossConfig, epilogue: Epilogue) -> Program:
    size, names = head_size(problem), {name: name for name in SHARES}
    part = (config.shares, size.m)
    scratch = {
        name: TensorSpec(part, "int32" if name in ("place", "odd") else "float32")
        for name in SHARES
    }
    tiles = Launch(
        kernel=linear_cross_entropy_kernel,
        pointers={name: name for name in OPERANDS} | names,
        constexprs={
            **head_constexprs(problem, config, *scratch.values()),
            "SHARES": config.shares,
        },
        grid=(ceil_div(size.m, config.block_m), config.shares, 1),
        num_warps=config.num_warps,
        num_stages=config.num_stages,
        max_registers=255,
    )
    results: Mapping[str, str] = {"loss": "out0", "lse": "lse", "best": "best"}
    combine = Launch(
        kernel=combine_shares_kernel,
        pointers={**names, "target": "target", **results},
        constexprs={"ROWS": size.m, "COLS": size.n, "SHARES": config.shares, "BLOCK": COMBINED},
        grid=(ceil_div(size.m, COMBINED), 1, 1),
    )
    return Program((tiles, combine), scratch)


def _refuse(config: LinearLossConfig, problem: Problem, device: Device) -> str | None:
    size = head_size(problem)
    return refuse_tiles(config, problem, device) or (
        "fewer tiles of classes than shares"
        if config.shares > ceil_div(size.n, config.block_n)
        else None
    )


def refuse_tiles(config: Any, problem: Problem, device: Device) -> str | None:
    """Why tiles of logits are not made so, or None: of `block_m, block_n, block_k`, by stages and warps."""
    size, threads = head_size(problem), 32 * config.num_warps
    tile = (config.block_m + config.block_n) * config.block_k * ITEM_BYTES[problem.dtype()]
    if tile * config.num_stages > device.shared_bytes:
        return f"{config.num_stages} stages take {tile * config.num_stages} bytes of shared memory"
    results = config.block_m * config.block_n // threads
    if results > (16 if is_vector(problem) else 32):
        return f"{results} logits in each thread spill"
    if is_vector(problem) and config.block_k > 32:
        return "a product without tensor cores unrolls block_k: more than 32 spills"
    for block, extent in ((config.block_m, size.m), (config.block_n, size.n)):
        if block > 16 and block >= 2 * next_power_of_two(extent):
            return "a tile more than half empty"
    return None


def _guess(problem: Problem, device: Device) -> LinearLossConfig:
    """Tiles of 64 x 128, and programs for the classes of a row until they fill the device."""
    size, vector = head_size(problem), is_vector(problem)
    block_m = min(max(next_power_of_two(size.m), 16), 64)
    block_n = min(max(next_power_of_two(size.n), 16), 64 if vector else 128)
    block_k = min(max(next_power_of_two(size.k), 16), 16 if vector else 64)
    shares = 1
    while (
        ceil_div(size.m, block_m) * shares < device.multiprocessors
        and shares < 32
        and 2 * shares <= ceil_div(size.n, block_n)
    ):
        shares *= 2
    return LinearLossConfig(block_m, block_n, block_k, shares, 8, 2 if vector else 3)


def cases(extra: tuple[str, ...] = ()) -> tuple[Problem, ...]:
    """Problems worth testing; `extra` float32 values of rows after the operands."""
    found = []
    for rows, classes, depth, dtype, transposed, shared in (
        (17, 37, 19, "float32", False, False),
        (5, 65, 33, "bfloat16", False, False),
        (33, 100, 24, "float16", True, True),
        (1, 1, 1, "float32", False, True),
        (40, 21, 70, "float32", True, False),
    ):
        operands: list[tuple[tuple[int, ...], str]] = [
            ((rows, depth), dtype),
            ((classes, depth) if transposed else (depth, classes), dtype),
            ((1,) if shared else (classes,), dtype),
            ((rows,), "int64"),
            *(((rows,), "float32") for _ in extra),
        ]
        found.append(Problem.of(operands, transpose_w=transposed))
    return tuple(found)


def _work(problem: Problem) -> Work:
    size = head_size(problem)
    moved = sum(spec.bytes for spec in (*problem.operands, *_infer(problem)))
    return Work(moved, size.flops + 4 * size.m * size.n)


linear_cross_entropy = register(
    KernelSpec(
        name="linear_cross_entropy",
        operands=OPERANDS,
        results=("out0", "lse", "best"),
        kernels=(linear_cross_entropy_kernel, combine_shares_kernel),
        infer=_infer,
        plan=_plan,
        reference=linear_cross_entropy_reference,
        space=Space(LinearLossConfig, _refuse, _guess),
        cases=cases(),
        work=_work,
        supports=unsupported,
        epilogues=False,
    )
)
