"""Softmax and layer normalization: the dialect's work on the last axis, so others move there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import prod

from ..importer import Builder, NoRule, Value, rule
from ..mlir import TensorType


def _along(b: Builder, dim: int, operands: Sequence[Value], build: Callable[..., Value]) -> Value:
    """`build` on the operands with axis `dim` last, and its result moved back."""
    rank = TensorType.of(operands[0]).rank
    if rank == 0:
        return b.reshape(build(*(b.reshape(x, (1,)) for x in operands)), ())
    axis = dim % rank
    order = [*(i for i in range(rank) if i != axis), axis]
    made = build(*(b.transpose(x, order) for x in operands))
    return b.transpose(made, [order.index(i) for i in range(rank)])


def _softmax(name: str, b: Builder, x: Value, dim: int, half_to_float: bool = False) -> Value:
    return _along(b, dim, [b.cast(x, b.result.dtype)], lambda y: b.emit(name, y))


def _softmax_grad(
    name: str, b: Builder, g: Value, y: Value, dim: int, input_dtype: object
) -> Value:
    """y has the dtype of g; a half input's gradient is rounded at the end (half_to_float)."""
    made = _along(b, dim, [g, y], lambda *xs: b.emit(name, *xs))
    return b.cast(made, b.result.dtype)


rule("aten._softmax.default", "aten._safe_softmax.default")(partial(_softmax, "softmax"))
rule("aten._log_softmax.default")(partial(_softmax, "log_softmax"))
rule("aten._softmax_backward_data.default")(partial(_softmax_grad, "softmax_grad"))
rule("aten._log_softmax_backward_data.default")(partial(_softmax_grad, "log_softmax_grad"))


def _rows(x: Value, normalized: Sequence[int]) -> tuple[int, int]:
    columns = prod(normalized)
    return TensorType.of(x).size // columns, columns


def _require_one_dtype(x: Value, *others: Value | None) -> str:
    dtype = TensorType.of(x).dtype
    if any(y is not None and TensorType.of(y).dtype != dtype for y in others):
        raise NoRule(f"no dialect op for layer normalization of {dtype} with other weights")
    return dtype


@rule("aten.native_layer_norm.default")
def _layer_norm(
    b: Builder,
    x: Value,
    normalized: Sequence[int],
    weight: Value | None,
    bias: Value | None,
    epsilon: float,
) -> list[Value]:
    dtype = _require_one_dtype(x, weight, bias)
    rows, columns = _rows(x, normalized)
    weight = b.full(1, (columns,), dtype) if weight is None else b.reshape(weight, (columns,))
    bias = b.full(0, (columns,), dtype) if bias is None else b.reshape(bias, (columns,))
    flat = b.reshape(x, (rows, columns))
    made = b.emit_all("layer_norm", flat, weight, bias, epsilon=float(epsilon))
    return [
        b.reshape(b.cast(value, kind.dtype), kind.shape)
        for value, kind in zip(made, b.results, strict=True)
    ]


@rule("aten.native_layer_norm_backward.default")
def _layer_norm_backward(
    b: Builder,
    g: Value,
    x: Value,
    normalized: Sequence[int],
    mean: Value,
    rstd: Value,
    weight: Value | None,
    bias: Value | None,
    mask: Sequence[bool],
) -> list[Value | None]:
    dtype, shape = _require_one_dtype(x, g, weight), TensorType.of(x).shape
    rows, columns = _rows(x, normalized)
    statistics = "f64" if dtype == "f64" else "f32"
    mean, rstd = (b.reshape(b.cast(y, statistics), (rows,)) for y in (mean, rstd))
    weight = b.full(1, (columns,), dtype) if weight is None else b.reshape(weight, (columns,))
    g, x = (b.reshape(y, (rows, columns)) for y in (g, x))
    made = b.emit_all("layer_norm_grad", g, x, mean, rstd, weight)
    shapes = (shape, normalized, normalized)
    return [
        b.reshape(value, shape) if wanted else None
        for value, wanted, shape in zip(made, mask, shapes, strict=True)
    ]
