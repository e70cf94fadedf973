"""Matrix product, single and batched: epilogue(op(A) op(B)), op = identity or transpose."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from .gemm import (
    GemmConfig,
    GemmSize,
    gemm_grid,
    gemm_program,
    gemm_space,
    grouped_tile,
    is_even,
    max_registers,
    operand_loads,
    operand_pointers,
    tile_constexprs,
    unsupported_dtype,
)
from .launch import Epilogue, Launch, Program
from .problem import Problem, TensorSpec, Work, ceil_div, wide
from .spec import KernelSpec, register

OPERANDS = ("a", "b")
LARGEST_BATCH = 65_535
"""The second dimension of a CUDA grid."""


@triton.jit
def matmul_kernel(
    a,
    b,
    outs,
    extras,
    M,
    N,
    K,
    BATCH,
    TRANSPOSE_A: tl.constexpr,
    TRANSPOSE_B: tl.constexpr,
    EVEN: tl.constexpr,
    LOAD_A: tl.constexpr,
    LOAD_B: tl.constexpr,
    PRECISION: tl.constexpr,
    EPILOGUE: tl.constexpr,
    INDEX: tl.constexpr,
    SPLIT: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    GROUP_M: tl.constexpr,
):
    """One [BLOCK_M, BLOCK_N] tile of batch ``program_id(1)``, reduction share ``program_id(2)``.

    The result is [BATCH * M, N] row-major, SPLIT times over when the reduction is split. Without
    masks along the reduction, it is EVEN.
    """
    tile_m, tile_n = grouped_tile(tl.program_id(0), M, N, BLOCK_M, BLOCK_N, GROUP_M)
    batch = tl.program_id(1).to(INDEX)
    share = tl.program_id(2).to(INDEX)
    m = (tile_m * BLOCK_M + tl.arange(0, BLOCK_M)).to(INDEX)[:, None]
    n = (tile_n * BLOCK_N + tl.arange(0, BLOCK_N)).to(INDEX)[None, :]
    k = tl.arange(0, BLOCK_K).to(INDEX)
    a_start = batch * M * K
    b_start = batch * K * N

    steps = (K + BLOCK_K * SPLIT - 1) // (BLOCK_K * SPLIT)
    acc = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    for step in tl.range(0, steps):
        depth = (share * steps + step) * BLOCK_K + k
        a_mask = m < M
        b_mask = n < N
        if not EVEN:
            a_mask = a_mask & (depth[None, :] < K)
            b_mask = b_mask & (depth[:, None] < K)
        deep, high = depth[None, :], depth[:, None]
        # As the operands lie in memory: a transposed one has the depth in its rows, or its columns.
        if TRANSPOSE_A:
            left = LOAD_A(a, batch * K + deep, m, a_start + m + deep * M, a_mask, tile_n == 0)
        else:
            left = LOAD_A(a, batch * M + m, deep, a_start + m * K + deep, a_mask, tile_n == 0)
        if TRANSPOSE_B:
            right = LOAD_B(b, batch * N + n, high, b_start + n * K + high, b_mask, tile_m == 0)
        else:
            right = LOAD_B(b, batch * K + high, n, b_start + n + high * N, b_mask, tile_m == 0)
        acc = tl.dot(left, right, acc, input_precision=PRECISION)

    rows = batch * M + m
    offset = (share * BATCH * M + rows) * N + n
    tiles_m = (M + BLOCK_M - 1) // BLOCK_M
    part = batch * tiles_m + tile_m
    EPILOGUE(acc, rows, n, offset, (m < M) & (n < N), outs, extras, part)


def matmul_reference(
    a: torch.Tensor,
    b: torch.Tensor,
    transpose_a: bool = False,
    transpose_b: bool = False,
    precision: str = "ieee",
) -> tuple[torch.Tensor]:
    left = a.mT if transpose_a else a
    right = b.mT if transpose_b else b
    return (left @ right,)


def _size(problem: Problem) -> GemmSize:
    attrs = problem.attrs
    *batch, m, k = problem.shape(0)
    *_, _, n = problem.shape(1)
    if attrs.get("transpose_a"):
        m, k = k, m
    if attrs.get("transpose_b"):
        n = problem.shape(1)[-2]
    return GemmSize(m, n, k, batch[0] if batch else 1)


def _supports(problem: Problem) -> str | None:
    if reason := unsupported_dtype(problem):
        return reason
    left, right = problem.shape(0), problem.shape(1)
    size = _size(problem)
    inner = right[-1] if problem.attrs.get("transpose_b") else right[-2]
    if len(left) != len(right) or left[:-2] != right[:-2] or inner != size.k:
        return f"operands of shape {left} and {right} do not multiply"
    if size.batch > LARGEST_BATCH:
        return f"a batch of {size.batch}; a grid holds {LARGEST_BATCH}"
    return None


def _infer(problem: Problem) -> tuple[TensorSpec, ...]:
    size = _size(problem)
    return (TensorSpec((*problem.shape(0)[:-2], size.m, size.n), problem.dtype()),)


def _plan(problem: Problem, config: GemmConfig, epilogue: Epilogue) -> Program:
    size = _size(problem)

    def launch(stage: Epilogue, split: int) -> Launch:
        partials = TensorSpec((split, size.batch, size.m, size.n), "float32")
        return Launch(
            kernel=matmul_kernel,
            pointers={**operand_pointers(OPERANDS, OPERANDS), **stage.pointers},
            constexprs={
                "M": size.m,
                "N": size.n,
                "K": size.k,
                "BATCH": size.batch,
                "TRANSPOSE_A": bool(problem.attrs.get("transpose_a")),
                "TRANSPOSE_B": bool(problem.attrs.get("transpose_b")),
                "EVEN": is_even(size.k, config, split),
                **operand_loads(OPERANDS),
                "INDEX": tl.int64 if wide(*problem.operands, partials) else tl.int32,
                **tile_constexprs(config, problem, stage, split),
            },
            grid=gemm_grid(size, config, split),
            num_warps=config.num_warps,
            num_stages=config.num_stages,
            max_registers=max_registers(config, problem, stage),
        )

    parts = size.batch * ceil_div(size.m, config.block_m)
    return gemm_program(launch, size.batch * size.m, size.n, parts, config.split_k, epilogue)


def _work(problem: Problem) -> Work:
    moved = (*problem.operands, *_infer(problem))
    return Work(sum(spec.bytes for spec in moved), _size(problem).flops)


def _cases(batch: tuple[int, ...]) -> tuple[Problem, ...]:
    sizes = ((64, 32, 48), (1, 1, 1), (17, 19, 23), (65, 33, 129), (3, 130, 5))
    cases = [
        Problem.of([((*batch, m, k), dtype), ((*batch, k, n), dtype)])
        for dtype in ("float32", "bfloat16", "float16")
        for m, n, k in (sizes if dtype == "float32" else sizes[2:4])
    ]
    for left, right in ((True, False), (False, True), (True, True)):
        a = (*batch, 23, 17) if left else (*batch, 17, 23)
        b = (*batch, 19, 23) if right else (*batch, 23, 19)
        operands = [(a, "float32"), (b, "float32")]
        cases.append(Problem.of(operands, transpose_a=left, transpose_b=right))
    return tuple(cases)


def _register(name: str, batch: tuple[int, ...]) -> KernelSpec:
    return register(
        KernelSpec(
            name=name,
            operands=OPERANDS,
            results=("out0",),
            kernels=(matmul_kernel,),
            infer=_infer,
            plan=_plan,
            reference=matmul_reference,
            space=gemm_space(_size, vector_results=64),
            cases=_cases(batch),
            work=_work,
            supports=_supports,
            prologues=OPERANDS,
            keeps=lambda problem: True,
        )
    )


matmul = _register("matmul", ())
batch_matmul = _register("batch_matmul", (3,))
