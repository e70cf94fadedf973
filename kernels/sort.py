"""The elements of each row in order, or the first k of them, and where they stood.

Equal elements stay in their order, NaN counts as the greatest, zeros are equal. Each element finds its own
place (order.py), so the first k of a row cost as much as all of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import torch
import triton
import triton.language as tl

from . import order
from .device import Device
from .launch import Epilogue, Launch, Program
from .order import rank_of
from .problem import Problem, TensorSpec, Work, ceil_div, next_power_of_two
from .space import Space, dimension
from .spec import KernelSpec, register

DTYPES = ("float32", "float64", "bfloat16", "float16", "int64", "int32", "int16", "int8")


@triton.jit
def sort_kernel(
    x,
    keys,
    places,
    values,
    index,
    LENGTH,
    K,
    STEPS: tl.constexpr,
    INDEX: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Puts the ordered blocks of a row together; K elements of it are stored."""
    blocks = (LENGTH + BLOCK - 1) // BLOCK
    own = tl.program_id(0) % blocks
    number = (tl.program_id(0) // blocks).to(INDEX)
    row = number * LENGTH
    at = own * BLOCK + tl.arange(0, BLOCK)
    here = at < LENGTH
    key = tl.load(keys + row + at, mask=here, other=0)
    rank = rank_of(keys + row, key, at, own, LENGTH, STEPS, BLOCK)
    kept = here & (rank < K)
    place = tl.load(places + row + at, mask=kept, other=0)
    target = number * K + rank
    tl.store(values + target, tl.load(x + row + place, mask=kept, other=0), mask=kept)
    tl.store(index + target, place.to(tl.int64), mask=kept)


def sort_reference(
    x: torch.Tensor, descending: bool, k: int | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    values, places = torch.sort(x, dim=-1, descending=descending, stable=True)
    return values[..., :k], places[..., :k]


@dataclass(frozen=True)
class SortConfig:
    """Rows are ordered in blocks of so many elements."""

    block: int = dimension(16, 32, 64, 128, 256, 512, 1024, default=512)


def _rows(problem: Problem) -> tuple[int, int]:
    """How many rows, and their length."""
    *rows, length = problem.shape(0)
    return prod(rows), length


def _infer(problem: Problem) -> tuple[TensorSpec, ...]:
    *rows, length = problem.shape(0)
    shape = (*rows, problem.attrs.get("k", length))
    return TensorSpec(shape, problem.dtype()), TensorSpec(shape, "int64")


def _supports(problem: Problem) -> str | None:
    rows, length = _rows(problem)
    if problem.dtype() not in DTYPES:
        return f"elements of {problem.dtype()}; allowed: {', '.join(DTYPES)}"
    if length >= 2**31 - 2**16 or rows * ceil_div(length, 16) >= 2**31:
        return f"{rows} rows of {length} elements; places have 32 bits"
    return None


def _plan(problem: Problem, config: SortConfig, epilogue: Epilogue) -> Program:
    rows, length = _rows(problem)
    block = config.block
    ordered = order.order_blocks("x", rows, length, block, problem.attrs["descending"])
    merged = Launch(
        kernel=sort_kernel,
        pointers={"x": "x", "keys": "keys", "places": "places", "values": "out0", "index": "index"},
        constexprs={
            **order.order_constexprs(rows, length, block),
            "K": problem.attrs.get("k", length),
            "STEPS": order.steps(block),
        },
        grid=(rows * ceil_div(length, block), 1, 1),
        num_warps=order.warps(block),
    )
    return Program((ordered, merged), order.scratch(rows, length))


def _refuse(config: SortConfig, problem: Problem, device: Device) -> str | None:
    if config.block > max(next_power_of_two(_rows(problem)[1]), 16):
        return "a block more than half empty"
    return None


def _work(problem: Problem) -> Work:
    (x,) = problem.operands
    length = _rows(problem)[1]
    moved = x.bytes + sum(spec.bytes for spec in _infer(problem))
    return Work(moved, x.size * length.bit_length())


def _case(shape: tuple[int, ...], dtype: str, descending: bool = False, **k: int) -> Problem:
    return Problem.of([(shape, dtype)], descending=descending, **k)


def _register(name: str, cases: tuple[Problem, ...]) -> KernelSpec:
    return register(
        KernelSpec(
            name=name,
            operands=("x",),
            results=("out0", "index"),
            kernels=(order.order_blocks_kernel, sort_kernel),
            infer=_infer,
            plan=_plan,
            reference=sort_reference,
            space=Space(
                SortConfig,
                _refuse,
                lambda problem, device: SortConfig(order.block_of(_rows(problem)[1])),
            ),
            cases=cases,
            work=_work,
            supports=_supports,
            epilogues=False,
        )
    )


sort = _register(
    "sort",
    (
        _case((3, 1100), "float32"),
        _case((2, 3, 37), "bfloat16", descending=True),
        _case((3, 40), "float64"),
        _case((4, 9), "int32", descending=True),
    ),
)

top = _register(
    "top", (_case((5, 70), "float16", descending=True, k=3), _case((7, 530), "int64", k=5))
)
