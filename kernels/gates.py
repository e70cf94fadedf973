"""A matrix product whose columns are read in equal blocks at once: epilogue(blocks of A B).

The gates of a recurrent cell are blocks of columns of one product, and what follows combines those of
one unit. A program makes the same tile of every block, so the combination is its epilogue.
"""

from __future__ import annotations

from dataclasses import replace

import torch
import triton
import triton.language as tl

from .device import Device
from .gemm import (
    GemmConfig,
    GemmSize,
    gemm_grid,
    gemm_space,
    grouped_tile,
    is_even,
    max_registers,
    tile_constexprs,
    unsupported_dtype,
)
from .launch import MOST_REGISTERS, STORE, Epilogue, Launch, Program
from .problem import Problem, TensorSpec, Work, wide
from .space import Space
from .spec import KernelSpec, register

MOST = 4
"""Blocks of columns: an accumulator each."""


@triton.jit
def gates_kernel(
    a,
    b,
    product,
    outs,
    extras,
    M,
    N,
    K,
    GATES: tl.constexpr,
    KEEP: tl.constexpr,
    ENDS: tl.constexpr,
    EVEN: tl.constexpr,
    PRECISION: tl.constexpr,
    EPILOGUE: tl.constexpr,
    INDEX: tl.constexpr,
    SPLIT: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    GROUP_M: tl.constexpr,
):
    """One [BLOCK_M, BLOCK_N] tile of each of GATES blocks of N columns of A [M, K] B [K, GATES * N].

    The epilogue, if there is one (ENDS), sees the blocks as a tuple of tiles of [M, N] matrices; KEEP
    stores the product as well.
    """
    tile_m, tile_n = grouped_tile(tl.program_id(0), M, N, BLOCK_M, BLOCK_N, GROUP_M)
    m = (tile_m * BLOCK_M + tl.arange(0, BLOCK_M)).to(INDEX)[:, None]
    n = (tile_n * BLOCK_N + tl.arange(0, BLOCK_N)).to(INDEX)[None, :]
    mask = (m < M) & (n < N)
    blocks: tl.tuple = ()
    for gate in tl.static_range(0, GATES):
        acc = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
        for start in tl.range(0, K, BLOCK_K):
            depth = start + tl.arange(0, BLOCK_K).to(INDEX)
            a_mask = m < M
            b_mask = n < N
            if not EVEN:
                a_mask = a_mask & (depth[None, :] < K)
                b_mask = b_mask & (depth[:, None] < K)
            left = tl.load(a + m * K + depth[None, :], mask=a_mask, other=0.0)
            right = tl.load(
                b + depth[:, None] * (GATES * N) + (gate * N + n), mask=b_mask, other=0.0
            )
            acc = tl.dot(left, right, acc, input_precision=PRECISION)
        if KEEP:
            place = product + m * (GATES * N) + (gate * N + n)
            tl.store(place, acc.to(product.dtype.element_ty), mask=mask)
        blocks = blocks + (acc,)  # noqa: RUF005
    if ENDS:
        EPILOGUE(blocks, m, n, m * N + n, mask, outs, extras, tile_m)


def gates_reference(
    a: torch.Tensor,
    b: torch.Tensor,
    gates: int = 2,
    keep: bool = True,
    precision: str = "ieee",
) -> tuple[torch.Tensor, ...]:
    return (a @ b,) if keep else ()


def _gates(problem: Problem) -> int:
    return int(problem.attrs.get("gates", 1))


def _size(problem: Problem) -> GemmSize:
    """All blocks as columns."""
    (m, k), (_, n) = problem.shape(0), problem.shape(1)
    return GemmSize(m, n, k)


def _tile(problem: Problem) -> GemmSize:
    """One block, which a tile is of."""
    size = _size(problem)
    return GemmSize(size.m, size.n // _gates(problem), size.k)


def _supports(problem: Problem) -> str | None:
    if reason := unsupported_dtype(problem):
        return reason
    left, right, gates = problem.shape(0), problem.shape(1), _gates(problem)
    if not 1 < gates <= MOST:
        return f"{gates} blocks of columns; allowed: 2 to {MOST}"
    if len(left) != 2 or len(right) != 2 or left[1] != right[0] or right[1] % gates:
        return f"operands of shape {left} and {right} do not multiply to {gates} equal blocks"
    return None


def _infer(problem: Problem) -> tuple[TensorSpec, ...]:
    size = _size(problem)
    made = TensorSpec((size.m, size.n), problem.dtype())
    return (made,) if problem.attrs.get("keep", True) else ()


def _plan(problem: Problem, config: GemmConfig, epilogue: Epilogue) -> Program:
    tile, keep = _tile(problem), bool(problem.attrs.get("keep", True))
    ends = epilogue != STORE
    pointers = epilogue.pointers if ends else {"outs": (), "extras": ()}
    launch = Launch(
        kernel=gates_kernel,
        # What is not kept is not stored either: any pointer will do.
        pointers={"a": "a", "b": "b", "product": "product" if keep else "a", **pointers},
        constexprs={
            "M": tile.m,
            "N": tile.n,
            "K": tile.k,
            "GATES": _gates(problem),
            "KEEP": keep,
            "ENDS": ends,
            "EVEN": is_even(tile.k, config, 1),
            "INDEX": tl.int64 if wide(*problem.operands) else tl.int32,
            **tile_constexprs(config, problem, epilogue, 1),
        },
        grid=gemm_grid(tile, config, 1),
        num_warps=config.num_warps,
        num_stages=config.num_stages,
        # Bounded more tightly, as a single block would be, some of them spill on sm_100.
        max_registers=None if max_registers(config, problem, epilogue) is None else MOST_REGISTERS,
    )
    return Program((launch,))


_BASE = gemm_space(_tile, vector_results=64)


def _results(config: GemmConfig, problem: Problem) -> int:
    """Accumulated numbers of a thread."""
    return config.block_m * config.block_n * _gates(problem) // (32 * config.num_warps)


def _most_results(problem: Problem) -> int:
    return 32 if problem.dtype() == "float32" else 128


def _refuse(config: GemmConfig, problem: Problem, device: Device) -> str | None:
    if config.split_k > 1:
        return "what follows needs whole sums of every block"
    if _results(config, problem) > _most_results(problem):
        return f"{_results(config, problem)} results in each thread spill"
    return _BASE.refuse(config, problem, device)


def _guess(problem: Problem, device: Device) -> GemmConfig:
    config = replace(_BASE.guess(problem, device), split_k=1)
    while _results(config, problem) > _most_results(problem):
        m, n = config.block_m, config.block_n
        if max(m, n) == 16:
            return replace(config, num_warps=8)
        config = replace(config, block_m=m // 2) if m >= n else replace(config, block_n=n // 2)
    return config


def _work(problem: Problem) -> Work:
    moved = (*problem.operands, *_infer(problem))
    return Work(sum(spec.bytes for spec in moved), _size(problem).flops)


def _cases() -> tuple[Problem, ...]:
    sizes = ((19, 17, 33, 3), (5, 16, 70, 4), (33, 3, 1, 2))
    return tuple(
        Problem.of([((m, k), dtype), ((k, n * gates), dtype)], gates=gates)
        for dtype in ("float32", "bfloat16", "float16")
        for m, n, k, gates in sizes
    )


gates = register(
    KernelSpec(
        name="gates",
        operands=("a", "b"),
        results=("product",),
        named_results=lambda problem: ("product",) if problem.attrs.get("keep", True) else (),
        kernels=(gates_kernel,),
        infer=_infer,
        plan=_plan,
        reference=gates_reference,
        space=Space(GemmConfig, _refuse, _guess),
        cases=_cases(),
        work=_work,
        supports=_supports,
    )
)
