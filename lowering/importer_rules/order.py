"""Along an axis, in order: sums and products so far, sorted elements."""

from __future__ import annotations

from functools import partial

from ..importer import Builder, Value, rule
from ..keras_rewrites import splat
from ..mlir import TensorType
from ..ops.order import MOST
from ..sizes import is_symbolic
from .shape import cut


def _cumulate(fold: str, b: Builder, x: Value, dim: int, dtype: object = None) -> Value:
    """Of equal numbers only, as in masks, the sum is i times the number: a loop that fuses."""
    kind, made = TensorType.of(x), b.result.dtype
    if not kind.rank:
        return b.cast(x, made)
    number, axis = splat(x), dim % kind.rank
    if number is None or fold != "sum":
        return b.emit("cumulate", b.cast(x, made), axis=axis, fold=fold)
    place = b.emit("iota", shape=kind.shape, axis=axis, dtype=made)
    count = b.emit("add", place, b.scalar(1, made))
    return b.emit("mul", count, b.scalar(number, made))


rule("aten.cumsum.default")(partial(_cumulate, "sum"))
rule("aten.cumprod.default")(partial(_cumulate, "prod"))


def _sorted(b: Builder, x: Value, dim: int, descending: bool, k: int | None = None) -> list[Value]:
    """The first k elements (all, if k is None) along an axis in order, and their places."""
    kind = TensorType.of(x)
    if not kind.rank:
        return [x, b.scalar(0, "i64")]
    axis = dim % kind.rank
    last = [*(i for i in range(kind.rank) if i != axis), axis]
    # The dialect sorts numbers only.
    numbers = b.cast(b.transpose(x, last), "i8" if kind.dtype == "i1" else kind.dtype)
    if k is not None and not is_symbolic(k) and 0 < k <= MOST:
        made = b.emit_all("top", numbers, k=k, descending=descending)
    else:
        made = b.emit_all("sort", numbers, descending=descending)
    if k is not None:
        made = [cut(b, y, len(last) - 1, 0, k) for y in made]
    values, places = (b.transpose(y, [last.index(i) for i in range(kind.rank)]) for y in made)
    return [b.cast(values, kind.dtype), places]


@rule("aten.sort.default")
def _sort(b: Builder, x: Value, dim: int = -1, descending: bool = False) -> list[Value]:
    return _sorted(b, x, dim, descending)


@rule("aten.sort.stable")
def _stable_sort(
    b: Builder, x: Value, *, stable: bool = False, dim: int = -1, descending: bool = False
) -> list[Value]:
    return _sorted(b, x, dim, descending)


@rule("aten.topk.default")
def _topk(
    b: Builder, x: Value, k: int, dim: int = -1, largest: bool = True, sorted: bool = True
) -> list[Value]:
    return _sorted(b, x, dim, largest, k)


@rule("aten.kthvalue.default")
def _kthvalue(b: Builder, x: Value, k: int, dim: int = -1, keepdim: bool = False) -> list[Value]:
    rank = TensorType.of(x).rank
    if not rank:
        return [x, b.scalar(0, "i64")]
    found = _sorted(b, x, dim, False, k)
    shapes = [kind.shape for kind in b.results]
    chosen = [cut(b, y, dim % rank, k - 1, k) for y in found]
    return [b.reshape(y, shape) for y, shape in zip(chosen, shapes, strict=True)]
