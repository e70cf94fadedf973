"""Several matrix products in one launch: for each instance, epilogue(sum over pairs of op(A) op(B)).

Instances are alike in shapes, types and code, so a program picks its instance's pointers and goes on
as if it were alone. Beside the products the launch can add up the columns of each B: what a gradient
by a weight reads anyway is all that the gradient by a bias needs.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

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
from .launch import STORE, Epilogue, Launch, Program
from .matmul import LARGEST_BATCH
from .problem import Problem, TensorSpec, Work, ceil_div, next_power_of_two, wide
from .spec import KernelSpec, register

MOST = 16
"""Products of one launch: each takes three pointers or more of the arguments of a kernel."""


@triton.jit
def picked(pointers, instance, SLOT: tl.constexpr, SLOTS: tl.constexpr):
    """The pointer number SLOT of an instance that has SLOTS of them."""
    chosen = pointers[SLOT]
    for i in tl.static_range(SLOT + SLOTS, len(pointers), SLOTS):
        chosen = tl.where(instance == (i - SLOT) // SLOTS, pointers[i], chosen)
    return chosen


@triton.jit
def part_of(pointers, instance, SLOTS: tl.constexpr, sizes):
    """All SLOTS pointers of an instance and what all instances share, as a tuple."""
    mine: tl.tuple = ()
    for slot in tl.static_range(0, SLOTS):
        mine = mine + (picked(pointers, instance, slot, SLOTS),)  # noqa: RUF005
    for i in tl.static_range(0, len(sizes)):
        mine = mine + (sizes[i],)  # noqa: RUF005
    return mine


@triton.jit
def products_kernel(
    lefts,
    rights,
    outs,
    extras,
    sums,
    sizes,
    M,
    N,
    K,
    BATCH,
    INSTANCES: tl.constexpr,
    PAIRS: tl.constexpr,
    OUTPUTS: tl.constexpr,
    EXTRAS: tl.constexpr,
    SUMS: tl.constexpr,
    TRANSPOSE_A: tl.constexpr,
    TRANSPOSE_B: tl.constexpr,
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
    """One [BLOCK_M, BLOCK_N] tile of an instance's batch, ``program_id(1)`` being both, and of
    reduction share ``program_id(2)``.

    ``lefts`` and ``rights`` hold PAIRS pointers for each instance, ``outs`` OUTPUTS and ``extras``
    EXTRAS, to which ``sizes`` are added for each. Programs beyond the tiles add up BLOCK_N columns of
    their instance's B into ``sums``. Split, the accumulators lie one after another in ``outs``.
    """
    tiles = ((M + BLOCK_M - 1) // BLOCK_M) * ((N + BLOCK_N - 1) // BLOCK_N)
    program = tl.program_id(0)
    instance = tl.program_id(1) // BATCH
    if program < tiles:
        tile_m, tile_n = grouped_tile(program, M, N, BLOCK_M, BLOCK_N, GROUP_M)
        batch = (tl.program_id(1) % BATCH).to(INDEX)
        share = tl.program_id(2).to(INDEX)
        m = (tile_m * BLOCK_M + tl.arange(0, BLOCK_M)).to(INDEX)[:, None]
        n = (tile_n * BLOCK_N + tl.arange(0, BLOCK_N)).to(INDEX)[None, :]
        k = tl.arange(0, BLOCK_K).to(INDEX)
        steps = (K + BLOCK_K * SPLIT - 1) // (BLOCK_K * SPLIT)
        acc = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
        for pair in tl.static_range(0, PAIRS):
            a = picked(lefts, instance, pair, PAIRS) + batch * M * K
            b = picked(rights, instance, pair, PAIRS) + batch * K * N
            for step in tl.range(0, steps):
                depth = (share * steps + step) * BLOCK_K + k
                a_mask = m < M
                b_mask = n < N
                if not EVEN:
                    a_mask = a_mask & (depth[None, :] < K)
                    b_mask = b_mask & (depth[:, None] < K)
                deep, high = depth[None, :], depth[:, None]
                a_place = m + deep * M if TRANSPOSE_A else m * K + deep
                b_place = n * K + high if TRANSPOSE_B else n + high * N
                left = tl.load(a + a_place, mask=a_mask, other=0.0)
                right = tl.load(b + b_place, mask=b_mask, other=0.0)
                acc = tl.dot(left, right, acc, input_precision=PRECISION)
        rows = batch * M + m
        mask = (m < M) & (n < N)
        if SPLIT == 1:
            mine = part_of(outs, instance, OUTPUTS, ())
            more = part_of(extras, instance, EXTRAS, sizes)
            EPILOGUE(acc, rows, n, rows * N + n, mask, mine, more, tile_m)
        else:
            first = (share * INSTANCES + instance) * BATCH * M
            tl.store(outs[0] + (first + rows) * N + n, acc, mask=mask)
    elif SUMS:  # noqa: SIM102
        if tl.program_id(2) == 0:
            b = picked(rights, instance, 0, PAIRS)
            out = picked(sums, instance, 0, 1)
            add_columns(b, out, program - tiles, N, K, INDEX, BLOCK_N, BLOCK_K)


@triton.jit
def add_columns(
    b, out, tile, N, K, INDEX: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr
):
    """Sums of BLOCK_N columns of a row-major [K, N] matrix, added in float32."""
    n = (tile * BLOCK_N + tl.arange(0, BLOCK_N)).to(INDEX)
    k = tl.arange(0, BLOCK_K).to(INDEX)
    total = tl.zeros((BLOCK_K, BLOCK_N), dtype=tl.float32)
    for start in tl.range(0, K, BLOCK_K):
        depth = start + k[:, None]
        mask = (depth < K) & (n[None, :] < N)
        total += tl.load(b + depth * N + n[None, :], mask=mask, other=0.0).to(tl.float32)
    tl.store(out + n, tl.sum(total, axis=0).to(out.dtype.element_ty), mask=n < N)


@triton.jit
def add_shares_kernel(
    partials,
    outs,
    extras,
    sizes,
    SHARES: tl.constexpr,
    ROWS,
    COLS,
    INSTANCES: tl.constexpr,
    OUTPUTS: tl.constexpr,
    EXTRAS: tl.constexpr,
    EPILOGUE: tl.constexpr,
    INDEX: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_COLS: tl.constexpr,
):
    """``epilogue(sum over shares)`` of instance ``program_id(2)``, whose result is [ROWS, COLS]."""
    instance = tl.program_id(2)
    rows = (tl.program_id(0) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)).to(INDEX)[:, None]
    cols = (tl.program_id(1) * BLOCK_COLS + tl.arange(0, BLOCK_COLS)).to(INDEX)[None, :]
    offset = rows * COLS + cols
    mask = (rows < ROWS) & (cols < COLS)
    acc = tl.zeros((BLOCK_ROWS, BLOCK_COLS), dtype=tl.float32)
    for share in tl.range(0, SHARES):
        first = (share * INSTANCES + instance).to(INDEX) * ROWS * COLS
        acc += tl.load(partials + first + offset, mask=mask, other=0.0)
    mine = part_of(outs, instance, OUTPUTS, ())
    more = part_of(extras, instance, EXTRAS, sizes)
    EPILOGUE(acc, rows, cols, offset, mask, mine, more, tl.program_id(0))


def products_reference(
    *operands: torch.Tensor,
    instances: int = 1,
    pairs: int = 1,
    transpose_a: bool = False,
    transpose_b: bool = False,
    sums: bool = False,
    precision: str = "ieee",
) -> tuple[torch.Tensor, ...]:
    lefts = [a.mT if transpose_a else a for a in operands[::2]]
    rights = [b.mT if transpose_b else b for b in operands[1::2]]
    made = [a @ b for a, b in zip(lefts, rights, strict=True)]
    outs = [sum(made[i * pairs + 1 : (i + 1) * pairs], made[i * pairs]) for i in range(instances)]
    return (*outs, *(b.sum(0) for b in operands[1::2] if sums))


def _counts(problem: Problem) -> tuple[int, int]:
    """Instances, and pairs of each."""
    return problem.attrs.get("instances", 1), problem.attrs.get("pairs", 1)


def _one(problem: Problem) -> GemmSize:
    """The product of one pair."""
    attrs = problem.attrs
    *batch, m, k = problem.shape(0)
    n = problem.shape(1)[-1]
    if attrs.get("transpose_a"):
        m, k = k, m
    if attrs.get("transpose_b"):
        n = problem.shape(1)[-2]
    return GemmSize(m, n, k, batch[0] if batch else 1)


def _size(problem: Problem) -> GemmSize:
    """All instances as a batch of products of the length of one pair, which is what is split."""
    size, (instances, _) = _one(problem), _counts(problem)
    return GemmSize(size.m, size.n, size.k, size.batch * instances)


def _supports(problem: Problem) -> str | None:
    if reason := unsupported_dtype(problem):
        return reason
    instances, pairs = _counts(problem)
    if not 0 < instances * pairs <= MOST or len(problem.operands) != 2 * instances * pairs:
        return f"{instances} instances of {pairs} products; allowed: at most {MOST} products"
    left, right = problem.shape(0), problem.shape(1)
    size = _one(problem)
    inner = right[-1] if problem.attrs.get("transpose_b") else right[-2]
    if len(left) != len(right) or left[:-2] != right[:-2] or inner != size.k:
        return f"operands of shape {left} and {right} do not multiply"
    if any(operand != problem.operands[i % 2] for i, operand in enumerate(problem.operands)):
        return "products of several shapes"
    if size.batch * instances > LARGEST_BATCH:
        return f"a batch of {size.batch * instances}; a grid holds {LARGEST_BATCH}"
    if problem.attrs.get("sums") and (pairs > 1 or len(left) > 2 or _transposes(problem)[1]):
        return "columns are added up of the B of a single product, which is not transposed"
    return None


def _transposes(problem: Problem) -> tuple[bool, bool]:
    return bool(problem.attrs.get("transpose_a")), bool(problem.attrs.get("transpose_b"))


def _infer(problem: Problem) -> tuple[TensorSpec, ...]:
    size, (instances, _) = _one(problem), _counts(problem)
    made = TensorSpec((*problem.shape(0)[:-2], size.m, size.n), problem.dtype())
    sums = TensorSpec((size.n,), problem.dtype())
    return (made,) * instances + (sums,) * (instances if problem.attrs.get("sums") else 0)


def _results(problem: Problem) -> tuple[str, ...]:
    instances, _ = _counts(problem)
    sums = instances if problem.attrs.get("sums") else 0
    return *(f"out{i}" for i in range(instances)), *(f"sum{i}" for i in range(sums))


def _plan(problem: Problem, config: GemmConfig, epilogue: Epilogue) -> Program:
    split = config.split_k
    products = _launch(problem, config, epilogue if split == 1 else STORE, split)
    if split == 1:
        return Program((products,))
    size, (instances, _) = _one(problem), _counts(problem)
    rows = size.batch * size.m
    scratch = {"partials": TensorSpec((split, instances * rows, size.n), "float32")}
    return Program((products, _add_shares(problem, split, epilogue)), scratch)


def _pointers(epilogue: Epilogue, instances: int) -> dict[str, tuple[str, ...]]:
    """What the epilogues of all instances store and read, instance after instance."""
    return {
        "outs": tuple(f"out{i}" for i in range(instances * epilogue.outputs)),
        "extras": tuple(f"extra{i}" for i in range(instances * epilogue.extras)),
        "sizes": epilogue.size,
    }


def _launch(problem: Problem, config: GemmConfig, epilogue: Epilogue, split: int) -> Launch:
    size, (instances, pairs) = _one(problem), _counts(problem)
    transposed_a, transposed_b = _transposes(problem)
    sums = bool(problem.attrs.get("sums"))
    partials = TensorSpec((split, instances * size.batch, size.m, size.n), "float32")
    tiles, batch, shares = gemm_grid(_size(problem), config, split)
    pointers = _pointers(epilogue, instances) | ({"outs": ("partials",)} if split > 1 else {})
    return Launch(
        kernel=products_kernel,
        pointers={
            "lefts": tuple(f"a{i}" for i in range(instances * pairs)),
            "rights": tuple(f"b{i}" for i in range(instances * pairs)),
            **pointers,
            "sums": tuple(f"sum{i}" for i in range(instances if sums else 0)),
        },
        constexprs={
            "M": size.m,
            "N": size.n,
            "K": size.k,
            "BATCH": size.batch,
            "INSTANCES": instances,
            "PAIRS": pairs,
            "OUTPUTS": epilogue.outputs,
            "EXTRAS": epilogue.extras,
            "SUMS": sums,
            "TRANSPOSE_A": transposed_a,
            "TRANSPOSE_B": transposed_b,
            "EVEN": is_even(size.k, config, split),
            "INDEX": tl.int64 if wide(*problem.operands, partials) else tl.int32,
            **tile_constexprs(config, problem, epilogue, split),
        },
        grid=(tiles + (ceil_div(size.n, config.block_n) if sums else 0), batch, shares),
        num_warps=config.num_warps,
        num_stages=config.num_stages,
        max_registers=max_registers(config, problem, epilogue),
    )


def _add_shares(problem: Problem, split: int, epilogue: Epilogue) -> Launch:
    """Adds the partial products of every instance, in a fixed order."""
    size, (instances, _) = _one(problem), _counts(problem)
    rows = size.batch * size.m
    block_cols = min(next_power_of_two(size.n), 128)
    block_rows = max(min(next_power_of_two(rows), 1024 // block_cols), 1)
    return Launch(
        kernel=add_shares_kernel,
        pointers={"partials": "partials", **_pointers(epilogue, instances)},
        constexprs={
            "SHARES": split,
            "ROWS": rows,
            "COLS": size.n,
            "INSTANCES": instances,
            "OUTPUTS": epilogue.outputs,
            "EXTRAS": epilogue.extras,
            "EPILOGUE": epilogue.function,
            "INDEX": tl.int64 if split * instances * rows * size.n >= 2**31 else tl.int32,
            "BLOCK_ROWS": block_rows,
            "BLOCK_COLS": block_cols,
        },
        grid=(ceil_div(rows, block_rows), ceil_div(size.n, block_cols), instances),
    )


def _work(problem: Problem) -> Work:
    moved = (*problem.operands, *_infer(problem))
    (instances, pairs), size = _counts(problem), _one(problem)
    added = instances * size.k * size.n if problem.attrs.get("sums") else 0
    return Work(sum(spec.bytes for spec in moved), size.flops * instances * pairs + added)


def _cases() -> tuple[Problem, ...]:
    def case(instances: int, pairs: int, m: int, n: int, k: int, dtype: str, batch: int = 0,
             **attributes: bool) -> Problem:  # fmt: skip
        front = (batch,) if batch else ()
        a = (*front, *((k, m) if attributes.get("transpose_a") else (m, k)))
        b = (*front, *((n, k) if attributes.get("transpose_b") else (k, n)))
        operands = [(a, dtype), (b, dtype)] * (instances * pairs)
        return Problem.of(operands, instances=instances, pairs=pairs, **attributes)

    found = []
    for dtype in ("float32", "bfloat16", "float16"):
        found += [
            case(3, 1, 33, 17, 19, dtype),
            case(1, 3, 17, 19, 23, dtype, transpose_b=True),
            case(3, 1, 19, 35, 130, dtype, transpose_a=True, sums=True),
        ]
    found += [
        case(2, 2, 5, 3, 70, "float32", batch=3),
        case(1, 1, 64, 32, 48, "float32", transpose_a=True, sums=True),
    ]
    return tuple(found)


products = register(
    KernelSpec(
        name="products",
        operands=tuple(f"{side}{i}" for i in range(MOST) for side in "ab"),
        results=(),
        named_results=_results,
        kernels=(products_kernel, add_shares_kernel),
        infer=_infer,
        plan=_plan,
        reference=products_reference,
        space=gemm_space(_size, vector_results=64),
        cases=_cases(),
        work=_work,
        supports=_supports,
    )
)
