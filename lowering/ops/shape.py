"""Ops that move or make elements without computing on them."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch

from ..dialect import Attributes, define
from ..errors import DialectError
from ..mlir import TORCH_DTYPES, TensorType
from ..sizes import is_symbolic
from .common import broadcast, require_axes, require_dtype, require_ints, require_type, same_dtype

Types = Sequence[TensorType]
Tensors = Sequence[torch.Tensor]


def _infer_full(types: Types, attributes: Attributes) -> list[TensorType]:
    return [TensorType(tuple(attributes["shape"]), require_dtype(attributes))]


@define("full", "", _infer_full, attributes="value shape dtype")
def _full(xs: Tensors, attributes: Attributes) -> list[torch.Tensor]:
    """Every element is `value` (float for float dtypes, int otherwise; bool is 0 or 1)."""
    return [
        torch.full(
            attributes["shape"], attributes["value"], dtype=TORCH_DTYPES[attributes["dtype"]]
        )
    ]


def _infer_iota(types: Types, attributes: Attributes) -> list[TensorType]:
    shape = tuple(attributes["shape"])
    require_axes((attributes["axis"],), len(shape))
    return [TensorType(shape, require_dtype(attributes))]


@define("iota", "", _infer_iota, attributes="shape axis dtype")
def _iota(xs: Tensors, attributes: Attributes) -> list[torch.Tensor]:
    """Element = its index along `axis`."""
    shape, axis = attributes["shape"], attributes["axis"]
    line = torch.arange(shape[axis], dtype=TORCH_DTYPES[attributes["dtype"]])
    return [
        line.reshape([-1 if i == axis else 1 for i in range(len(shape))]).expand(shape).contiguous()
    ]


@define("barrier", "x", lambda types, attributes: [types[0]])
def _barrier(xs: Tensors, attributes: Attributes) -> list[torch.Tensor]:
    """x. No op that reads it is merged with one that reads x."""
    return [xs[0]]


def _infer_broadcast_to(types: Types, attributes: Attributes) -> list[TensorType]:
    result = types[0].with_shape(attributes["shape"])
    if result.rank < types[0].rank or broadcast([types[0], result]) != result.shape:
        raise DialectError(f"{types[0]} does not broadcast to shape {result.shape}")
    return [result]


@define("broadcast_to", "x", _infer_broadcast_to, attributes="shape")
def _broadcast_to(xs: Tensors, attributes: Attributes) -> list[torch.Tensor]:
    return [xs[0].expand(attributes["shape"])]


def _infer_broadcast_in_dim(types: Types, attributes: Attributes) -> list[TensorType]:
    shape, dims = tuple(attributes["shape"]), tuple(attributes["dims"])
    require_axes(dims, len(shape))
    if len(dims) != types[0].rank or list(dims) != sorted(dims):
        raise DialectError(
            f"dims {dims} must name an axis of the result for each of x's, ascending"
        )
    for extent, dim in zip(types[0].shape, dims, strict=True):
        if extent not in (1, shape[dim]):
            raise DialectError(f"an axis of {extent} does not broadcast to axis {dim} of {shape}")
    return [types[0].with_shape(shape)]


@define("broadcast_in_dim", "x", _infer_broadcast_in_dim, attributes="shape dims")
def _broadcast_in_dim(xs: Tensors, attributes: Attributes) -> list[torch.Tensor]:
    """Axis i of x becomes axis dims[i] of the result; along the others x repeats."""
    placed = [1] * len(attributes["shape"])
    for extent, dim in zip(xs[0].shape, attributes["dims"], strict=True):
        placed[dim] = extent
    return [xs[0].reshape(placed).expand(attributes["shape"])]


def _infer_reshape(types: Types, attributes: Attributes) -> list[TensorType]:
    if prod(attributes["shape"]) != types[0].size:
        raise DialectError(
            f"{types[0].size} elements do not fill shape {tuple(attributes['shape'])}"
        )
    return [types[0].with_shape(attributes["shape"])]


@define("reshape", "x", _infer_reshape, attributes="shape")
def _reshape(xs: Tensors, attributes: Attributes) -> list[torch.Tensor]:
    """Row-major order is kept."""
    return [xs[0].reshape(attributes["shape"])]


def _infer_transpose(types: Types, attributes: Attributes) -> list[TensorType]:
    permutation = tuple(attributes["permutation"])
    if sorted(permutation) != list(range(types[0].rank)):
        raise DialectError(
            f"permutation {permutation} must hold each axis of rank {types[0].rank} once"
        )
    return [types[0].with_shape([types[0].shape[axis] for axis in permutation])]


@define("transpose", "x", _infer_transpose, attributes="permutation")
def _transpose(xs: Tensors, attributes: Attributes) -> list[torch.Tensor]:
    """Axis i of the result is axis permutation[i] of x."""
    return [xs[0].permute(attributes["permutation"])]


def _infer_slice(types: Types, attributes: Attributes) -> list[TensorType]:
    rank = types[0].rank
    starts, limits = (require_ints(attributes, name, rank) for name in ("starts", "limits"))
    strides = require_ints(attributes, "strides", rank, least=1)
    for start, limit, extent in zip(starts, limits, types[0].shape, strict=True):
        # Which of a static and an open size is larger nobody knows here; who makes the op does.
        known = is_symbolic(limit) == is_symbolic(extent)
        if not start <= limit or (known and limit > extent):
            raise DialectError(f"the range {start}:{limit} does not lie within an axis of {extent}")
    shape = [-(-(hi - lo) // step) for lo, hi, step in zip(starts, limits, strides, strict=True)]
    return [types[0].with_shape(shape)]


@define("slice", "x", _infer_slice, attributes="starts limits strides")
def _slice(xs: Tensors, attributes: Attributes) -> list[torch.Tensor]:
    """x[starts[0]:limits[0]:strides[0], ...]."""
    bounds = zip(attributes["starts"], attributes["limits"], attributes["strides"], strict=True)
    return [xs[0][tuple(slice(*bound) for bound in bounds)]]


def _infer_reverse(types: Types, attributes: Attributes) -> list[TensorType]:
    require_axes(attributes["axes"], types[0].rank)
    return [types[0]]


@define("reverse", "x", _infer_reverse, attributes="axes")
def _reverse(xs: Tensors, attributes: Attributes) -> list[torch.Tensor]:
    """x with each of `axes` running backwards."""
    return [xs[0].flip(attributes["axes"])]


def _infer_concat(types: Types, attributes: Attributes) -> list[TensorType]:
    same_dtype(types)
    a, b = types
    axis = attributes["axis"]
    if a.rank != b.rank:
        raise DialectError(f"ranks {a.rank} and {b.rank} differ")
    require_axes((axis,), a.rank)
    joined = list(a.shape)
    joined[axis] += b.shape[axis]
    require_type(
        b, a.with_shape([b.shape[axis] if i == axis else n for i, n in enumerate(a.shape)]), "b"
    )
    return [a.with_shape(joined)]


@define("concat", "a b", _infer_concat, attributes="axis")
def _concat(xs: Tensors, attributes: Attributes) -> list[torch.Tensor]:
    return [torch.cat(list(xs), dim=attributes["axis"])]


def _infer_pad(types: Types, attributes: Attributes) -> list[TensorType]:
    rank = types[0].rank
    low, high = (require_ints(attributes, name, rank) for name in ("low", "high"))
    return [
        types[0].with_shape([n + a + b for n, a, b in zip(types[0].shape, low, high, strict=True)])
    ]


@define("pad", "x", _infer_pad, attributes="low high value")
def _pad(xs: Tensors, attributes: Attributes) -> list[torch.Tensor]:
    """`low[i]` elements of `value` before axis i and `high[i]` after it."""
    flat = [
        n for pair in zip(attributes["low"], attributes["high"], strict=True) for n in pair[::-1]
    ][::-1]
    return [torch.nn.functional.pad(xs[0], flat, value=attributes["value"])]
