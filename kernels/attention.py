"""Attention of [batch, length, heads, width]: o = softmax(q kᵀ scale + bias) v, and the rows' log-sum-exp.

A program owns rows of queries of one head and goes through the keys once, with a running maximum and the
sum of exponentials below it (Dao 2023, "FlashAttention-2", section 3.1): the scores never reach memory.
Keys behind the diagonal of causal attention are not visited.

Scores are float32, whatever the operands are, and masked by numbers: a row whose biases are all one large
negative number is uniform, one of which all are -inf is NaN.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from .attention_tiles import (
    AttentionConfig,
    attention_constexprs,
    attention_space,
    biased_scores,
    key_bounds,
    load_rows,
    product_of_rows,
    size_of,
    unsupported,
)
from .gemm import gemm_program
from .launch import MOST_REGISTERS, Epilogue, Launch, Program
from .problem import Problem, TensorSpec, Work, ceil_div
from .spec import KernelSpec, register

OPERANDS = ("q", "k", "v", "bias")


@triton.jit
def attention_kernel(
    q,
    k,
    v,
    bias,
    outs,
    extras,
    lse,
    QUERIES,
    KEYS,
    HEADS,
    WIDTH,
    DEPTH,
    BIAS_BATCH,
    BIAS_HEAD,
    BIAS_ROW,
    BIAS_ROWS: tl.constexpr,
    BIAS_COLS: tl.constexpr,
    SCALE: tl.constexpr,
    CAUSAL: tl.constexpr,
    EVEN: tl.constexpr,
    HELD: tl.constexpr,
    PRECISION: tl.constexpr,
    EPILOGUE: tl.constexpr,
    INDEX: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_WIDTH: tl.constexpr,
    BLOCK_DEPTH: tl.constexpr,
):
    """``BLOCK_M`` queries of one head, of WIDTH, and values of DEPTH: [BATCH, length, HEADS, .] each.

    Programs of one head follow each other; of causal attention the longest rows begin.
    """
    tiles = (QUERIES + BLOCK_M - 1) // BLOCK_M
    head = (tl.program_id(0) // tiles).to(INDEX)
    tile = tl.program_id(0) % tiles
    if CAUSAL:
        tile = tiles - 1 - tile
    batch, place = head // HEADS, head % HEADS
    first = tile * BLOCK_M
    m = (first + tl.arange(0, BLOCK_M)).to(INDEX)[:, None]
    lane = tl.arange(0, BLOCK_N).to(INDEX)
    d = tl.arange(0, BLOCK_WIDTH)[None, :]
    e = tl.arange(0, BLOCK_DEPTH)[None, :]
    row = (batch * QUERIES + m) * HEADS + place
    queries = q + row * WIDTH
    own = bias + batch * BIAS_BATCH + place * BIAS_HEAD
    if HELD:
        query = load_rows(queries, m < QUERIES, d, WIDTH, EVEN)
    most = tl.full((BLOCK_M, 1), -float("inf"), dtype=tl.float32)
    total = tl.zeros((BLOCK_M, 1), dtype=tl.float32)
    acc = tl.zeros((BLOCK_M, BLOCK_DEPTH), dtype=tl.float32)
    whole, end = key_bounds(first, KEYS, CAUSAL, BLOCK_M, BLOCK_N)
    for masked in tl.static_range(2):
        for start in tl.range(whole * masked, whole + (end - whole) * masked, BLOCK_N):
            n = start + lane
            column = (batch * KEYS + n) * HEADS + place
            there = n < KEYS
            keys = k + column[None, :] * WIDTH
            if HELD:
                mask = there[None, :] if EVEN else there[None, :] & (d.T < WIDTH)
                key = tl.load(keys + d.T, mask=mask, other=0.0)
                products = tl.dot(query, key, input_precision=PRECISION)
            else:
                products = product_of_rows(
                    queries, keys, m < QUERIES, there[None, :], WIDTH, EVEN, PRECISION,
                    BLOCK_M, BLOCK_N, BLOCK_K,
                )  # fmt: skip
            scores = biased_scores(
                products, m, n[None, :], own, QUERIES, KEYS, BIAS_ROW, BIAS_ROWS, BIAS_COLS,
                SCALE, CAUSAL, masked == 1,
            )  # fmt: skip
            top = tl.maximum(most, tl.max(scores, axis=1, keep_dims=True))
            # Beside an infinite maximum exponentials are relative to 0: inf - inf would be NaN.
            pivot = tl.where(tl.abs(top) == float("inf"), 0.0, top)
            p = tl.exp(scores - pivot)
            shrunk = tl.exp(most - pivot)
            total = total * shrunk + tl.sum(p, axis=1, keep_dims=True)
            value = load_rows(v + column[:, None] * DEPTH, there[:, None], e, DEPTH, EVEN)
            acc = tl.dot(p.to(value.dtype), value, acc * shrunk, input_precision=PRECISION)
            most = top
    pivot = tl.where(tl.abs(most) == float("inf"), 0.0, most)
    tl.store(lse + head * QUERIES + m, pivot + tl.log(total), mask=m < QUERIES)
    mask = (m < QUERIES) & (e < DEPTH)
    EPILOGUE(acc / total, row, e, row * DEPTH + e, mask, outs, extras, tl.program_id(0))


def scores_of(
    q: torch.Tensor, k: torch.Tensor, bias: torch.Tensor, scale: float, causal: bool
) -> torch.Tensor:
    """[batch, heads, queries, keys]."""
    scores = torch.einsum("bmhd,bnhd->bhmn", q, k) * scale + bias
    if causal:
        ahead = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
        scores = scores.masked_fill(ahead, float("-inf"))
    return scores


def attention_reference(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    bias: torch.Tensor,
    scale: float = 1.0,
    causal: bool = False,
    precision: str = "ieee",
) -> tuple[torch.Tensor, torch.Tensor]:
    scores = scores_of(q, k, bias, scale, causal)
    o = torch.einsum("bhmn,bnhd->bmhd", torch.softmax(scores, -1), v)
    return o, torch.logsumexp(scores, -1)


def _infer(problem: Problem) -> tuple[TensorSpec, ...]:
    size = size_of(problem)
    o = TensorSpec((size.batch, size.queries, size.heads, size.depth), problem.dtype())
    return o, TensorSpec((size.batch, size.heads, size.queries), "float32")


def _plan(problem: Problem, config: AttentionConfig, epilogue: Epilogue) -> Program:
    size = size_of(problem)
    programs = size.batch * size.heads * ceil_div(size.queries, config.block_m)

    def launch(stage: Epilogue, split: int) -> Launch:
        return Launch(
            kernel=attention_kernel,
            pointers={**{name: name for name in OPERANDS}, **stage.pointers, "lse": "lse"},
            constexprs={
                **attention_constexprs(problem, config, 0, *_infer(problem)),
                "EPILOGUE": stage.function,
                "BLOCK_M": config.block_m,
                "BLOCK_N": config.block_n,
            },
            grid=(programs, 1, 1),
            num_warps=config.num_warps,
            num_stages=config.num_stages,
            # Always an argument: a last, ragged block that stands alone behind a loop of known length is
            # loaded into registers, and spills.
            scalars={"KEYS": size.keys},
            max_registers=MOST_REGISTERS,
        )

    rows = size.batch * size.queries * size.heads
    return gemm_program(launch, rows, size.depth, programs, 1, epilogue)


def cases(gradient: bool = False) -> tuple[Problem, ...]:
    """Problems worth testing."""
    found = []
    for batch, heads, queries, keys, width, depth, dtype, bias, causal in (
        (1, 2, 20, 37, 24, 8, "float32", (1, 1, 1), False),
        (2, 1, 33, 33, 20, 20, "bfloat16", (1, 1, 1, 1), True),
        (1, 2, 37, 18, 16, 16, "float16", (2, 37, 18), False),
        (2, 2, 5, 19, 33, 33, "float32", (2, 1, 1, 19), True),
        (1, 1, 19, 5, 16, 32, "float32", (19, 1), True),
    ):
        q, o = (batch, queries, heads, width), (batch, queries, heads, depth)
        k, v = (batch, keys, heads, width), (batch, keys, heads, depth)
        operands = [(q, dtype), (k, dtype), (v, dtype), (bias, dtype)]
        if gradient:
            operands = [(o, dtype), *operands, (o, dtype), ((batch, heads, queries), "float32")]
        found.append(Problem.of(operands, scale=0.3, causal=causal))
    return tuple(found)


def _work(problem: Problem) -> Work:
    moved = sum(spec.bytes for spec in (*problem.operands, *_infer(problem)))
    return Work(moved, size_of(problem).flops(1, 1, problem.attrs["causal"]))


attention = register(
    KernelSpec(
        name="attention",
        operands=OPERANDS,
        results=("out0", "lse"),
        kernels=(attention_kernel,),
        infer=_infer,
        plan=_plan,
        reference=attention_reference,
        space=attention_space(0),
        cases=cases(),
        work=_work,
        supports=unsupported,
    )
)
