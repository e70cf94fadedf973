"""Sums and products so far, along one axis.

A *line* is what lies along the axis at one place of the others. A program owns a few lines: those side by
side in memory, or whole ones where the axis is the last. It scans a block of each at once and goes on to the
next with what it has so far, so a line takes one read and one write, however long it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import torch
import triton
import triton.language as tl

from .device import Device
from .launch import Epilogue, Launch, Program
from .problem import Problem, TensorSpec, Work, ceil_div, next_power_of_two, wide
from .space import Space, dimension
from .spec import KernelSpec, register

FOLDS = {"sum": torch.cumsum, "prod": torch.cumprod}
"""What is folded with -> torch's op."""

DTYPES = ("float32", "float64", "int64", "int32", "int16", "int8")
"""Half floats are folded in float32, before and behind which they are cast."""


@triton.jit
def cumulate_kernel(
    x,
    y,
    OUTER,
    LENGTH,
    INNER,
    LAST: tl.constexpr,
    FOLD: tl.constexpr,
    INDEX: tl.constexpr,
    ACC: tl.constexpr,
    BLOCK_LINES: tl.constexpr,
    BLOCK_LENGTH: tl.constexpr,
):
    """``BLOCK_LINES`` lines of [OUTER, LENGTH, INNER]; with LAST, INNER is 1."""
    lane = tl.arange(0, BLOCK_LINES)[:, None]
    if LAST:
        line = tl.program_id(0) * BLOCK_LINES + lane
        begin = line.to(INDEX) * LENGTH
        there = line < OUTER
    else:
        blocks = (INNER + BLOCK_LINES - 1) // BLOCK_LINES
        line = tl.program_id(0) % blocks * BLOCK_LINES + lane
        begin = (tl.program_id(0) // blocks).to(INDEX) * LENGTH * INNER + line
        there = line < INNER
    place = tl.arange(0, BLOCK_LENGTH)[None, :]
    total = tl.full((BLOCK_LINES, 1), 0 if FOLD == "sum" else 1, dtype=ACC)
    for start in tl.range(0, LENGTH, BLOCK_LENGTH):
        at = start + place
        mask = there & (at < LENGTH)
        offset = begin + (at if LAST else at.to(INDEX) * INNER)
        value = tl.load(x + offset, mask=mask, other=0 if FOLD == "sum" else 1).to(ACC)
        if FOLD == "sum":
            made = total + tl.cumsum(value, axis=1).to(ACC)
        else:
            made = total * tl.cumprod(value, axis=1).to(ACC)
        tl.store(y + offset, made.to(y.dtype.element_ty), mask=mask)
        final = tl.where(place == BLOCK_LENGTH - 1, made, 0)
        total = tl.sum(final, axis=1, keep_dims=True).to(ACC)


def cumulate_reference(x: torch.Tensor, axis: int, fold: str) -> tuple[torch.Tensor]:
    return (FOLDS[fold](x, axis, dtype=x.dtype),)


@dataclass(frozen=True)
class CumulateConfig:
    """A program owns block_lines lines and scans block_length elements of each at once."""

    block_lines: int = dimension(1, 2, 4, 8, 16, 32, 64, 128, default=1)
    block_length: int = dimension(16, 32, 64, 128, 256, 512, 1024, 2048, 4096, default=1024)
    num_warps: int = dimension(1, 2, 4, 8, default=4)


def _lines(problem: Problem) -> tuple[int, int, int]:
    """The operand as [outer, length, inner]."""
    shape, axis = problem.shape(0), problem.attrs["axis"]
    return prod(shape[:axis]), shape[axis], prod(shape[axis + 1 :])


def _supports(problem: Problem) -> str | None:
    if problem.dtype() not in DTYPES:
        return f"elements of {problem.dtype()}; allowed: {', '.join(DTYPES)}"
    return None


def _plan(problem: Problem, config: CumulateConfig, epilogue: Epilogue) -> Program:
    outer, length, inner = _lines(problem)
    programs = ceil_div(outer, config.block_lines)
    if inner != 1:
        programs = outer * ceil_div(inner, config.block_lines)
    launch = Launch(
        kernel=cumulate_kernel,
        pointers={"x": "x", "y": "out0"},
        constexprs={
            "OUTER": outer,
            "LENGTH": length,
            "INNER": inner,
            "LAST": inner == 1,
            "FOLD": problem.attrs["fold"],
            "INDEX": tl.int64 if wide(*problem.operands) else tl.int32,
            "ACC": getattr(tl, problem.dtype()),
            "BLOCK_LINES": config.block_lines,
            "BLOCK_LENGTH": config.block_length,
        },
        grid=(programs, 1, 1),
        num_warps=config.num_warps,
    )
    return Program((launch,))


def _refuse(config: CumulateConfig, problem: Problem, device: Device) -> str | None:
    outer, length, inner = _lines(problem)
    values = config.block_lines * config.block_length // (32 * config.num_warps)
    if values > 16:
        return f"{values} values in each thread spill"
    if values == 0 and config.num_warps > 1:
        return "threads without a value"
    lines = outer if inner == 1 else inner
    for block, extent in ((config.block_lines, lines), (config.block_length, length)):
        if block > 16 and block >= 2 * next_power_of_two(extent):
            return "a tile more than half empty"
    return None


def _guess(problem: Problem, device: Device) -> CumulateConfig:
    """8 values a thread: whole lines up to 1024 elements, or 32 neighbours."""
    outer, length, inner = _lines(problem)
    room = max(next_power_of_two(length), 16)
    if inner == 1:
        block_length = min(room, 1024)
        block_lines = min(next_power_of_two(outer), max(1024 // block_length, 1))
    else:
        block_lines = min(next_power_of_two(inner), 32)
        block_length = min(room, 1024 // block_lines)
    warps = min(max(block_lines * block_length // 256, 1), 4)
    return CumulateConfig(block_lines, block_length, warps)


def _work(problem: Problem) -> Work:
    (x,) = problem.operands
    return Work(2 * x.bytes, x.size)


def _case(shape: tuple[int, ...], axis: int, dtype: str, fold: str = "sum") -> Problem:
    return Problem.of([(shape, dtype)], axis=axis, fold=fold)


def _infer(problem: Problem) -> tuple[TensorSpec, ...]:
    return problem.operands


cumulate = register(
    KernelSpec(
        name="cumulate",
        operands=("x",),
        results=("out0",),
        kernels=(cumulate_kernel,),
        infer=_infer,
        plan=_plan,
        reference=cumulate_reference,
        space=Space(CumulateConfig, _refuse, _guess),
        cases=(
            _case((3, 21, 5), 1, "float32"),
            _case((2, 1100), 1, "float32"),
            _case((40, 3), 0, "float64"),
            _case((5, 19), 1, "float32", "prod"),
            _case((9, 33), 0, "int64"),
        ),
        work=_work,
        supports=_supports,
        epilogues=False,
    )
)
