"""Updates of elements and rows by index: folded into them, or put in their place.

Where several meet, they are taken in their order. An index outside of its axis, at which torch raises,
updates nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

from mlir import ir

from ..importer import Builder, NoRule, Value, rule
from ..mlir import TensorType
from .index import along, hot, indexed, numbers_of, one_a_row

JOINED = {"sum": "add", "prod": "mul", "max": "maximum", "min": "minimum"}
"""What a scatter folds with -> the pointwise op that joins the result to what is there."""


@dataclass(frozen=True)
class _Updates:
    """Values for rows of a tensor.

    Attributes:
        numbers: of the rows, which are the tensor's leading axes in row-major order.
        values: one row for each number, or a single element for all.
        rows: how many rows the tensor has.
    """

    numbers: Value
    values: Value
    rows: int

    @property
    def count(self) -> int:
        return TensorType.of(self.numbers).size

    @property
    def is_single(self) -> bool:
        return TensorType.of(self.values).size == 1


@rule("aten.embedding_dense_backward.default")
def _embedding_grad(
    b: Builder, g: Value, indices: Value, rows: int, padding_idx: int, scale_by_freq: bool
) -> Value:
    if scale_by_freq:
        raise NoRule("no dialect op for embedding gradients scaled by frequency")
    if padding_idx >= 0:
        kind = TensorType.of(indices)
        pads = b.emit("eq", indices, b.scalar(padding_idx, kind.dtype))
        g = b.emit(
            "select", b.reshape(pads, (*kind.shape, 1)), b.scalar(0, TensorType.of(g).dtype), g
        )
    return b.emit("scatter", g, indices, rows=rows, fold="sum")


@rule("aten.scatter.value", "aten.scatter.src")
def _scatter(b: Builder, x: Value, dim: int, index: Value, value: Value | float) -> Value:
    kind = TensorType.of(x)
    if not kind.rank:
        raise NoRule("aten.scatter into a scalar")
    axis = dim % kind.rank
    if isinstance(value, ir.Value) and TensorType.of(value).shape != TensorType.of(index).shape:
        raise NoRule("aten.scatter from a source larger than the index")
    value = b.tensor(value, kind.dtype)
    if one_a_row(x, axis, index):
        return b.emit("select", hot(b, x, axis, index), value, x)
    return _replaced(b, x, _Updates(along(b, x, axis, index), value, kind.size))


@rule("aten.scatter_add.default")
def _scatter_add(b: Builder, x: Value, dim: int, index: Value, source: Value) -> Value:
    kind = TensorType.of(x)
    if not kind.rank or not one_a_row(x, dim % kind.rank, index):
        return _scatter_reduce(b, x, dim, index, source, "sum")
    if TensorType.of(source).shape != TensorType.of(index).shape:
        raise NoRule("aten.scatter_add from a source larger than the index")
    added = b.emit("select", hot(b, x, dim % kind.rank, index), source, b.scalar(0, kind.dtype))
    return b.emit("add", x, added)


@rule("aten.scatter_reduce.two")
def _scatter_reduce(
    b: Builder,
    x: Value,
    dim: int,
    index: Value,
    source: Value,
    reduce: str,
    include_self: bool = True,
) -> Value:
    kind, fold = TensorType.of(x), reduce.removeprefix("a")
    if fold not in JOINED or kind.dtype == "i1" or not include_self:
        raise NoRule(f"{b.node.target} by {reduce} of {kind.dtype}, or without what is there")
    if not kind.rank or TensorType.of(source).shape != TensorType.of(index).shape:
        raise NoRule(f"{b.node.target} into a scalar or from a source larger than the index")
    numbers = along(b, x, dim % kind.rank, index)
    return _joined(b, fold, x, _Updates(numbers, source, kind.size))


@rule("aten.index_put.default")
def _index_put(
    b: Builder, x: Value, indices: Sequence[Value | None], values: Value, accumulate: bool = False
) -> Value:
    if accumulate and TensorType.of(x).dtype == "i1":
        raise NoRule("aten.index_put that adds bools")
    updates = _updates(b, x, indexed(b, indices), values, wraps=True)
    return _joined(b, "sum", x, updates) if accumulate else _replaced(b, x, updates)


@rule("aten.index_copy.default")
def _index_copy(b: Builder, x: Value, dim: int, index: Value, source: Value) -> Value:
    return _replaced(b, x, _rows(b, x, dim, index, source))


@rule("aten.index_add.default")
def _index_add(
    b: Builder, x: Value, dim: int, index: Value, source: Value, alpha: float = 1
) -> Value:
    dtype = TensorType.of(x).dtype
    if dtype == "i1":
        raise NoRule("aten.index_add of bools")
    updates = _rows(b, x, dim, index, source)
    if alpha != 1:
        scaled = b.emit("mul", updates.values, b.scalar(alpha, dtype))
        updates = replace(updates, values=scaled)
    return _joined(b, "sum", x, updates)


def _rows(b: Builder, x: Value, dim: int, index: Value, source: Value) -> _Updates:
    """Slices of `source` for those of x along an axis."""
    rank = TensorType.of(x).rank
    if not rank or not TensorType.of(index).rank:
        raise NoRule(f"{b.node.target} of or by a scalar")
    return _updates(b, x, {dim % rank: index}, source, wraps=False)


def _updates(
    b: Builder, x: Value, named: dict[int, Value], values: Value, *, wraps: bool
) -> _Updates:
    """`values` as torch broadcasts them over what the indices `named` by axis pick of x."""
    shape = TensorType.of(x).shape
    first, last = min(named), max(named)
    numbers, count = numbers_of(b, shape, named, 0, wraps=wraps)
    rest, places = shape[last + 1 :], TensorType.of(numbers).shape
    updates = _Updates(numbers, values, prod(shape[: last + 1]))
    if updates.is_single:
        return updates
    together, free = places[:count], places[count:]
    if len(named) < last + 1 - first:
        return replace(updates, values=b.broadcast(values, (*together, *free, *rest)))
    # The axes of indices side by side stand in the place of the axes that they index.
    spread = b.broadcast(values, (*shape[:first], *together, *rest))
    rank = first + count + len(rest)
    order = [*range(first, first + count), *range(first), *range(first + count, rank)]
    return replace(updates, values=b.transpose(spread, order))


def _joined(b: Builder, fold: str, x: Value, updates: _Updates) -> Value:
    """x with the updates folded into it."""
    kind = TensorType.of(x)
    shape = (*TensorType.of(updates.numbers).shape, kind.size // updates.rows)
    if updates.is_single:
        values = b.broadcast(b.reshape(updates.values, ()), shape)
    else:
        values = b.reshape(updates.values, shape)
    made = b.emit("scatter", values, updates.numbers, rows=updates.rows, fold=fold)
    return b.emit(JOINED[fold], x, b.reshape(made, kind.shape))


def _replaced(b: Builder, x: Value, updates: _Updates) -> Value:
    """x with the last of a row's updates in the place of the row: looked up by its number, which is
    the greatest of those that a scatter brings there.
    """
    kind, rows, count = TensorType.of(x), updates.rows, updates.count
    order = b.emit("iota", shape=(count, 1), axis=0, dtype="i64")
    numbers = b.reshape(updates.numbers, (count,))
    last = b.reshape(b.emit("scatter", order, numbers, rows=rows, fold="max"), (rows,))
    found = b.reshape(b.emit("ge", last, b.scalar(0, "i64")), (rows, 1))
    if updates.is_single:
        values = b.reshape(updates.values, ())
    else:
        whole = b.reshape(updates.values, (count, kind.size // rows))
        values = b.emit("gather", whole, last, axis=0)
    old = b.reshape(x, (rows, kind.size // rows))
    return b.reshape(b.emit("select", found, values, old), kind.shape)
