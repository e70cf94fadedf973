"""2-D max and average pooling of NHWC images, and their gradients in gather form (no atomics).

Padding never counts: it loses every maximum and is left out of every average.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
import triton
import triton.language as tl

from .device import Device
from .launch import Epilogue, Launch, Program
from .problem import Problem, TensorSpec, Work, ceil_div, wide
from .rows import FLOATS, accumulation_type
from .space import Space, dimension
from .spec import KernelSpec, register


@dataclass(frozen=True)
class PoolConfig:
    """How many result elements one program computes."""

    block: int = dimension(128, 256, 512, 1024, 2048, default=512)
    num_warps: int = dimension(2, 4, 8, default=4)


@triton.jit
def max_pool2d_kernel(
    x,
    y,
    index,
    N,
    H,
    W,
    C: tl.constexpr,
    OH,
    OW,
    KH: tl.constexpr,
    KW: tl.constexpr,
    STRIDE_H: tl.constexpr,
    STRIDE_W: tl.constexpr,
    PAD_TOP: tl.constexpr,
    PAD_LEFT: tl.constexpr,
    INDEX: tl.constexpr,
    ACC: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """The largest element of a window and its place kh * KW + kw: the first, or the first NaN."""
    place = tl.program_id(0).to(INDEX) * BLOCK + tl.arange(0, BLOCK).to(INDEX)
    present = place < N * OH * OW * C
    channel = place % C
    image = place // (OH * OW * C)
    top = place // (OW * C) % OH * STRIDE_H - PAD_TOP
    left = place // C % OW * STRIDE_W - PAD_LEFT
    best = tl.full((BLOCK,), -float("inf"), dtype=ACC)
    first = tl.full((BLOCK,), -1, dtype=tl.int32)
    for tap in tl.range(0, KH * KW):
        row = top + tap // KW
        col = left + tap % KW
        inside = present & (row >= 0) & (row < H) & (col >= 0) & (col < W)
        pixel = x + ((image * H + row) * W + col) * C + channel
        value = tl.load(pixel, mask=inside, other=0.0).to(ACC)
        # The first element inside always counts, so that a window of -inf has a place too.
        better = (first < 0) | (value > best) | ((value != value) & (best == best))
        best = tl.where(inside & better, value, best)
        first = tl.where(inside & better, tap, first)
    tl.store(y + place, best.to(y.dtype.element_ty), mask=present)
    tl.store(index + place, first, mask=present)


@triton.jit
def max_pool2d_grad_kernel(
    g,
    index,
    out,
    N,
    H,
    W,
    C: tl.constexpr,
    OH,
    OW,
    KH: tl.constexpr,
    KW: tl.constexpr,
    STRIDE_H: tl.constexpr,
    STRIDE_W: tl.constexpr,
    PAD_TOP: tl.constexpr,
    PAD_LEFT: tl.constexpr,
    INDEX: tl.constexpr,
    ACC: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Each image element collects the gradients of the windows whose maximum it was."""
    place = tl.program_id(0).to(INDEX) * BLOCK + tl.arange(0, BLOCK).to(INDEX)
    present = place < N * H * W * C
    channel = place % C
    image = place // (H * W * C)
    row = place // (W * C) % H + PAD_TOP
    col = place // C % W + PAD_LEFT
    total = tl.zeros((BLOCK,), dtype=ACC)
    for tap in tl.range(0, KH * KW):
        up = row - tap // KW
        across = col - tap % KW
        oh = up // STRIDE_H
        ow = across // STRIDE_W
        met = present & (up >= 0) & (up % STRIDE_H == 0) & (oh < OH)
        met = met & (across >= 0) & (across % STRIDE_W == 0) & (ow < OW)
        window = ((image * OH + oh) * OW + ow) * C + channel
        chosen = met & (tl.load(index + window, mask=met, other=-1) == tap)
        total += tl.load(g + window, mask=chosen, other=0.0).to(ACC)
    tl.store(out + place, total.to(out.dtype.element_ty), mask=present)


@triton.jit
def avg_pool2d_kernel(
    x,
    y,
    N,
    H,
    W,
    C: tl.constexpr,
    OH,
    OW,
    KH: tl.constexpr,
    KW: tl.constexpr,
    STRIDE_H: tl.constexpr,
    STRIDE_W: tl.constexpr,
    PAD_TOP: tl.constexpr,
    PAD_LEFT: tl.constexpr,
    INDEX: tl.constexpr,
    ACC: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """The mean of the image elements in each window."""
    place = tl.program_id(0).to(INDEX) * BLOCK + tl.arange(0, BLOCK).to(INDEX)
    present = place < N * OH * OW * C
    channel = place % C
    image = place // (OH * OW * C)
    top = place // (OW * C) % OH * STRIDE_H - PAD_TOP
    left = place // C % OW * STRIDE_W - PAD_LEFT
    total = tl.zeros((BLOCK,), dtype=ACC)
    for tap in tl.range(0, KH * KW):
        row = top + tap // KW
        col = left + tap % KW
        inside = present & (row >= 0) & (row < H) & (col >= 0) & (col < W)
        pixel = x + ((image * H + row) * W + col) * C + channel
        total += tl.load(pixel, mask=inside, other=0.0).to(ACC)
    count = window_size(top, left, H, W, KH, KW).to(ACC)
    tl.store(y + place, (total / count).to(y.dtype.element_ty), mask=present)


@triton.jit
def avg_pool2d_grad_kernel(
    g,
    out,
    N,
    H,
    W,
    C: tl.constexpr,
    OH,
    OW,
    KH: tl.constexpr,
    KW: tl.constexpr,
    STRIDE_H: tl.constexpr,
    STRIDE_W: tl.constexpr,
    PAD_TOP: tl.constexpr,
    PAD_LEFT: tl.constexpr,
    INDEX: tl.constexpr,
    ACC: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Each image element collects its share of the gradients of the windows it lies in."""
    place = tl.program_id(0).to(INDEX) * BLOCK + tl.arange(0, BLOCK).to(INDEX)
    present = place < N * H * W * C
    channel = place % C
    image = place // (H * W * C)
    row = place // (W * C) % H + PAD_TOP
    col = place // C % W + PAD_LEFT
    total = tl.zeros((BLOCK,), dtype=ACC)
    for tap in tl.range(0, KH * KW):
        up = row - tap // KW
        across = col - tap % KW
        oh = up // STRIDE_H
        ow = across // STRIDE_W
        met = present & (up >= 0) & (up % STRIDE_H == 0) & (oh < OH)
        met = met & (across >= 0) & (across % STRIDE_W == 0) & (ow < OW)
        window = ((image * OH + oh) * OW + ow) * C + channel
        top = oh * STRIDE_H - PAD_TOP
        left = ow * STRIDE_W - PAD_LEFT
        count = tl.where(met, window_size(top, left, H, W, KH, KW), 1).to(ACC)
        total += tl.load(g + window, mask=met, other=0.0).to(ACC) / count
    tl.store(out + place, total.to(out.dtype.element_ty), mask=present)


@triton.jit
def window_size(top, left, H, W, KH: tl.constexpr, KW: tl.constexpr):
    """How many image elements the window with this corner holds."""
    rows = tl.minimum(top + KH, H) - tl.maximum(top, 0)
    cols = tl.minimum(left + KW, W) - tl.maximum(left, 0)
    return rows * cols


def _padded(x: torch.Tensor, pads: tuple[int, int, int, int], value: float) -> torch.Tensor:
    top, bottom, left, right = pads
    return F.pad(x.permute(0, 3, 1, 2), (left, right, top, bottom), value=value)


def _windows(x: torch.Tensor, window: Any, strides: Any, pads: Any, value: float) -> torch.Tensor:
    """[N, OH, OW, C, KH * KW]: every window's elements, padding filled with ``value``."""
    images = _padded(x, pads, value)
    views = images.unfold(2, window[0], strides[0]).unfold(3, window[1], strides[1])
    return views.permute(0, 2, 3, 1, 4, 5).flatten(4)


def max_pool2d_reference(
    x: torch.Tensor, window: Any, strides: Any, pads: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    values = _windows(x, window, strides, pads, -float("inf"))
    inside = _windows(torch.ones_like(x), window, strides, pads, 0.0) > 0
    # Rank: padding below everything, NaN above everything; argmax takes the first of equals.
    finite = values.nan_to_num(nan=0.0, posinf=None, neginf=None)
    order = torch.where(values.isinf(), values.sign() * torch.finfo(x.dtype).max, finite)
    order = torch.where(inside, order, -float("inf"))
    order = torch.where(values.isnan(), float("inf"), order)
    index = order.argmax(-1)
    return values.gather(-1, index[..., None])[..., 0], index.to(torch.int32)


def max_pool2d_grad_reference(
    g: torch.Tensor, index: torch.Tensor, x_shape: Any, window: Any, strides: Any, pads: Any
) -> tuple[torch.Tensor, ...]:
    x = g.new_zeros(x_shape, requires_grad=True)
    values = _windows(x, window, strides, pads, 0.0)
    chosen = values.gather(-1, index.long()[..., None])[..., 0]
    return torch.autograd.grad(chosen, x, g)


def avg_pool2d_reference(
    x: torch.Tensor, window: Any, strides: Any, pads: Any
) -> tuple[torch.Tensor, ...]:
    total = _windows(x, window, strides, pads, 0.0).sum(-1)
    return (total / _windows(torch.ones_like(x), window, strides, pads, 0.0).sum(-1),)


def avg_pool2d_grad_reference(
    g: torch.Tensor, x_shape: Any, window: Any, strides: Any, pads: Any
) -> tuple[torch.Tensor, ...]:
    x = g.new_zeros(x_shape, requires_grad=True)
    (y,) = avg_pool2d_reference(x, window, strides, pads)
    return torch.autograd.grad(y, x, g)


def _x_shape(problem: Problem) -> tuple[int, ...]:
    return problem.attrs.get("x_shape", problem.shape(0))


def _y_shape(problem: Problem) -> tuple[int, int, int, int]:
    n, h, w, c = _x_shape(problem)
    window: Any = problem.attrs["window"]
    strides: Any = problem.attrs["strides"]
    top, bottom, left, right = problem.attrs["pads"]
    oh = (h + top + bottom - window[0]) // strides[0] + 1
    ow = (w + left + right - window[1]) // strides[1] + 1
    return n, oh, ow, c


def _supports(problem: Problem) -> str | None:
    if problem.dtype() not in FLOATS:
        return f"images of {problem.dtype()}; allowed: {', '.join(FLOATS)}"
    window: Any = problem.attrs["window"]
    pads: Any = problem.attrs["pads"]
    if max(pads[:2]) >= window[0] or max(pads[2:]) >= window[1]:
        return f"pads {pads} leave windows {window} with no image element"
    return None


def _plan(
    kernel: triton.JITFunction,
    pointers: dict[str, str],
    gradient: bool,
    problem: Problem,
    config: PoolConfig,
    epilogue: Epilogue,
) -> Program:
    n, h, w, c = _x_shape(problem)
    _, oh, ow, _ = _y_shape(problem)
    window: Any = problem.attrs["window"]
    strides: Any = problem.attrs["strides"]
    pads: Any = problem.attrs["pads"]
    x, y = TensorSpec((n, h, w, c), problem.dtype()), TensorSpec((n, oh, ow, c), problem.dtype())
    launch = Launch(
        kernel=kernel,
        pointers=pointers,
        constexprs={
            "N": n, "H": h, "W": w, "C": c, "OH": oh, "OW": ow, "KH": window[0], "KW": window[1],
            "STRIDE_H": strides[0], "STRIDE_W": strides[1],
            "PAD_TOP": pads[0], "PAD_LEFT": pads[2],
            "INDEX": tl.int64 if wide(x, y) else tl.int32,
            "ACC": accumulation_type(problem.dtype()),
            "BLOCK": config.block,
        },
        grid=(ceil_div((x if gradient else y).size, config.block), 1, 1),
        num_warps=config.num_warps,
    )  # fmt: skip
    return Program((launch,))


def _infer(results: tuple[str, ...], gradient: bool, problem: Problem) -> tuple[TensorSpec, ...]:
    if gradient:
        return (TensorSpec(_x_shape(problem), problem.dtype()),)
    y = _y_shape(problem)
    return tuple(TensorSpec(y, "int32" if name == "index" else problem.dtype()) for name in results)


def _guess(problem: Problem, device: Device) -> PoolConfig:
    # One processor is the interpreter, which pays for programs, not for threads.
    return PoolConfig(2048, 8) if device.multiprocessors == 1 else PoolConfig()


def _refuse(config: PoolConfig, problem: Problem, device: Device) -> str | None:
    values = config.block // (32 * config.num_warps)
    return None if 1 <= values <= 8 else f"{values} values in each thread; allowed: 1 to 8"


WINDOWS: tuple[tuple[Any, Any, Any, Any, str], ...] = (
    ((2, 6, 4, 3), (2, 2), (2, 2), (0, 0, 0, 0), "float32"),
    ((1, 7, 5, 5), (3, 2), (2, 1), (1, 1, 0, 1), "float32"),
    ((2, 5, 5, 1), (3, 3), (1, 1), (1, 1, 1, 1), "float64"),
    ((1, 1, 1, 1), (1, 1), (1, 1), (0, 0, 0, 0), "float32"),
    ((1, 8, 7, 9), (2, 3), (3, 2), (0, 1, 1, 0), "bfloat16"),
    ((1, 8, 7, 9), (2, 3), (3, 2), (0, 1, 1, 0), "float16"),
)
"""Poolings tested: image shape, window, strides, pads, dtype."""


def _case(operands: tuple[str, ...], case: tuple[Any, Any, Any, Any, str]) -> Problem:
    x, window, strides, pads, dtype = case
    attributes = {"window": window, "strides": strides, "pads": pads}
    forward = Problem.of([(x, dtype)], **attributes)
    if operands == ("x",):
        return forward
    y = _y_shape(forward)
    specs = [(y, "int32" if name == "index" else dtype) for name in operands]
    return Problem.of(specs, x_shape=x, **attributes)


def _register(
    name: str,
    kernel: triton.JITFunction,
    pointers: dict[str, str],
    reference: Callable[..., tuple[torch.Tensor, ...]],
) -> KernelSpec:
    gradient = name.endswith("_grad")
    results = tuple(buffer for buffer in pointers.values() if buffer not in ("x", "g", "index"))
    if name == "max_pool2d":
        results = ("out0", "index")
    operands = tuple(buffer for buffer in pointers.values() if buffer not in results)
    infer = partial(_infer, results, gradient)
    return register(
        KernelSpec(
            name=name,
            operands=operands,
            results=results,
            kernels=(kernel,),
            infer=infer,
            plan=partial(_plan, kernel, pointers, gradient),
            reference=reference,
            space=Space(PoolConfig, _refuse, _guess),
            cases=tuple(_case(operands, case) for case in WINDOWS),
            work=lambda problem: Work(
                sum(spec.bytes for spec in (*problem.operands, *infer(problem))),
                problem.operands[0].size * problem.attrs["window"][0] * problem.attrs["window"][1],
            ),
            supports=_supports,
            epilogues=False,
        )
    )


max_pool2d = _register(
    "max_pool2d",
    max_pool2d_kernel,
    {"x": "x", "y": "out0", "index": "index"},
    max_pool2d_reference,
)
max_pool2d_grad = _register(
    "max_pool2d_grad",
    max_pool2d_grad_kernel,
    {"g": "g", "index": "index", "out": "out0"},
    max_pool2d_grad_reference,
)
avg_pool2d = _register(
    "avg_pool2d", avg_pool2d_kernel, {"x": "x", "y": "out0"}, avg_pool2d_reference
)
avg_pool2d_grad = _register(
    "avg_pool2d_grad", avg_pool2d_grad_kernel, {"g": "g", "out": "out0"}, avg_pool2d_grad_reference
)
