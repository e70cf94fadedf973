"""Stable order of rows of numbers, by counting: how many elements come before each.

A first kernel orders blocks of a row by comparing all pairs in a block. A second one searches every
other block for each element: its place among all is the sum of what it finds. An element of an earlier
block comes before an equal one, so the order is stable, and no two get the same place.

Of n elements in blocks of b that is n b comparisons and n (n / b) log2(b) loads: no passes over the
data that wait for one another, and little work up to some ten thousands of elements.
"""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl

from .launch import Launch
from .problem import TensorSpec, ceil_div, next_power_of_two, wide

COMPARED = 32
"""Elements of its block that each element is compared with at once."""


@triton.jit
def order_key(x, DESCENDING: tl.constexpr):
    """int64 numbers in the order of ``x``: NaN lies above all others, zeros are equal."""
    if x.dtype.is_floating():
        if x.dtype.primitive_bitwidth == 64:
            bits = x.to(tl.int64, bitcast=True)
            key = tl.where(bits < 0, bits ^ 0x7FFFFFFFFFFFFFFF, bits)
            key = tl.where(x != x, 0x7FFFFFFFFFFFFFFF, key)
        else:
            single = x.to(tl.float32)
            bits = single.to(tl.int32, bitcast=True)
            narrow = tl.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
            key = tl.where(x != x, 0x7FFFFFFF, narrow).to(tl.int64)
        key = tl.where(x == 0, 0, key)
    else:
        key = x.to(tl.int64)
    if DESCENDING:
        key = ~key
    return key


@triton.jit
def bound(keys, low, high, key, after, STEPS):
    """The first place in ``low..high`` of ordered ``keys`` whose key is not below ``key``; with ``after``
    the first whose key is above it. STEPS halvings must be enough for the longest range.
    """
    for _ in tl.range(0, STEPS):
        some = low < high
        middle = low + (high - low) // 2
        probe = tl.load(keys + middle, mask=some, other=0)
        right = some & ((probe < key) | (after & (probe == key)))
        high = tl.where(some & (right == 0), middle, high)
        low = tl.where(right, middle + 1, low)
    return low


@triton.jit
def order_blocks_kernel(
    x,
    keys,
    places,
    LENGTH,
    DESCENDING: tl.constexpr,
    INDEX: tl.constexpr,
    BLOCK: tl.constexpr,
    COMPARED: tl.constexpr,
):
    """The elements of a block of a row of ``x`` in order: their keys, and places in the row."""
    blocks = (LENGTH + BLOCK - 1) // BLOCK
    begin = tl.program_id(0) % blocks * BLOCK
    row = (tl.program_id(0) // blocks).to(INDEX) * LENGTH
    lane = tl.arange(0, BLOCK)[:, None]
    here = begin + lane < LENGTH
    key = order_key(tl.load(x + row + begin + lane, mask=here, other=0), DESCENDING)
    rank = tl.zeros((BLOCK, 1), dtype=tl.int32)
    for start in tl.range(0, BLOCK, COMPARED):
        near = start + tl.arange(0, COMPARED)[None, :]
        there = begin + near < LENGTH
        other = order_key(tl.load(x + row + begin + near, mask=there, other=0), DESCENDING)
        before = there & ((other < key) | ((other == key) & (near < lane)))
        rank += tl.sum(before.to(tl.int32), axis=1, keep_dims=True)
    target = row + begin + rank
    tl.store(keys + target, key, mask=here)
    tl.store(places + target, begin + lane, mask=here)


@triton.jit
def rank_of(keys, key, at, own, LENGTH, STEPS: tl.constexpr, BLOCK: tl.constexpr):
    """The places in a row of elements that stand ``at`` places of its blocks, all in block ``own``."""
    rank = at - own * BLOCK
    for block in tl.range(0, (LENGTH + BLOCK - 1) // BLOCK):
        begin = tl.zeros_like(rank) + block * BLOCK
        end = tl.minimum(begin + BLOCK, LENGTH)
        found = bound(keys, begin, end, key, block < own, STEPS) - begin
        rank += tl.where(block == own, 0, found)
    return rank


@triton.jit
def merge_keys_kernel(
    keys,
    places,
    ordered,
    order,
    LENGTH,
    STEPS: tl.constexpr,
    INDEX: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """The keys of a row in order, and where each stood."""
    blocks = (LENGTH + BLOCK - 1) // BLOCK
    own = tl.program_id(0) % blocks
    row = (tl.program_id(0) // blocks).to(INDEX) * LENGTH
    at = own * BLOCK + tl.arange(0, BLOCK)
    here = at < LENGTH
    key = tl.load(keys + row + at, mask=here, other=0)
    rank = rank_of(keys + row, key, at, own, LENGTH, STEPS, BLOCK)
    tl.store(ordered + row + rank, key, mask=here)
    tl.store(order + row + rank, tl.load(places + row + at, mask=here, other=0), mask=here)


def block_of(length: int) -> int:
    """How many elements of a row to order at once."""
    return min(max(next_power_of_two(length), 16), 512)


def scratch(rows: int, length: int) -> dict[str, TensorSpec]:
    """The buffers of `order_blocks`."""
    return {
        "keys": TensorSpec((rows, length), "int64"),
        "places": TensorSpec((rows, length), "int32"),
    }


def order_constexprs(rows: int, length: int, block: int) -> dict[str, Any]:
    """What both kernels take."""
    return {
        "LENGTH": length,
        "INDEX": tl.int64 if wide(*scratch(rows, length).values()) else tl.int32,
        "BLOCK": block,
    }


def steps(length: int) -> int:
    """How often a range of this length is halved until a search in it ends."""
    return length.bit_length()


def order_blocks(x: str, rows: int, length: int, block: int, descending: bool = False) -> Launch:
    """Orders the blocks of the rows of ``x`` into the buffers of `scratch`."""
    return Launch(
        kernel=order_blocks_kernel,
        pointers={"x": x, "keys": "keys", "places": "places"},
        constexprs={
            **order_constexprs(rows, length, block),
            "DESCENDING": descending,
            "COMPARED": min(COMPARED, block),
        },
        grid=(rows * ceil_div(length, block), 1, 1),
        num_warps=warps(block),
    )


def merge_keys(rows: int, length: int, block: int) -> Launch:
    """Puts the blocks together: buffers ``ordered`` of keys and ``order`` of their places."""
    return Launch(
        kernel=merge_keys_kernel,
        pointers={name: name for name in ("keys", "places", "ordered", "order")},
        constexprs={**order_constexprs(rows, length, block), "STEPS": steps(block)},
        grid=(rows * ceil_div(length, block), 1, 1),
        num_warps=warps(block),
    )


def warps(block: int) -> int:
    """Warps for a program of so many elements."""
    return min(max(block // 64, 1), 4)
