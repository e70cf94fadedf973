"""Elements and rows by index.

Each rule has torch's own meaning of negative indices. Where torch raises, since an index lies outside of
its axis, NaN is read; of integers 0, of bools false.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from ..importer import Builder, NoRule, Value, rule
from ..mlir import TensorType
from ..ops.common import broadcast
from ..sizes import is_symbolic
from .reduce import reduce

MOST_BOUNDARIES = 256
"""So many comparisons of a number are cheaper than to search, and fuse."""


@rule("aten.embedding.default")
def _embedding(b: Builder, table: Value, indices: Value, *options: object) -> Value:
    return b.emit("gather", table, indices, axis=0)


@rule("aten.index_select.default")
def _index_select(b: Builder, x: Value, dim: int, indices: Value) -> Value:
    kind = TensorType.of(x)
    if not kind.rank or TensorType.of(indices).rank != 1:
        raise NoRule("aten.index_select of or by a scalar")
    return b.emit("gather", x, indices, axis=dim % kind.rank)


@rule("aten.index.Tensor")
def _index(b: Builder, x: Value, indices: Sequence[Value | None]) -> Value:
    named, shape = indexed(b, indices), TensorType.of(x).shape
    first, last = min(named), max(named)
    numbers, count = numbers_of(b, shape, named, first, wraps=True)
    rows = b.reshape(x, (*shape[:first], prod(shape[first : last + 1]), *shape[last + 1 :]))
    made = b.emit("gather", rows, numbers, axis=first)
    if len(named) == last + 1 - first:
        return made
    # The axes of indices with others between them stand before all others.
    rank = TensorType.of(made).rank
    order = [*range(first, first + count), *range(first), *range(first + count, rank)]
    return b.transpose(made, order)


def indexed(b: Builder, indices: Sequence[Value | None]) -> dict[int, Value]:
    """The tensors that index, by axis."""
    named = {axis: index for axis, index in enumerate(indices) if index is not None}
    if not named or any(TensorType.of(i).dtype not in ("i32", "i64") for i in named.values()):
        raise NoRule(f"{b.node.target} by a mask, or by no tensor")
    return named


def numbers_of(
    b: Builder, shape: Sequence[int], named: dict[int, Value], first: int, *, wraps: bool
) -> tuple[Value, int]:
    """The places in axes `first` to the last indexed one, as row-major numbers.

    Their axes are those that the indices make together (the second result says how many), then those
    that none indexes. Whether a negative index counts from the end, `wraps` says; a place outside has a
    number outside.
    """
    if wraps:
        named = {axis: _wrapped(b, index, shape[axis]) for axis, index in named.items()}
    if list(named) == [first]:
        (index,) = named.values()
        return index, TensorType.of(index).rank
    together = broadcast([TensorType.of(index) for index in named.values()])
    axes = range(first, max(named) + 1)
    free = [axis for axis in axes if axis not in named]
    whole = (*together, *(shape[axis] for axis in free))
    places = []
    for axis in axes:
        if axis in named:
            index = b.cast(named[axis], "i64")
            place = b.reshape(index, (*TensorType.of(index).shape, *[1] * len(free)))
        else:
            place = b.emit("iota", shape=whole, axis=len(together) + free.index(axis), dtype="i64")
        places.append(place)
    extents = [shape[axis] for axis in axes]
    checked = [axis in named for axis in axes]
    return b.broadcast(_number(b, extents, places, checked), whole), len(together)


def _wrapped(b: Builder, index: Value, extent: int) -> Value:
    """Negative indices counted from the end of an axis."""
    dtype = TensorType.of(index).dtype
    negative = b.emit("lt", index, b.scalar(0, dtype))
    return b.emit("select", negative, b.emit("add", index, b.scalar(extent, dtype)), index)


def _number(
    b: Builder, extents: Sequence[int], places: Sequence[Value], checked: Sequence[bool]
) -> Value:
    """The row-major number of an element, of its i64 places in axes of these extents; outside of all
    numbers where one of the `checked` places is outside of its axis.
    """
    number, inside = places[0], None
    for extent, place, check in zip(extents[1:], places[1:], checked[1:], strict=True):
        number = b.emit("add", b.emit("mul", number, b.scalar(extent, "i64")), place)
        if check:  # a first place outside gives a number outside anyway
            low = b.emit("ge", place, b.scalar(0, "i64"))
            both = b.emit("logical_and", low, b.emit("lt", place, b.scalar(extent, "i64")))
            inside = both if inside is None else b.emit("logical_and", inside, both)
    return number if inside is None else b.emit("select", inside, number, b.scalar(-1, "i64"))


def along(b: Builder, x: Value, axis: int, index: Value) -> Value:
    """The numbers in x of the elements whose place along one axis `index` has, and which stand where
    that does along the others.
    """
    shape, places = TensorType.of(x).shape, TensorType.of(index).shape
    iotas = [b.emit("iota", shape=places, axis=i, dtype="i64") for i in range(len(shape))]
    iotas[axis] = b.cast(index, "i64")
    return _number(b, shape, iotas, [i == axis for i in range(len(shape))])


def hot(b: Builder, x: Value, axis: int, index: Value) -> Value:
    """Bools of x's shape: true where the place along `axis` is the row's only index."""
    kind, places = TensorType.of(x), TensorType.of(index)
    return b.emit("eq", b.emit("iota", shape=kind.shape, axis=axis, dtype=places.dtype), index)


def one_a_row(x: Value, axis: int, index: Value) -> bool:
    """Whether `index` has one place along `axis` for each row of x."""
    shape = TensorType.of(x).shape
    return TensorType.of(index).shape == tuple(1 if i == axis else n for i, n in enumerate(shape))


@rule("aten.gather.default")
def _gather(b: Builder, x: Value, dim: int, index: Value, sparse_grad: bool = False) -> Value:
    """One element a row is the sum of the row with all others replaced by zero: a reduction, which
    becomes one kernel with what makes the row.
    """
    kind = TensorType.of(x)
    if not kind.rank or not TensorType.of(index).rank:
        raise NoRule("aten.gather from or by a scalar")
    axis = dim % kind.rank
    if kind.dtype == "i1" or not one_a_row(x, axis, index):
        flat = b.reshape(x, (kind.size,))
        return b.emit("gather", flat, along(b, x, axis, index), axis=0)
    kept = b.emit("select", hot(b, x, axis, index), x, b.scalar(0, kind.dtype))
    return reduce(b, "sum", kept, (axis,), keepdim=True)


@rule("aten.one_hot.default")
def _onehot(b: Builder, indices: Value, classes: int = -1) -> Value:
    if classes < 0:
        raise NoRule("aten.one_hot without a number of classes")
    kind = TensorType.of(indices)
    places = b.emit("iota", shape=b.result.shape, axis=kind.rank, dtype=kind.dtype)
    return b.cast(b.emit("eq", places, b.reshape(indices, (*kind.shape, 1))), b.result.dtype)


@rule("aten.bucketize.Tensor")
def _bucketize(
    b: Builder, x: Value, boundaries: Value, *, out_int32: bool = False, right: bool = False
) -> Value:
    return _counted(b, x, boundaries, right)


@rule("aten.searchsorted.Tensor")
def _searchsorted(
    b: Builder,
    boundaries: Value,
    x: Value,
    *,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
    sorter: Value | None = None,
) -> Value:
    if sorter is not None:
        raise NoRule("aten.searchsorted in numbers that a sorter orders")
    return _counted(b, x, boundaries, right or side == "right")


def _counted(b: Builder, x: Value, boundaries: Value, right: bool) -> Value:
    """How many boundaries lie before x (`right`: at or before it); all do before a NaN. They are along
    the last axis, for all of x or for each row of it.
    """
    kind, edges, dtype = TensorType.of(x), TensorType.of(boundaries), b.common_dtype(x, boundaries)
    *rows, count = edges.shape
    if is_symbolic(count) or count > MOST_BOUNDARIES:
        raise NoRule(f"{b.node.target} of {count} boundaries, too many to compare with each")
    shape = (*kind.shape, count)
    each = b.broadcast(b.reshape(b.cast(x, dtype), (*kind.shape, 1)), shape)
    known = b.cast(boundaries, dtype)
    if rows:
        known = b.reshape(known, (*rows, 1, count))
    edge = b.broadcast(known, shape)
    beyond = b.emit("gt" if right else "ge", edge, each)
    before = b.cast(b.emit("logical_not", beyond), b.result.dtype)
    return reduce(b, "sum", before, [kind.rank])
