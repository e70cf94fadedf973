"""Elements by index: lookup along an axis, and the sum of its gradients."""

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
    inside = inside.reshape(*inside.shape, *[1] * (x.dim() - axis - 1))
    return [torch.where(inside, found, x.new_tensor(OUTSIDE[x.is_floating_point()]))]


def _infer_scatter_add(types: Types, attributes: Attributes) -> list[TensorType]:
    updates, indices = types
    _require_index(indices)
    if updates.shape[:-1] != indices.shape:
        raise DialectError(f"updates {updates} need a row for each index of {indices}")
    return [updates.with_shape((attributes["rows"], updates.shape[-1]))]


@define("scatter_add", "updates indices", _infer_scatter_add, attributes="rows")
def _scatter_add(xs: Tensors, attributes: Attributes) -> list[torch.Tensor]:
    """A table of `rows` rows, each the sum of the updates whose index it is, in their order.

    Updates at an index below 0 or beyond the rows are left out.
    """
    (updates, indices), rows = xs, attributes["rows"]
    inside = (indices >= 0) & (indices < rows)
    table = updates.new_zeros(rows + 1, updates.shape[-1])
    places = torch.where(inside, indices, rows).long().flatten()
    updates = updates.reshape(places.numel(), updates.shape[-1])
    if updates.is_cuda:  # index_add is atomic there, index_put sorts: sums repeat bit for bit
        return [table.index_put((places,), updates, accumulate=True)[:rows]]
    return [table.index_add(0, places, updates)[:rows]]
