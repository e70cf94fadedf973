"""Elements and rows by index."""

from __future__ import annotations

from collections.abc import Sequence

from mlir import ir

from ..importer import Builder, NoRule, Value, rule
from ..keras_rewrites import splat
from ..mlir import TensorType
from .reduce import reduce


@rule("aten.embedding.default")
def _embedding(b: Builder, table: Value, indices: Value, *options: object) -> Value:
    return b.emit("gather", table, indices)


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
    return b.emit("scatter_add", g, indices, rows=rows)


@rule("aten.index_select.default")
def _index_select(b: Builder, x: Value, dim: int, indices: Value) -> Value:
    kind = TensorType.of(x)
    if not kind.rank or TensorType.of(indices).rank != 1:
        raise NoRule("aten.index_select of or by a scalar")
    return _take(b, x, dim % kind.rank, indices)


def _take(b: Builder, x: Value, axis: int, indices: Value) -> Value:
    """Axis `axis` of x replaced by the axes of `indices`: whole rows of x with that axis first."""
    shape, places = TensorType.of(x).shape, TensorType.of(indices).shape
    rest = [i for i in range(len(shape)) if i != axis]
    table = b.reshape(b.transpose(x, [axis, *rest]), (shape[axis], _size(shape) // shape[axis]))
    made = b.reshape(b.emit("gather", table, indices), (*places, *(shape[i] for i in rest)))
    # The indices' axes stand first; x's axes before `axis` go before them.
    count = len(places)
    order = [*range(count, count + axis), *range(count), *range(count + axis, count + len(rest))]
    return b.transpose(made, order)


def _size(shape: Sequence[int]) -> int:
    return TensorType(tuple(shape), "i1").size


@rule("aten.index.Tensor")
def _index(b: Builder, x: Value, indices: Sequence[Value | None]) -> Value:
    named = [(axis, index) for axis, index in enumerate(indices) if index is not None]
    if len(named) != 1 or TensorType.of(named[0][1]).dtype not in ("i32", "i64"):
        raise NoRule("aten.index by other than one integer tensor")
    axis, index = named[0]
    extent = TensorType.of(x).shape[axis]
    dtype = TensorType.of(index).dtype
    # torch counts negative indices from the end.
    wrapped = b.emit("add", index, b.scalar(extent, dtype))
    negative = b.emit("lt", index, b.scalar(0, dtype))
    return _take(b, x, axis, b.emit("select", negative, wrapped, index))


def _hot(b: Builder, x: Value, axis: int, index: Value) -> Value:
    """Bools of x's shape: true where the place along `axis` is the row's index.

    Only for an index of extent 1 along `axis` that has x's extents elsewhere; gathering by more
    indices has no dialect op.
    """
    kind, places = TensorType.of(x), TensorType.of(index)
    if places.shape != tuple(1 if i == axis else n for i, n in enumerate(kind.shape)):
        raise NoRule(f"{b.node.target} by {places} in {kind}: more than one index a row")
    return b.emit("eq", b.emit("iota", shape=kind.shape, axis=axis, dtype=places.dtype), index)


@rule("aten.gather.default")
def _gather(b: Builder, x: Value, dim: int, index: Value, sparse_grad: bool = False) -> Value:
    """The sum of the row's elements with all but the indexed one replaced by zero."""
    kind = TensorType.of(x)
    if not kind.rank or kind.dtype == "i1":
        raise NoRule(f"aten.gather from {kind}")
    axis = dim % kind.rank
    kept = b.emit("select", _hot(b, x, axis, index), x, b.scalar(0, kind.dtype))
    return reduce(b, "sum", kept, (axis,), keepdim=True)


@rule("aten.scatter.value", "aten.scatter.src")
def _scatter(b: Builder, x: Value, dim: int, index: Value, value: Value | float) -> Value:
    kind = TensorType.of(x)
    if not kind.rank:
        raise NoRule("aten.scatter into a scalar")
    axis = dim % kind.rank
    if isinstance(value, ir.Value) and TensorType.of(value).shape != TensorType.of(index).shape:
        raise NoRule("aten.scatter from a source larger than the index")
    return b.emit("select", _hot(b, x, axis, index), b.tensor(value, kind.dtype), x)


@rule("aten.scatter_add.default")
def _scatter_add(b: Builder, x: Value, dim: int, index: Value, source: Value) -> Value:
    kind = TensorType.of(x)
    if not kind.rank or TensorType.of(source).shape != TensorType.of(index).shape:
        raise NoRule("aten.scatter_add into a scalar or from a source larger than the index")
    hot = _hot(b, x, dim % kind.rank, index)
    return b.emit("add", x, b.emit("select", hot, source, b.scalar(0, kind.dtype)))


@rule("aten.index_put.default")
def _index_put(
    b: Builder, x: Value, indices: Sequence[Value | None], values: Value, accumulate: bool = False
) -> Value:
    kind = TensorType.of(x)
    if not accumulate or len(indices) != 1 or not kind.is_float:
        raise NoRule("aten.index_put other than adding rows of floats by one index")
    (index,) = indices
    places = TensorType.of(index)
    if places.dtype not in ("i32", "i64"):
        raise NoRule("aten.index_put by a mask")
    updates = b.broadcast(values, (*places.shape, *kind.shape[1:]))
    width = kind.size // kind.shape[0]
    negative = b.emit("lt", index, b.scalar(0, places.dtype))
    wrapped = b.emit("add", index, b.scalar(kind.shape[0], places.dtype))
    added = b.emit(
        "scatter_add",
        b.reshape(updates, (*places.shape, width)),
        b.emit("select", negative, wrapped, index),
        rows=kind.shape[0],
    )
    return b.emit("add", x, b.reshape(added, kind.shape))


@rule("aten.cumsum.default")
def _cumsum(b: Builder, x: Value, dim: int, dtype: object = None) -> Value:
    """Of equal numbers only, as in masks: i times the number. Scans have no dialect op."""
    kind, number = TensorType.of(x), splat(x)
    if number is None or not kind.rank:
        raise NoRule("no dialect op for aten.cumsum.default")
    dtype = b.result.dtype
    place = b.emit("iota", shape=kind.shape, axis=dim % kind.rank, dtype=dtype)
    count = b.emit("add", place, b.scalar(1, dtype))
    return b.emit("mul", count, b.scalar(number, dtype))


@rule("aten.one_hot.default")
def _one_hot(b: Builder, indices: Value, classes: int = -1) -> Value:
    if classes < 0:
        raise NoRule("aten.one_hot without a number of classes")
    kind = TensorType.of(indices)
    places = b.emit("iota", shape=b.result.shape, axis=kind.rank, dtype=kind.dtype)
    return b.cast(b.emit("eq", places, b.reshape(indices, (*kind.shape, 1))), b.result.dtype)
