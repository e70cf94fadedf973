"""Reductions of a [rows, columns] tile, for generated kernels.

Those along the last axis keep it: [R, C] -> [R, 1].  ``tl.max`` and ``tl.min`` drop NaN, on the GPU
as in the interpreter; ``reduce_max`` and ``reduce_min`` let NaN win, as PyTorch does.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _multiply(a, b):
    return a * b


@triton.jit
def _and(a, b):
    return a & b


@triton.jit
def _or(a, b):
    return a | b


@triton.jit
def reduce_sum(x):
    """Sums, in the type of ``x``."""
    return tl.sum(x, axis=1, keep_dims=True).to(x.dtype)


@triton.jit
def reduce_max(x):
    """Maxima of floats or signed integers; NaN wins, and -0 < +0.

    Floats are compared as integers of the same order, NaN being the greatest: one reduction.
    """
    if x.dtype.is_floating():
        if x.dtype.primitive_bitwidth == 64:
            result = _ordered_max(x, tl.int64, 0x7FFFFFFFFFFFFFFF)
        else:
            result = _ordered_max(x.to(tl.float32), tl.int32, 0x7FFFFFFF)
    else:
        result = tl.max(x, axis=1, keep_dims=True)
    return result.to(x.dtype)


@triton.jit
def _ordered_max(x, INT: tl.constexpr, GREATEST: tl.constexpr):
    bits = x.to(INT, bitcast=True)
    key = tl.where(bits < 0, bits ^ GREATEST, bits)
    top = tl.max(tl.where(x != x, GREATEST, key), axis=1, keep_dims=True)
    return tl.where(top < 0, top ^ GREATEST, top).to(x.dtype, bitcast=True)


@triton.jit
def reduce_min(x):
    """Minima of floats or signed integers; NaN wins, and -0 < +0."""
    result = -reduce_max(-x) if x.dtype.is_floating() else tl.min(x, axis=1, keep_dims=True)
    return result.to(x.dtype)


@triton.jit
def reduce_product(x):
    """Products, in the type of ``x``."""
    return tl.reduce(x, 1, _multiply, keep_dims=True).to(x.dtype)


@triton.jit
def reduce_and(x):
    """Bitwise "and" of integers; of booleans, whether all hold."""
    if x.dtype.is_bool():
        result = tl.min(x.to(tl.int32), axis=1, keep_dims=True) != 0
    else:
        result = tl.reduce(x, 1, _and, keep_dims=True)
    return result


@triton.jit
def reduce_or(x):
    """Bitwise "or" of integers; of booleans, whether any holds."""
    if x.dtype.is_bool():
        result = tl.max(x.to(tl.int32), axis=1, keep_dims=True) != 0
    else:
        result = tl.reduce(x, 1, _or, keep_dims=True)
    return result


@triton.jit
def reduce_columns(x, mask):
    """[R, C] -> [1, C]: sums in float32 of the rows that ``mask`` [R, C] takes."""
    return tl.sum(tl.where(mask, x.to(tl.float32), 0.0), axis=0, keep_dims=True)
