"""2-D convolution as an implicit matrix product: NHWC images, HWIO filters, NHWC results.

Rows of the product are output positions (image, row, column), its columns are filters, and its
reduction runs over filter taps and channels; the unfolded image is never stored.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
import triton
import triton.language as tl

from .gemm import (
    GemmConfig,
    GemmSize,
    gemm_grid,
    gemm_program,
    gemm_space,
    grouped_tile,
    max_registers,
    operand_loads,
    operand_pointers,
    tile_constexprs,
    unsupported_dtype,
)
from .launch import Epilogue, Launch, Program
from .problem import Attribute, Problem, TensorSpec, Work, ceil_div, wide
from .spec import KernelSpec, register

SMALLEST_GROUP = 16


@triton.jit
def conv2d_kernel(
    x,
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
    """One tile of [N * OH * OW, F / GROUPS] for channel group ``program_id(1)``."""
    M = N * OH * OW
    CG: tl.constexpr = C // GROUPS
    FG: tl.constexpr = F // GROUPS
    K: tl.constexpr = KH * KW * CG
    tile_m, tile_n = grouped_tile(tl.program_id(0), M, FG, BLOCK_M, BLOCK_N, GROUP_M)
    group = tl.program_id(1).to(INDEX)
    share = tl.program_id(2).to(INDEX)
    m = (tile_m * BLOCK_M + tl.arange(0, BLOCK_M)).to(INDEX)[:, None]
    n = (tile_n * BLOCK_N + tl.arange(0, BLOCK_N)).to(INDEX)[None, :]
    lane = tl.arange(0, BLOCK_K).to(INDEX)
    image = m // (OH * OW)
    top = m // OW % OH * STRIDE_H - PAD_TOP
    left = m % OW * STRIDE_W - PAD_LEFT
    corner = (image * H + top) * W + left
    filters = w + group * FG + n

    steps: tl.constexpr = (K + BLOCK_K * SPLIT - 1) // (BLOCK_K * SPLIT)
    acc = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    for step in tl.range(0, steps):
        start = (share * steps + step) * BLOCK_K
        depth = start + lane
        if CG % BLOCK_K == 0:
            # The whole step lies in one tap: scalar index arithmetic, contiguous channels.
            tap = start // CG
            channel = tl.multiple_of(start % CG, BLOCK_K) + lane[None, :]
        else:
            tap = depth[None, :] // CG
            channel = depth[None, :] % CG
        dy = tap // KW * DILATE_H
        dx = tap % KW * DILATE_W
        inside = (top + dy >= 0) & (top + dy < H) & (left + dx >= 0) & (left + dx < W)
        pixel = corner + (dy * W + dx)
        channel += group * CG
        valid = inside & (m < M) & (depth[None, :] < K)
        pixels = LOAD_X(x, pixel, channel, pixel * C + channel, valid, tile_n == 0)
        weights = tl.load(
            filters + depth[:, None] * F, mask=(depth[:, None] < K) & (n < FG), other=0.0
        )
        acc = tl.dot(pixels, weights, acc, input_precision=PRECISION)

    cols = group * FG + n
    offset = (share * M + m) * F + cols
    EPILOGUE(acc, m, cols, offset, (m < M) & (n < FG), outs, extras, tile_m)


@dataclass(frozen=True)
class Geometry:
    """Sizes of a convolution: x [n, h, w, c], filters [kh, kw, c / groups, f], y [n, oh, ow, f]."""

    x: tuple[int, ...]
    filters: tuple[int, ...]
    strides: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilations: tuple[int, int] = (1, 1)
    groups: int = 1

    @classmethod
    def of(cls, x: tuple[int, ...], filters: tuple[int, ...], problem: Problem) -> Geometry:
        names = ("strides", "pads", "dilations", "groups")
        given = {name: problem.attrs[name] for name in names if name in problem.attrs}
        return cls(x, filters, **given)

    @property
    def y(self) -> tuple[int, int, int, int]:
        def extent(axis: int) -> int:
            padded = self.x[1 + axis] + self.pads[2 * axis] + self.pads[2 * axis + 1]
            window = (self.filters[axis] - 1) * self.dilations[axis] + 1
            return (padded - window) // self.strides[axis] + 1

        return self.x[0], extent(0), extent(1), self.filters[3]

    @property
    def flops(self) -> int:
        n, oh, ow, f = self.y
        kh, kw, c, _ = self.filters
        return 2 * n * oh * ow * f * kh * kw * c

    def unsupported(self) -> str | None:
        """Why no template does this convolution, or None."""
        if self.groups == 1:
            return None
        smallest = min(self.filters[2], self.filters[3] // self.groups)
        if smallest < SMALLEST_GROUP:
            return (
                f"groups of {smallest} channels or filters; a tile needs {SMALLEST_GROUP}, "
                "fewer leave it nearly empty"
            )
        return None

    def is_plain(self) -> bool:
        """Whether each pixel is read for one position, as by a product."""
        one = (1, 1)
        plain = self.filters[:2] == one == self.strides and not any(self.pads)
        return plain and self.groups == 1

    def constexprs(self) -> dict[str, int]:
        n, h, w, c = self.x
        kh, kw, _, f = self.filters
        _, oh, ow, _ = self.y
        return {
            "N": n, "H": h, "W": w, "C": c, "KH": kh, "KW": kw, "F": f, "OH": oh, "OW": ow,
            "STRIDE_H": self.strides[0], "STRIDE_W": self.strides[1],
            "PAD_TOP": self.pads[0], "PAD_LEFT": self.pads[2],
            "DILATE_H": self.dilations[0], "DILATE_W": self.dilations[1],
            "GROUPS": self.groups,
        }  # fmt: skip


def conv_plan(
    kernel: triton.JITFunction,
    operands: tuple[str, str],
    loads: tuple[str, ...],
    constexprs: dict[str, int],
    size: GemmSize,
    result: tuple[int, int],
    problem: Problem,
    config: GemmConfig,
    epilogue: Epilogue,
) -> Program:
    """The launches of one of the three convolution kernels, whose result is a [rows, cols] matrix.

    ``loads`` are those of the operands that may be made as they are loaded, ``constexprs`` the sizes of
    the convolution.
    """
    rows, cols = result
    # A group has columns of its own, an interleaved grid of an image gradient has not.
    grids = size.batch // constexprs["GROUPS"]
    parts = grids * ceil_div(size.m, config.block_m)

    def launch(stage: Epilogue, split: int) -> Launch:
        partials = TensorSpec((split, rows, cols), "float32")
        return Launch(
            kernel=kernel,
            pointers={**operand_pointers(operands, loads), **stage.pointers},
            constexprs={
                **constexprs,
                **operand_loads(loads),
                "INDEX": tl.int64 if wide(*problem.operands, partials) else tl.int32,
                **tile_constexprs(config, problem, stage, split),
            },
            grid=gemm_grid(size, config, split),
            num_warps=config.num_warps,
            num_stages=config.num_stages,
            max_registers=max_registers(config, problem, stage),
        )

    return gemm_program(launch, rows, cols, parts, config.split_k, epilogue)


def conv2d_reference(
    x: torch.Tensor,
    w: torch.Tensor,
    strides: tuple[int, int] = (1, 1),
    pads: tuple[int, int, int, int] = (0, 0, 0, 0),
    dilations: tuple[int, int] = (1, 1),
    groups: int = 1,
    precision: str = "ieee",
) -> tuple[torch.Tensor]:
    top, bottom, left, right = pads
    images = F.pad(x.permute(0, 3, 1, 2), (left, right, top, bottom))
    y = F.conv2d(images, w.permute(3, 2, 0, 1), None, strides, 0, dilations, groups)
    return (y.permute(0, 2, 3, 1).contiguous(),)


def _geometry(problem: Problem) -> Geometry:
    return Geometry.of(problem.shape(0), problem.shape(1), problem)


def _size(problem: Problem) -> GemmSize:
    g = _geometry(problem)
    n, oh, ow, f = g.y
    kh, kw, c, _ = g.filters
    return GemmSize(n * oh * ow, f // g.groups, kh * kw * c, g.groups)


def _supports(problem: Problem) -> str | None:
    return unsupported_dtype(problem) or _geometry(problem).unsupported()


def _infer(problem: Problem) -> tuple[TensorSpec, ...]:
    return (TensorSpec(_geometry(problem).y, problem.dtype()),)


def _plan(problem: Problem, config: GemmConfig, epilogue: Epilogue) -> Program:
    g = _geometry(problem)
    n, oh, ow, f = g.y
    result, constexprs = (n * oh * ow, f), g.constexprs()
    size = _size(problem)
    kernel, operands, loads = conv2d_kernel, ("x", "w"), ("x",)
    return conv_plan(kernel, operands, loads, constexprs, size, result, problem, config, epilogue)


def _work(problem: Problem) -> Work:
    moved = sum(spec.bytes for spec in (*problem.operands, *_infer(problem)))
    return Work(moved, _geometry(problem).flops)


GEOMETRIES: tuple[tuple[Geometry, str], ...] = (
    (Geometry((2, 7, 6, 3), (3, 3, 3, 5)), "float32"),
    (Geometry((2, 7, 6, 3), (3, 3, 3, 5), (1, 1), (1, 1, 1, 1)), "float32"),
    (Geometry((1, 8, 9, 16), (3, 2, 16, 17), (2, 3), (0, 1, 1, 0)), "float32"),
    (Geometry((1, 9, 9, 5), (3, 3, 5, 4), (2, 1), (2, 1, 0, 2), (2, 3)), "float32"),
    (Geometry((2, 5, 5, 32), (3, 3, 16, 32), (1, 1), (1, 1, 1, 1), (1, 1), 2), "float32"),
    (Geometry((1, 1, 1, 1), (1, 1, 1, 1)), "float32"),
    (Geometry((2, 6, 5, 16), (3, 3, 16, 17), (2, 2), (0, 1, 0, 1)), "bfloat16"),
    (Geometry((2, 6, 5, 16), (1, 1, 16, 17)), "float16"),
)
"""Convolutions the three kernels are tested on, with the operands' dtype."""


def attributes(geometry: Geometry) -> dict[str, Attribute]:
    return {
        "strides": geometry.strides,
        "pads": geometry.pads,
        "dilations": geometry.dilations,
        "groups": geometry.groups,
    }


conv2d = register(
    KernelSpec(
        name="conv2d",
        operands=("x", "w"),
        results=("out0",),
        kernels=(conv2d_kernel,),
        infer=_infer,
        plan=_plan,
        reference=conv2d_reference,
        space=gemm_space(_size, vector_results=16),
        cases=tuple(
            Problem.of([(g.x, dtype), (g.filters, dtype)], **attributes(g))
            for g, dtype in GEOMETRIES
        ),
        work=_work,
        supports=_supports,
        prologues=("x",),
        keeps=lambda problem: _geometry(problem).is_plain(),
    )
)
