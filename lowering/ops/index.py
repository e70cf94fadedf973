"""Rows by index: embedding lookup and the sum of its gradients."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..dialect import Attributes, define
from ..errors import DialectError
from ..mlir import TensorType
from .common import require_rank

Types = Sequence[TensorType]
Tensors = Sequence[torch.Tensor]


def _require_index(kind: TensorType) -> None:
    if kind.dtype not in ("i32", "i64"):
        raise DialectError(f"indices must be i32 or i64, not {kind.dtype}")


def _infer_gather(types: Types, attributes: Attributes) -> list[TensorType]:
    table, indices = types
    require_rank(table, 2, "table")
    _require_index(indices)
    return [table.with_shape((*indices.shape, table.shape[1]))]


@define("gather", "table indices", _infer_gather)
def _gather(xs: Tensors, attributes: Attributes) -> list[torch.Tensor]:
    """table[indices]: a row of the table for each index."""
    return [xs[0][xs[1].long()]]


def _infer_scatter_add(types: Types, attributes: Attributes) -> list[TensorType]:
    updates, indices = types
    _require_index(indices)
    if updates.shape[:-1] != indices.shape:
        raise DialectError(f"updates {updates} need a row for each index of {indices}")
    return [updates.with_shape((attributes["rows"], updates.shape[-1]))]


@define("scatter_add", "updates indices", _infer_scatter_add, attributes="rows")
def _scatter_add(xs: Tensors, attributes: Attributes) -> list[torch.Tensor]:
    """A table of `rows` rows, each the sum of the updates whose index it is."""
    updates, indices = xs
    table = torch.zeros(attributes["rows"], updates.shape[-1], dtype=updates.dtype)
    return [table.index_add(0, indices.long().flatten(), updates.flatten(0, -2))]
