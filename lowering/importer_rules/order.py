"""Along an axis, in order: sums and products so far, sorted elements."""

from __future__ import annotations

from functools import partial

from ..importer import Builder, Value, rule
from ..keras_rewrites import splat
from ..mlir import TensorType


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
