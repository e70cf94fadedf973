"""Gradients of the 2-D convolution with respect to its images and to its filters.

Both are implicit matrix products which gather: every result element is written by one program, or
is the sum of partial results in a fixed order, so gradients repeat bit for bit.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

from .conv import GEOMETRIES, Geometry, attributes, conv2d_reference, conv_plan
from .gemm import GemmConfig, GemmSize, gemm_space, grouped_tile, unsupported_dtype
from .launch import Epilogue, Program
from .problem import Problem, TensorSpec, Work, ceil_div
from .spec import KernelSpec, register


@triton.jit
def conv2d_input_grad_kernel(
    g,
    w,
    outs,
    extras,
    N,
    H,
    W,
    C: tl.constexpr,
    KH: tl.constexpr,
    KW: tl.constexpr,
    F: tl.constexpr,
    OH,
    OW,
    STRIDE_H: tl.constexpr,
    STRIDE_W: tl.constexpr,
    PAD_TOP: tl.constexpr,
    PAD_LEFT: tl.constexpr,
    DILATE_H: tl.constexpr,
    DILATE_W: tl.constexpr,
    GROUPS: tl.constexpr,
    PHASE_H: tl.constexpr,
    PHASE_W: tl.constexpr,
    LOAD_G: tl.constexpr,
    PRECISION: tl.constexpr,
    EPILOGUE: tl.constexpr,
    INDEX: tl.constexpr,
    SPLIT: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    GROUP_M: tl.constexpr,
):
    """One tile of the image gradient, for one channel group and one stride phase.

    A strided convolution meets image row h only with the filter rows kh = (h + pad) mod stride, so
    the images are cut in PHASE_H * PHASE_W interleaved grids, each with its own taps; the matrix
    is [N * ceil(H / PHASE_H) * ceil(W / PHASE_W), C / GROUPS] and the reduction runs over those
    taps and the filters.
    """
    HEIGHT = (H + PHASE_H - 1) // PHASE_H
    WIDTH = (W + PHASE_W - 1) // PHASE_W
    M = N * HEIGHT * WIDTH
    CG: tl.constexpr = C // GROUPS
    FG: tl.constexpr = F // GROUPS
    tile_m, tile_n = grouped_tile(tl.program_id(0), M, CG, BLOCK_M, BLOCK_N, GROUP_M)
    phase_w = tl.program_id(1) % PHASE_W
    phase_h = tl.program_id(1) // PHASE_W % PHASE_H
    group = (tl.program_id(1) // (PHASE_W * PHASE_H)).to(INDEX)
    share = tl.program_id(2).to(INDEX)
    m = (tile_m * BLOCK_M + tl.arange(0, BLOCK_M)).to(INDEX)[:, None]
    n = (tile_n * BLOCK_N + tl.arange(0, BLOCK_N)).to(INDEX)[None, :]
    lane = tl.arange(0, BLOCK_K).to(INDEX)
    image = m // (HEIGHT * WIDTH)
    row = m // WIDTH % HEIGHT * PHASE_H + phase_h
    col = m % WIDTH * PHASE_W + phase_w
    present = (m < M) & (row < H) & (col < W)
    first_h = (phase_h + PAD_TOP) % PHASE_H
    first_w = (phase_w + PAD_LEFT) % PHASE_W
    taps_h = (KH - first_h + PHASE_H - 1) // PHASE_H
    taps_w = (KW - first_w + PHASE_W - 1) // PHASE_W

    depths = taps_h * taps_w * FG
    steps = (depths + BLOCK_K * SPLIT - 1) // (BLOCK_K * SPLIT)
    acc = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    for step in tl.range(0, steps):
        start = (share * steps + step) * BLOCK_K
        depth = start + lane
        if FG % BLOCK_K == 0:
            # The whole step lies in one tap: scalar index arithmetic, contiguous filters.
            tap = start // FG + tl.zeros((1,), dtype=INDEX)
            filters = tl.multiple_of(start % FG, BLOCK_K) + lane
        else:
            tap = depth // FG
            filters = depth % FG
        kh = first_h + tap // taps_w * PHASE_H
        kw = first_w + tap % taps_w * PHASE_W
        up = row + PAD_TOP - (kh * DILATE_H)[None, :]
        across = col + PAD_LEFT - (kw * DILATE_W)[None, :]
        oh = up // STRIDE_H
        ow = across // STRIDE_W
        met = (up >= 0) & (up % STRIDE_H == 0) & (oh < OH)
        met = met & (across >= 0) & (across % STRIDE_W == 0) & (ow < OW)
        place = (image * OH + oh) * OW + ow
        channel = (group * FG + filters)[None, :]
        valid = met & present & (depth[None, :] < depths)
        upstream = LOAD_G(g, place, channel, place * F + channel, valid, tile_n == 0)
        weights = tl.load(
            w + ((kh * KW + kw)[:, None] * CG + n) * F + (group * FG + filters)[:, None],
            mask=(depth[:, None] < depths) & (n < CG),
            other=0.0,
        )
        acc = tl.dot(upstream, weights, acc, input_precision=PRECISION)

    rows = (image * H + row) * W + col
    cols = group * CG + n
    offset = (share * N * H * W + rows) * C + cols
    part = tile_m * (PHASE_H * PHASE_W) + phase_h * PHASE_W + phase_w
    EPILOGUE(acc, rows, cols, offset, present & (n < CG), outs, extras, part)


@triton.jit
def conv2d_kernel_grad_kernel(
    g,
    x,
    outs,
    extras,
    N,
    H,
    W,
    C: tl.constexpr,
    KH: tl.constexpr,
    KW: tl.constexpr,
    F: tl.constexpr,
    OH,
    OW,
    STRIDE_H: tl.constexpr,
    STRIDE_W: tl.constexpr,
    PAD_TOP: tl.constexpr,
    PAD_LEFT: tl.constexpr,
    DILATE_H: tl.constexpr,
    DILATE_W: tl.constexpr,
    GROUPS: tl.constexpr,
    LOAD_G: tl.constexpr,
    LOAD_X: tl.constexpr,
    PRECISION: tl.constexpr,
    EPILOGUE: tl.constexpr,
    INDEX: tl.constexpr,
    SPLIT: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    GROUP_M: tl.constexpr,
):
    """One tile of [KH * KW * C / GROUPS, F / GROUPS]; the reduction runs over output positions."""
    CG: tl.constexpr = C // GROUPS
    FG: tl.constexpr = F // GROUPS
    M: tl.constexpr = KH * KW * CG
    K = N * OH * OW
    tile_m, tile_n = grouped_tile(tl.program_id(0), M, FG, BLOCK_M, BLOCK_N, GROUP_M)
    group = tl.program_id(1).to(INDEX)
    share = tl.program_id(2).to(INDEX)
    m = (tile_m * BLOCK_M + tl.arange(0, BLOCK_M)).to(INDEX)[:, None]
    n = (tile_n * BLOCK_N + tl.arange(0, BLOCK_N)).to(INDEX)[None, :]
    lane = tl.arange(0, BLOCK_K).to(INDEX)
    tap = m // CG
    channel = group * CG + m % CG
    dy = tap // KW * DILATE_H - PAD_TOP
    dx = tap % KW * DILATE_W - PAD_LEFT
    cols = group * FG + n

    steps = (K + BLOCK_K * SPLIT - 1) // (BLOCK_K * SPLIT)
    acc = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    for step in tl.range(0, steps):
        position = (share * steps + step) * BLOCK_K + lane
        image = (position // (OH * OW))[None, :]
        row = (position // OW % OH * STRIDE_H)[None, :] + dy
        col = (position % OW * STRIDE_W)[None, :] + dx
        inside = (row >= 0) & (row < H) & (col >= 0) & (col < W)
        pixel = (image * H + row) * W + col
        valid = inside & (m < M) & (position[None, :] < K)
        pixels = LOAD_X(x, pixel, channel, pixel * C + channel, valid, tile_n == 0)
        place = position[:, None]
        upstream = LOAD_G(g, place, cols, place * F + cols, (place < K) & (n < FG), tile_m == 0)
        acc = tl.dot(pixels, upstream, acc, input_precision=PRECISION)

    offset = (share * M + m) * F + cols
    EPILOGUE(acc, m, cols, offset, (m < M) & (n < FG), outs, extras, tile_m)


def conv2d_input_grad_reference(
    g: torch.Tensor, w: torch.Tensor, x_shape: tuple[int, int, int, int], **attrs: Any
) -> tuple[torch.Tensor, ...]:
    x = g.new_zeros(x_shape, requires_grad=True)
    (y,) = conv2d_reference(x, w, **attrs)
    return torch.autograd.grad(y, x, g)


def conv2d_kernel_grad_reference(
    g: torch.Tensor, x: torch.Tensor, w_shape: tuple[int, int, int, int], **attrs: Any
) -> tuple[torch.Tensor, ...]:
    w = g.new_zeros(w_shape, requires_grad=True)
    (y,) = conv2d_reference(x, w, **attrs)
    return torch.autograd.grad(y, w, g)


def _input_geometry(problem: Problem) -> Geometry:
    return Geometry.of(problem.attrs["x_shape"], problem.shape(1), problem)


def _kernel_geometry(problem: Problem) -> Geometry:
    return Geometry.of(problem.shape(1), problem.attrs["w_shape"], problem)


def _phases(geometry: Geometry) -> tuple[int, int]:
    """How many interleaved grids the images are cut in: the strides, where filters are dense."""
    pairs = zip(geometry.strides, geometry.dilations, strict=True)
    height, width = (stride if dilation == 1 else 1 for stride, dilation in pairs)
    return height, width


def _input_size(problem: Problem) -> GemmSize:
    geometry = _input_geometry(problem)
    high, across = _phases(geometry)
    n, h, w, _ = geometry.x
    kh, kw, c, f = geometry.filters
    taps = ceil_div(kh, high) * ceil_div(kw, across)
    return GemmSize(
        m=n * ceil_div(h, high) * ceil_div(w, across),
        n=c,
        k=taps * (f // geometry.groups),
        batch=geometry.groups * high * across,
    )


def _kernel_size(problem: Problem) -> GemmSize:
    geometry = _kernel_geometry(problem)
    n, oh, ow, f = geometry.y
    kh, kw, c, _ = geometry.filters
    return GemmSize(kh * kw * c, f // geometry.groups, n * oh * ow, geometry.groups)


def _plan_input(problem: Problem, config: GemmConfig, epilogue: Epilogue) -> Program:
    geometry = _input_geometry(problem)
    n, h, w, c = geometry.x
    size = _input_size(problem)
    high, across = _phases(geometry)
    constexprs = {**geometry.constexprs(), "PHASE_H": high, "PHASE_W": across}
    kernel, operands, loads = conv2d_input_grad_kernel, ("g", "w"), ("g",)
    result = n * h * w, c
    return conv_plan(kernel, operands, loads, constexprs, size, result, problem, config, epilogue)


def _plan_kernel(problem: Problem, config: GemmConfig, epilogue: Epilogue) -> Program:
    geometry = _kernel_geometry(problem)
    size = _kernel_size(problem)
    result = (size.m, geometry.filters[3])
    kernel, constexprs, loads = conv2d_kernel_grad_kernel, geometry.constexprs(), ("g", "x")
    return conv_plan(kernel, loads, loads, constexprs, size, result, problem, config, epilogue)


def _infer_input(problem: Problem) -> tuple[TensorSpec, ...]:
    return (TensorSpec(_input_geometry(problem).x, problem.dtype()),)


def _infer_kernel(problem: Problem) -> tuple[TensorSpec, ...]:
    return (TensorSpec(_kernel_geometry(problem).filters, problem.dtype()),)


conv2d_input_grad = register(
    KernelSpec(
        name="conv2d_input_grad",
        operands=("g", "w"),
        results=("out0",),
        kernels=(conv2d_input_grad_kernel,),
        infer=_infer_input,
        plan=_plan_input,
        reference=conv2d_input_grad_reference,
        space=gemm_space(_input_size, vector_results=16),
        cases=tuple(
            Problem.of([(g.y, dtype), (g.filters, dtype)], x_shape=g.x, **attributes(g))
            for g, dtype in GEOMETRIES
        ),
        work=lambda problem: Work(
            sum(spec.bytes for spec in (*problem.operands, *_infer_input(problem))),
            _input_geometry(problem).flops,
        ),
        supports=lambda problem: (
            unsupported_dtype(problem) or _input_geometry(problem).unsupported()
        ),
        prologues=("g",),
        keeps=lambda problem: _input_geometry(problem).is_plain(),
    )
)

conv2d_kernel_grad = register(
    KernelSpec(
        name="conv2d_kernel_grad",
        operands=("g", "x"),
        results=("out0",),
        kernels=(conv2d_kernel_grad_kernel,),
        infer=_infer_kernel,
        plan=_plan_kernel,
        reference=conv2d_kernel_grad_reference,
        space=gemm_space(_kernel_size, vector_results=16),
        cases=tuple(
            Problem.of([(g.y, dtype), (g.x, dtype)], w_shape=g.filters, **attributes(g))
            for g, dtype in GEOMETRIES
        ),
        work=lambda problem: Work(
            sum(spec.bytes for spec in (*problem.operands, *_infer_kernel(problem))),
            _kernel_geometry(problem).flops,
        ),
        supports=lambda problem: (
            unsupported_dtype(problem) or _kernel_geometry(problem).unsupported()
        ),
        prologues=("g", "x"),
        keeps=lambda problem: _kernel_geometry(problem).is_plain(),
    )
)
