"""Elements by index: lookup along an axis, and its counterpart, what is folded at an index."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..dialect import Attributes, define
from ..errors import DialectError
from ..mlir import TensorType
from .common import require_axes

Types = Sequence[TensorType]
Tensors = Sequence[torch.Tensor]


OUTSIDE = {True: float("nan"), False: 0}
"""What a lookup outside of an axis reads, by whether the elements are floats."""


SCATTERS = {"sum": "sum", "prod": "prod", "max": "amax", "min": "amin"}
"""What `scatter` folds with -> torch's name of it."""


def _require_index(kind: TensorType) -> None:
    if kind.dtype not in ("i32", "i64"):
        raise DialectError(f"indices must be i32 or i64, not {kind.dtype}")


def _infer_gather(types: Types, attributes: Attributes) -> list[TensorType]:
    x, indices = types
    (axis,) = require_axes((attributes["axis"],), x.rank)
    _require_index(indices)
    if not x.shape[axis]:
        raise DialectError(f"axis {axis} of {x} has nothing to look up")
    return [x.with_shape((*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]))]


@define("gather", "x indices", _infer_gather, attributes="axis")
def _gather(xs: Tensors, attributes: Attributes) -> list[torch.Tensor]:
    """x at `indices` along `axis`, which the axes of `indices` replace.

    An index below 0 or beyond the axis reads NaN; of integers 0, of bools false.
    """
    (x, indices), axis = xs, attributes["axis"]
    inside = (indices >= 0) & (indices < x.shape[axis])
    safe = torch.where(inside, indices, 0).long()
    found = x.index_select(axis, safe.flatten()).unflatten(axis, safe.shape or (1,))
    if not safe.dim():
        found = found.squeeze(axis)
    inside = inside.reshape((*inside.shape, *[1] * (x.dim() - axis - 1)))
    return [torch.where(inside, found, x.new_tensor(OUTSIDE[x.is_floating_point()]))]


def _infer_scatter(types: Types, attributes: Attributes) -> list[TensorType]:
    updates, indices = types
    _require_index(indices)
    if updates.shape[:-1] != indices.shape:
        raise DialectError(f"updates {updates} need a row for each index of {indices}")
    if updates.dtype == "i1":
        raise DialectError("updates must be numbers, not bools")
    if attributes["fold"] not in SCATTERS:
        raise DialectError(f"fold must be one of {', '.join(SCATTERS)}, not {attributes['fold']!r}")
    return [updates.with_shape((attributes["rows"], updates.shape[-1]))]


@define("scatter", "updates indices", _infer_scatter, attributes="rows fold")
def _scatter(xs: Tensors, attributes: Attributes) -> list[torch.Tensor]:
    """A table of `rows` rows, each the sum, prod, max or min of the updates whose index it is, in their
    order; where there is none, the number that such a `fold` starts from.

    Updates at an index below 0 or beyond the rows are left out.
    """
    (updates, indices), rows, fold = xs, attributes["rows"], attributes["fold"]
    inside = (indices >= 0) & (indices < rows)
    places = torch.where(inside, indices, rows).long().flatten()
    updates = updates.reshape(places.numel(), updates.shape[-1])
    table = updates.new_full((rows + 1, updates.shape[-1]), start_of(fold, updates.dtype))
    if fold != "sum":
        across = places[:, None].expand(updates.shape)
        return [table.scatter_reduce(0, across, updates, SCATTERS[fold])[:rows]]
    if updates.is_cuda:  # index_add is atomic there, index_put sorts: sums repeat bit for bit
        return [table.index_put((places,), updates, accumulate=True)[:rows]]
    return [table.index_add(0, places, updates)[:rows]]


def start_of(fold: str, dtype: torch.dtype) -> float | int:
    """What a fold leaves as it is, whatever it is."""
    if fold in ("sum", "prod"):
        return int(fold == "prod")
    if dtype.is_floating_point:
        return float("-inf" if fold == "max" else "inf")
    return torch.iinfo(dtype).min if fold == "max" else torch.iinfo(dtype).max
