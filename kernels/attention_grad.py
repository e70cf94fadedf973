"""Gradients of attention by queries, keys and values (Dao 2023, "FlashAttention-2", section 3.2).

Two kernels make the probabilities again, tile by tile, from the rows' log-sum-exp. In the first a program
owns queries: it goes through the keys for their gradient, and leaves of each row the product of o and its
gradient. In the second one owns keys, and goes through the queries for the gradients of keys and values.
Every sum is made by one program in a fixed order.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import triton
import triton.language as tl
from triton.runtime.jit import JITFunction

from .attention import cases, scores_of
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
from .launch import MOST_REGISTERS, Epilogue, Launch, Program
from .problem import Problem, TensorSpec, Work, ceil_div
from .spec import KernelSpec, register

OPERANDS = ("g", "q", "k", "v", "bias", "o", "lse")


@triton.jit
def attention_query_grad_kernel(
    g,
    q,
    k,
    v,
    bias,
    o,
    lse,
    dq,
    delta,
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
    INDEX: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_WIDTH: tl.constexpr,
    BLOCK_DEPTH: tl.constexpr,
):
    """The gradient of ``BLOCK_M`` queries of one head, and Σ o g of their rows in ``delta``."""
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
    row, here = (batch * QUERIES + m) * HEADS + place, m < QUERIES
    queries, upstreams = q + row * WIDTH, g + row * DEPTH
    own = bias + batch * BIAS_BATCH + place * BIAS_HEAD
    upstream = load_rows(upstreams, here, e, DEPTH, EVEN)
    made = load_rows(o + row * DEPTH, here, e, DEPTH, EVEN)
    mean = tl.sum(upstream.to(tl.float32) * made.to(tl.float32), axis=1, keep_dims=True)
    tl.store(delta + head * QUERIES + m, mean, mask=here)
    log_total = tl.load(lse + head * QUERIES + m, mask=here, other=0.0)
    if HELD:
        query = load_rows(queries, here, d, WIDTH, EVEN)
    acc = tl.zeros((BLOCK_M, BLOCK_WIDTH), dtype=tl.float32)
    whole, end = key_bounds(first, KEYS, CAUSAL, BLOCK_M, BLOCK_N)
    for masked in tl.static_range(2):
        for start in tl.range(whole * masked, whole + (end - whole) * masked, BLOCK_N):
            n = start + lane
            column, there = (batch * KEYS + n) * HEADS + place, n < KEYS
            key = load_rows(k + column[:, None] * WIDTH, there[:, None], d, WIDTH, EVEN)
            if HELD:
                value = load_rows(v + column[:, None] * DEPTH, there[:, None], e, DEPTH, EVEN)
                products = tl.dot(query, key.T, input_precision=PRECISION)
                dp = tl.dot(upstream, value.T, input_precision=PRECISION)
            else:
                products = product_of_rows(
                    queries, k + column[None, :] * WIDTH, here, there[None, :], WIDTH, EVEN,
                    PRECISION, BLOCK_M, BLOCK_N, BLOCK_K,
                )  # fmt: skip
                dp = product_of_rows(
                    upstreams, v + column[None, :] * DEPTH, here, there[None, :], DEPTH, EVEN,
                    PRECISION, BLOCK_M, BLOCK_N, BLOCK_K,
                )  # fmt: skip
            scores = biased_scores(
                products, m, n[None, :], own, QUERIES, KEYS, BIAS_ROW, BIAS_ROWS, BIAS_COLS,
                SCALE, CAUSAL, masked == 1,
            )  # fmt: skip
            ds = tl.exp(scores - log_total) * (dp - mean) * SCALE
            acc = tl.dot(ds.to(key.dtype), key, acc, input_precision=PRECISION)
    mask = here & (d < WIDTH)
    tl.store(dq + row * WIDTH + d, acc.to(dq.dtype.element_ty), mask=mask)


@triton.jit
def attention_key_grad_kernel(
    g,
    q,
    k,
    v,
    bias,
    lse,
    delta,
    dk,
    dv,
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
    INDEX: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_WIDTH: tl.constexpr,
    BLOCK_DEPTH: tl.constexpr,
):
    """The gradients of ``BLOCK_N`` keys of one head, and of their values. Tiles lie transposed: keys by
    queries."""
    tiles = (KEYS + BLOCK_N - 1) // BLOCK_N
    head = (tl.program_id(0) // tiles).to(INDEX)
    batch, place = head // HEADS, head % HEADS
    first = tl.program_id(0) % tiles * BLOCK_N
    n = (first + tl.arange(0, BLOCK_N)).to(INDEX)[:, None]
    lane = tl.arange(0, BLOCK_M).to(INDEX)
    d = tl.arange(0, BLOCK_WIDTH)[None, :]
    e = tl.arange(0, BLOCK_DEPTH)[None, :]
    column, there = (batch * KEYS + n) * HEADS + place, n < KEYS
    keys, values = k + column * WIDTH, v + column * DEPTH
    own = bias + batch * BIAS_BATCH + place * BIAS_HEAD
    if HELD:
        key = load_rows(keys, there, d, WIDTH, EVEN)
        value = load_rows(values, there, e, DEPTH, EVEN)
    by_key = tl.zeros((BLOCK_N, BLOCK_WIDTH), dtype=tl.float32)
    by_value = tl.zeros((BLOCK_N, BLOCK_DEPTH), dtype=tl.float32)
    # Of causal attention, queries from which on some of the keys are seen, and all of them.
    some, every = 0, 0
    if CAUSAL:
        some = first // BLOCK_M * BLOCK_M
        every = (first + BLOCK_N - 1 + BLOCK_M - 1) // BLOCK_M * BLOCK_M
    for clear in tl.static_range(2):
        end = tl.minimum(every + (QUERIES - every) * clear, QUERIES)
        for start in tl.range(some + (every - some) * clear, end, BLOCK_M):
            m = start + lane
            row, here = (batch * QUERIES + m) * HEADS + place, m < QUERIES
            query = load_rows(q + row[:, None] * WIDTH, here[:, None], d, WIDTH, EVEN)
            upstream = load_rows(g + row[:, None] * DEPTH, here[:, None], e, DEPTH, EVEN)
            if HELD:
                products = tl.dot(key, query.T, input_precision=PRECISION)
                dp = tl.dot(value, upstream.T, input_precision=PRECISION)
            else:
                products = product_of_rows(
                    keys, q + row[None, :] * WIDTH, there, here[None, :], WIDTH, EVEN,
                    PRECISION, BLOCK_N, BLOCK_M, BLOCK_K,
                )  # fmt: skip
                dp = product_of_rows(
                    values, g + row[None, :] * DEPTH, there, here[None, :], DEPTH, EVEN,
                    PRECISION, BLOCK_N, BLOCK_M, BLOCK_K,
                )  # fmt: skip
            scores = biased_scores(
                products, m[None, :], n, own, QUERIES, KEYS, BIAS_ROW, BIAS_ROWS, BIAS_COLS,
                SCALE, CAUSAL, CAUSAL and clear == 0,
            )  # fmt: skip
            at = head * QUERIES + m
            # Rows that do not exist have no probabilities.
            log_total = tl.load(lse + at, mask=here, other=float("inf"))[None, :]
            mean = tl.load(delta + at, mask=here, other=0.0)[None, :]
            p = tl.exp(scores - log_total)
            left = p.to(upstream.dtype)
            by_value = tl.dot(left, upstream, by_value, input_precision=PRECISION)
            ds = (p * (dp - mean) * SCALE).to(query.dtype)
            by_key = tl.dot(ds, query, by_key, input_precision=PRECISION)
    tl.store(dk + column * WIDTH + d, by_key.to(dk.dtype.element_ty), mask=there & (d < WIDTH))
    tl.store(dv + column * DEPTH + e, by_value.to(dv.dtype.element_ty), mask=there & (e < DEPTH))


def attention_grad_reference(
    g: torch.Tensor,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    bias: torch.Tensor,
    o: torch.Tensor,
    lse: torch.Tensor,
    scale: float = 1.0,
    causal: bool = False,
    precision: str = "ieee",
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    p = torch.exp(scores_of(q, k, bias, scale, causal) - lse[..., None])
    mean = torch.einsum("bmhe,bmhe->bhm", g, o)[..., None]
    ds = p * (torch.einsum("bmhe,bnhe->bhmn", g, v) - mean) * scale
    dq, dk = torch.einsum("bhmn,bnhd->bmhd", ds, k), torch.einsum("bhmn,bmhd->bnhd", ds, q)
    return dq, dk, torch.einsum("bhmn,bmhe->bnhe", p, g)


def _infer(problem: Problem) -> tuple[TensorSpec, ...]:
    return problem.operands[1:4]


def _plan(problem: Problem, config: AttentionConfig, epilogue: Epilogue) -> Program:
    size = size_of(problem, 1)
    heads = size.batch * size.heads
    constants = attention_constexprs(problem, config, 1)

    def launch(
        kernel: JITFunction, names: Mapping[str, str], m: int, n: int, programs: int
    ) -> Launch:
        return Launch(
            kernel=kernel,
            pointers=names,
            constexprs={**constants, "BLOCK_M": m, "BLOCK_N": n},
            grid=(heads * programs, 1, 1),
            num_warps=config.num_warps,
            num_stages=config.num_stages,
            scalars={"KEYS": size.keys},
            max_registers=MOST_REGISTERS,
        )

    read = {name: name for name in OPERANDS} | {"delta": "delta"}
    queries = launch(
        attention_query_grad_kernel,
        {**read, "dq": "out0"},
        config.block_m,
        config.block_n,
        ceil_div(size.queries, config.block_m),
    )
    del read["o"]
    keys = launch(
        attention_key_grad_kernel,
        {**read, "dk": "dk", "dv": "dv"},
        config.block_n,
        config.block_m,
        ceil_div(size.keys, config.block_m),
    )
    delta = TensorSpec((size.batch, size.heads, size.queries), "float32")
    return Program((queries, keys), {"delta": delta})


def _work(problem: Problem) -> Work:
    """Either kernel makes scores and the gradient of the probabilities; then there are three products."""
    moved = sum(spec.bytes for spec in (*problem.operands, *_infer(problem)))
    return Work(moved, size_of(problem, 1).flops(4, 3, problem.attrs["causal"]))


attention_grad = register(
    KernelSpec(
        name="attention_grad",
        operands=OPERANDS,
        results=("out0", "dk", "dv"),
        kernels=(attention_query_grad_kernel, attention_key_grad_kernel),
        infer=_infer,
        plan=_plan,
        reference=attention_grad_reference,
        space=attention_space(1),
        cases=cases(gradient=True),
        work=_work,
        supports=lambda problem: unsupported(problem, 1),
        epilogues=False,
    )
)
