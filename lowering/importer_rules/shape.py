"""Ops that make, move or join elements."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Any

from mlir import ir

from ..dialect import attributes_of
from ..errors import SizeError
from ..importer import Builder, NoRule, Value, rule
from ..mlir import TensorType
from ..sizes import is_symbolic


@rule(
    "aten.view.default",
    "aten._unsafe_view.default",
    "aten.reshape.default",
    "aten.squeeze.default",
    "aten.squeeze.dim",
    "aten.squeeze.dims",
    "aten.unsqueeze.default",
    "aten.flatten.using_ints",
    "prims.view_of.default",
)
def _reshape(b: Builder, x: Value, *options: object) -> Value:
    """The result's shape says it all."""
    return b.reshape(x, b.result.shape)


@rule("aten.expand.default", "aten.expand_as.default")
def _expand(b: Builder, x: Value, *options: object, **kwargs: object) -> Value:
    return b.broadcast(x, b.result.shape)


@rule("aten.permute.default")
def _permute(b: Builder, x: Value, dims: Sequence[int]) -> Value:
    rank = TensorType.of(x).rank
    return b.transpose(x, [dim % rank for dim in dims])


@rule("aten.t.default", "aten.transpose.int")
def _transpose(b: Builder, x: Value, dim0: int = 0, dim1: int = 1) -> Value:
    rank = TensorType.of(x).rank
    permutation = list(range(rank))
    if rank > 1:
        permutation[dim0], permutation[dim1] = permutation[dim1], permutation[dim0]
    return b.transpose(x, permutation)


@rule("aten.repeat.default")
def _repeat(b: Builder, x: Value, repeats: Sequence[int]) -> Value:
    """Each axis of n repeated r times is an axis pair [r, n] with x broadcast along the first."""
    shape = (1,) * (len(repeats) - TensorType.of(x).rank) + TensorType.of(x).shape
    if not shape or set(repeats) == {1}:
        return b.reshape(x, b.result.shape)
    single = b.reshape(x, [n for extent in shape for n in (1, extent)])
    pairs = [n for pair in zip(repeats, shape, strict=True) for n in pair]
    return b.reshape(b.broadcast(single, pairs), b.result.shape)


def cut(b: Builder, x: Value, axis: int, start: int, limit: int, step: int = 1) -> Value:
    """x[start:limit:step] along one axis; x itself when that is all of it."""
    shape = TensorType.of(x).shape
    if (start, limit, step) == (0, shape[axis], 1):
        return x
    starts, limits, strides = [0] * len(shape), list(shape), [1] * len(shape)
    starts[axis], limits[axis], strides[axis] = start, limit, step
    return b.emit("slice", x, starts=starts, limits=limits, strides=strides)


def _bounds(extent: int, start: int | None, end: int | None) -> tuple[int, int]:
    """Python's rules for the ends of a slice."""
    low, high, _ = slice(start, end).indices(extent)
    return low, max(low, high)


@rule("aten.slice.Tensor")
def _slice(
    b: Builder,
    x: Value,
    dim: int = 0,
    start: int | None = None,
    end: int | None = None,
    step: int = 1,
) -> Value:
    kind = TensorType.of(x)
    axis = dim % kind.rank
    low, high = _bounds(kind.shape[axis], start, end)
    if step == 1:  # an end that depends on the open size may lie before or behind a static one
        high = low + b.result.shape[axis]
    return cut(b, x, axis, low, high, step)


@rule("aten.select.int")
def _select(b: Builder, x: Value, dim: int, index: int) -> Value:
    kind = TensorType.of(x)
    axis = dim % kind.rank
    place = index % kind.shape[axis]
    return b.reshape(cut(b, x, axis, place, place + 1), b.result.shape)


@rule("aten.diagonal.default", "aten.diagonal_copy.default")
def _diagonal(b: Builder, x: Value, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Value:
    """Of a row-major matrix each element of a diagonal lies one row and one place behind the last."""
    order = _matrix_last(TensorType.of(x).rank, dim1, dim2)
    moved = b.transpose(x, order)
    *outer, rows, columns = TensorType.of(moved).shape
    flat, step = b.reshape(moved, (*outer, rows * columns)), columns + 1
    start = offset if offset >= 0 else -offset * columns
    end = start + (b.result.shape[-1] - 1) * step + 1
    return cut(b, flat, len(outer), start, end, step)


@rule("aten.diagonal_backward.default")
def _diagonal_backward(
    b: Builder, gradient: Value, shape: Sequence[int], offset: int, dim1: int, dim2: int
) -> Value:
    """A row of zeros behind each element, in front of the next one's place; see `_diagonal`."""
    order = _matrix_last(len(shape), dim1, dim2)
    *outer, rows, columns = (shape[axis] for axis in order)
    count, axis = TensorType.of(gradient).shape[-1], len(outer)
    single = b.reshape(gradient, (*outer, count, 1))
    spread = b.reshape(_padded(b, single, 0, columns), (*outer, count * (columns + 1)))
    start = offset if offset >= 0 else -offset * columns
    room = rows * columns - start
    spread = cut(b, spread, axis, 0, min(count * (columns + 1), room))
    rest = room - TensorType.of(spread).shape[axis]
    matrix = b.reshape(_padded(b, spread, start, rest), (*outer, rows, columns))
    return b.transpose(matrix, [order.index(i) for i in range(len(shape))])


def _matrix_last(rank: int, dim1: int, dim2: int) -> list[int]:
    """The axes with these two at the end."""
    pair = [dim1 % rank, dim2 % rank]
    return [axis for axis in range(rank) if axis not in pair] + pair


def _padded(b: Builder, x: Value, low: int, high: int) -> Value:
    """Zeros in front of the last axis and behind it."""
    if not low and not high:
        return x
    around = [0] * (TensorType.of(x).rank - 1)
    return b.emit("pad", x, low=[*around, low], high=[*around, high], value=0.0)


def _pieces(b: Builder, x: Value, sizes: Sequence[int], axis: int) -> list[Value]:
    pieces, start = [], 0
    for size in sizes:
        pieces.append(cut(b, x, axis, start, start + size))
        start += size
    return pieces


@rule(
    "aten.split_with_sizes.default",
    "aten.split.Tensor",
    "aten.split.sizes",
    "aten.chunk.default",
)
def _split(b: Builder, x: Value, *options: Any, dim: int = 0) -> list[Value]:
    """The results' extents along the axis say where to cut."""
    axis = (options[1] if len(options) > 1 else dim) % TensorType.of(x).rank
    return _pieces(b, x, [kind.shape[axis] for kind in b.results], axis)


@rule("aten.unbind.int")
def _unbind(b: Builder, x: Value, dim: int = 0) -> list[Value]:
    kind = TensorType.of(x)
    axis = dim % kind.rank
    shape = [n for i, n in enumerate(kind.shape) if i != axis]
    return [b.reshape(row, shape) for row in _pieces(b, x, [1] * kind.shape[axis], axis)]


@rule("aten.cat.default")
def _cat(b: Builder, tensors: Sequence[Value], dim: int = 0) -> Value:
    """A chain of pairwise joins, balanced so that an element is copied at most log2(n) times."""
    parts = [b.cast(x, b.result.dtype) for x in tensors]
    axis = dim % b.result.rank
    if len({TensorType.of(part).rank for part in parts}) > 1:
        raise NoRule("aten.cat of tensors of different ranks")
    while len(parts) > 1:
        pairs = [parts[i : i + 2] for i in range(0, len(parts), 2)]
        parts = [
            b.emit("concat", *pair, axis=axis) if len(pair) == 2 else pair[0] for pair in pairs
        ]
    return parts[0]


@rule("aten.stack.default")
def _stack(b: Builder, tensors: Sequence[Value], dim: int = 0) -> Value:
    shape = list(b.result.shape)
    shape[dim % b.result.rank] = 1
    return _cat(b, [b.reshape(x, shape) for x in tensors], dim)


@rule("aten.constant_pad_nd.default")
def _pad(b: Builder, x: Value, pad: Sequence[int], value: float = 0) -> Value:
    """`pad` goes from the last axis to the first, low before high; negative widths cut."""
    kind = TensorType.of(x)
    widths = [(0, 0)] * (kind.rank - len(pad) // 2)
    widths += [(pad[i], pad[i + 1]) for i in range(len(pad) - 2, -1, -2)]
    for axis, (low, high) in enumerate(widths):
        x = cut(b, x, axis, max(0, -low), kind.shape[axis] - max(0, -high))
    before, after = ([max(0, width[side]) for width in widths] for side in (0, 1))
    if not any(before + after):
        return x
    number = float(value) if kind.is_float else int(value)
    return b.emit("pad", x, low=before, high=after, value=number)


@rule("aten.slice_scatter.default")
def _slice_scatter(
    b: Builder,
    x: Value,
    source: Value,
    dim: int = 0,
    start: int | None = None,
    end: int | None = None,
    step: int = 1,
) -> Value:
    """What is left of the cut, the source, what is right of it."""
    kind = TensorType.of(x)
    axis = dim % kind.rank
    low, high = _bounds(kind.shape[axis], start, end)
    middle = b.cast(source, kind.dtype)
    count = TensorType.of(source).shape[axis]
    if is_symbolic(count) and not is_symbolic(kind.shape[axis]) and step == 1:
        return _around(b, x, middle, axis, low)
    if step != 1:
        high = min(low + TensorType.of(source).shape[axis] * step, kind.shape[axis])
        middle = _every(b, cut(b, x, axis, low, high), middle, axis, step)
    parts = [middle]
    if low:
        parts.insert(0, cut(b, x, axis, 0, low))
    if high < kind.shape[axis]:
        parts.append(cut(b, x, axis, high, kind.shape[axis]))
    return _cat(b, parts, axis)


def _around(b: Builder, x: Value, source: Value, axis: int, low: int) -> Value:
    """`source`, of an open size, with the one value of `x` around it.

    Raises:
        SizeError: x has several: how many of them are right of the source has no sign.
    """
    full, kind, shape = x.owner, TensorType.of(source), TensorType.of(x).shape
    if isinstance(full, ir.Block) or full.name != "keras.full":
        raise SizeError("a part of an open size is written into a tensor of a static one")
    before, after = [0] * kind.rank, [0] * kind.rank
    before[axis], after[axis] = low, shape[axis] - low - kind.shape[axis]
    return b.emit("pad", source, low=before, high=after, value=attributes_of(full)["value"])


def _every(b: Builder, x: Value, source: Value, axis: int, step: int) -> Value:
    """x with `source` at each `step`-th place: rows of `step` places, all but the first kept."""
    shape, count = list(TensorType.of(x).shape), TensorType.of(source).shape[axis]
    extent = shape[axis]
    missing = [0] * len(shape)
    missing[axis] = count * step - extent
    if missing[axis]:  # the last row is cut short
        zero = 0.0 if TensorType.of(x).is_float else 0
        x = b.emit("pad", x, low=[0] * len(shape), high=missing, value=zero)
    rows, firsts = ([*shape[:axis], count, width, *shape[axis + 1 :]] for width in (step, 1))
    kept = cut(b, b.reshape(x, rows), axis + 1, 1, step)
    mixed = b.emit("concat", b.reshape(source, firsts), kept, axis=axis + 1)
    shape[axis] = count * step
    return cut(b, b.reshape(mixed, shape), axis, 0, extent)


@rule("aten.roll.default")
def _roll(b: Builder, x: Value, shifts: Sequence[int], dims: Sequence[int] = ()) -> Value:
    """Each axis is the end of itself, then the rest."""
    kind = TensorType.of(x)
    if not dims:
        flat = _rolled(b, b.reshape(x, (kind.size,)), 0, shifts[0])
        return b.reshape(flat, kind.shape)
    for dim, shift in zip(dims, shifts, strict=True):
        x = _rolled(b, x, dim % kind.rank, shift)
    return x


def _rolled(b: Builder, x: Value, axis: int, shift: int) -> Value:
    extent = TensorType.of(x).shape[axis]
    if is_symbolic(extent, shift):
        raise NoRule("aten.roll along an axis of open size")
    first = -shift % extent if extent else 0
    if not first:
        return x
    parts = [cut(b, x, axis, *bounds) for bounds in ((first, extent), (0, first))]
    return b.emit("concat", *parts, axis=axis)


@rule("aten.flip.default")
def _flip(b: Builder, x: Value, dims: Sequence[int]) -> Value:
    rank = TensorType.of(x).rank
    return b.emit("reverse", x, axes=sorted(dim % rank for dim in dims)) if dims else x


@rule(
    "aten.full.default",
    "aten.full_like.default",
    "aten.new_full.default",
    "aten.zeros.default",
    "aten.zeros_like.default",
    "aten.new_zeros.default",
    "aten.ones.default",
    "aten.ones_like.default",
    "aten.new_ones.default",
    "aten.scalar_tensor.default",
    "aten.empty.memory_format",
    "aten.empty_like.default",
    "aten.new_empty.default",
)
def _full(b: Builder, *args: Any, dtype: object = None) -> Value:
    """Memory that torch leaves unset is zero here, so that runs repeat."""
    name = b.opname
    if "full" in name:
        value = args[2] if name == "new_full" else args[1]
    else:
        value = args[0] if name == "scalar_tensor" else float("ones" in name)
    return b.full(value, b.result.shape, b.result.dtype)


@rule("aten.arange.default", "aten.arange.start", "aten.arange.start_step")
def _arange(b: Builder, *args: float, dtype: object = None) -> Value:
    start, end, step = (0, *args, 1) if len(args) == 1 else (*args, 1)[:3]
    kind = b.result
    whole = isinstance(end, int) and isinstance(start, int) and isinstance(step, int)
    count = -((start - end) // step) if whole else ceil((end - start) / step)
    if kind.shape != (max(0, count),):
        raise NoRule(f"an aten.arange of {kind.shape} from {start} to {end} by {step}")
    line = b.emit("iota", shape=kind.shape, axis=0, dtype=kind.dtype)
    scaled = line if step == 1 else b.emit("mul", line, b.scalar(step, kind.dtype))
    return scaled if start == 0 else b.emit("add", scaled, b.scalar(start, kind.dtype))


def triangle(b: Builder, shape: Sequence[int], diagonal: int) -> Value:
    """Bools over the last two axes: column <= row + diagonal."""
    places = tuple(shape[-2:])
    row, column = (b.emit("iota", shape=places, axis=axis, dtype="i64") for axis in (0, 1))
    return b.emit("le", column, b.emit("add", row, b.scalar(diagonal, "i64")))


@rule("aten.tril.default")
def _tril(b: Builder, x: Value, diagonal: int = 0) -> Value:
    kind = TensorType.of(x)
    return b.emit("select", triangle(b, kind.shape, diagonal), x, b.scalar(0, kind.dtype))


@rule("aten.triu.default")
def _triu(b: Builder, x: Value, diagonal: int = 0) -> Value:
    kind = TensorType.of(x)
    below = triangle(b, kind.shape, diagonal - 1)
    return b.emit("select", below, b.scalar(0, kind.dtype), x)
