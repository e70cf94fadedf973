"""Elementwise torch ops, with torch's type promotion made explicit as casts."""

from __future__ import annotations

import math
from functools import partial

from mlir import ir

from ..importer import Builder, NoRule, Value, rule
from ..mlir import TensorType

FLOAT_UNARY = [
    "exp",
    "exp2",
    "expm1",
    "log",
    "log1p",
    "sqrt",
    "rsqrt",
    "reciprocal",
    "sin",
    "cos",
    "tan",
    "asin",
    "acos",
    "atan",
    "sinh",
    "cosh",
    "tanh",
    "erf",
    "erfinv",
    "sigmoid",
]
ROUNDING = ["floor", "ceil", "round"]
NUMBER_UNARY = ["neg", "abs", "sign", "relu"]
FLOAT_TESTS = ["isnan", "isinf"]
BITWISE = {
    "bitwise_and": "bitwise_and",
    "bitwise_or": "bitwise_or",
    "bitwise_xor": "bitwise_xor",
    "bitwise_left_shift": "shift_left",
    "bitwise_right_shift": "shift_right",
    "__lshift__": "shift_left",
    "__rshift__": "shift_right",
}
COMPARISONS = ["eq", "ne", "lt", "le", "gt", "ge"]
LOGICAL = ["logical_and", "logical_or", "logical_xor"]
# What arithmetic on bools means, where it means anything.
ON_BOOLS = {
    "add": "logical_or",
    "mul": "logical_and",
    "maximum": "logical_or",
    "minimum": "logical_and",
    "bitwise_and": "logical_and",
    "bitwise_or": "logical_or",
    "bitwise_xor": "logical_xor",
}


def _float_unary(name: str, b: Builder, x: Value) -> Value:
    return b.emit(name, b.cast(x, b.result.dtype))


def _rounding(name: str, b: Builder, x: Value) -> Value:
    return b.emit(name, x) if TensorType.of(x).is_float else x


def _number_unary(name: str, b: Builder, x: Value) -> Value:
    if TensorType.of(x).dtype == "i1":
        raise NoRule(f"keras.{name} has no meaning on bools")
    return b.emit(name, x)


def _float_test(name: str, b: Builder, x: Value) -> Value:
    kind = TensorType.of(x)
    return b.emit(name, x) if kind.is_float else b.full(0, kind.shape, "i1")


def arithmetic(name: str, b: Builder, x: Value | float, y: Value | float) -> Value:
    """keras.<name> in the result's dtype; on bools the logical op of the same meaning."""
    dtype = b.result.dtype
    if dtype == "i1":
        if name not in ON_BOOLS:
            raise NoRule(f"keras.{name} has no meaning on bools")
        name = ON_BOOLS[name]
    return b.emit(name, b.tensor(x, dtype), b.tensor(y, dtype))


def _compare(name: str, b: Builder, x: Value, y: Value | float) -> Value:
    dtype = b.common_dtype(x, y)
    return b.emit(name, b.tensor(x, dtype), b.tensor(y, dtype))


def truth(b: Builder, x: Value) -> Value:
    """x != 0."""
    return b.cast(x, "i1")


def _logical(name: str, b: Builder, x: Value, y: Value) -> Value:
    return b.emit(name, truth(b, x), truth(b, y))


for _name in FLOAT_UNARY:
    rule(f"aten.{_name}.default")(partial(_float_unary, _name))
for _name in ROUNDING:
    rule(f"aten.{_name}.default")(partial(_rounding, _name))
for _name in NUMBER_UNARY:
    rule(f"aten.{_name}.default")(partial(_number_unary, _name))
for _name in FLOAT_TESTS:
    rule(f"aten.{_name}.default")(partial(_float_test, _name))
for _name in ("mul", "maximum", "minimum", "atan2", "fmod", "remainder"):
    rule(*(f"aten.{_name}.{kind}" for kind in ("Tensor", "Scalar", "default")))(
        partial(arithmetic, _name)
    )
for _name, _op in BITWISE.items():
    rule(*(f"aten.{_name}.{kind}" for kind in ("Tensor", "Scalar", "Tensor_Scalar")))(
        partial(arithmetic, _op)
    )
for _name in COMPARISONS:
    rule(f"aten.{_name}.Tensor", f"aten.{_name}.Scalar")(partial(_compare, _name))
for _name in LOGICAL:
    rule(f"aten.{_name}.default")(partial(_logical, _name))


@rule("aten.add.Tensor", "aten.add.Scalar")
def _add(b: Builder, x: Value, y: Value | float, alpha: float = 1) -> Value:
    return arithmetic("add", b, x, _scaled(b, y, alpha))


@rule("aten.sub.Tensor", "aten.sub.Scalar")
def _sub(b: Builder, x: Value, y: Value | float, alpha: float = 1) -> Value:
    return arithmetic("sub", b, x, _scaled(b, y, alpha))


@rule("aten.rsub.Tensor", "aten.rsub.Scalar")
def _rsub(b: Builder, x: Value, y: Value | float, alpha: float = 1) -> Value:
    return arithmetic("sub", b, y, _scaled(b, x, alpha))


def _scaled(b: Builder, x: Value | float, alpha: float) -> Value | float:
    if alpha == 1:
        return x
    return arithmetic("mul", b, x, alpha) if isinstance(x, ir.Value) else x * alpha


@rule("aten.div.Tensor", "aten.div.Scalar", "aten.div.Tensor_mode", "aten.div.Scalar_mode")
def _div(b: Builder, x: Value, y: Value | float, rounding_mode: str | None = None) -> Value:
    if rounding_mode is None:
        return arithmetic("div", b, x, y)
    if not b.result.is_float:
        if rounding_mode == "trunc":
            raise NoRule("no dialect op for integer division that truncates")
        return arithmetic("floor_divide", b, x, y)
    quotient = arithmetic("div", b, x, y)
    return b.emit("floor", quotient) if rounding_mode == "floor" else truncate(b, quotient)


@rule("aten.floor_divide.default")
def _floor_divide(b: Builder, x: Value, y: Value | float) -> Value:
    return _div(b, x, y, "floor")


@rule("aten.trunc.default")
def truncate(b: Builder, x: Value) -> Value:
    """Toward zero: sign(x) floor(|x|), which keeps infinities and NaN."""
    if not TensorType.of(x).is_float:
        return x
    down, up = b.emit("floor", x), b.emit("ceil", x)
    zero = b.scalar(0, TensorType.of(x).dtype)
    return b.emit("select", b.emit("lt", x, zero), up, down)


@rule("aten.pow.Tensor_Tensor", "aten.pow.Scalar")
def _pow(b: Builder, x: Value | float, exponent: Value) -> Value:
    if not b.result.is_float:
        raise NoRule("no dialect op for an integer power with a tensor exponent")
    return arithmetic("pow", b, x, exponent)


@rule("aten.pow.Tensor_Scalar")
def _pow_scalar(b: Builder, x: Value, exponent: float) -> Value:
    dtype = b.result.dtype
    if dtype == "i1":
        raise NoRule("no dialect op for a power of bools")
    x = b.cast(x, dtype)
    if exponent in (1, 2, 3, 4):
        square = x if exponent == 1 else b.emit("mul", x, x)
        if exponent <= 2:
            return square
        return b.emit("mul", square, x if exponent == 3 else square)
    if exponent == 0:
        return b.full(1, b.result.shape, dtype)
    if not b.result.is_float:
        raise NoRule(f"no dialect op for an integer power of {exponent}")
    simple = {-1: "reciprocal", 0.5: "sqrt", -0.5: "rsqrt"}.get(exponent)
    return b.emit(simple, x) if simple else b.emit("pow", x, b.scalar(exponent, dtype))


@rule("aten.square.default")
def _square(b: Builder, x: Value) -> Value:
    return arithmetic("mul", b, x, x)


@rule("aten.log2.default", "aten.log10.default")
def _log_base(b: Builder, x: Value) -> Value:
    base = 2 if b.opname == "log2" else 10
    natural = b.emit("log", b.cast(x, b.result.dtype))
    return b.emit("mul", natural, b.scalar(1 / math.log(base), b.result.dtype))


@rule("aten.logical_not.default")
def _logical_not(b: Builder, x: Value) -> Value:
    return b.emit("logical_not", truth(b, x))


@rule("aten.bitwise_not.default")
def _bitwise_not(b: Builder, x: Value) -> Value:
    return b.emit("logical_not" if TensorType.of(x).dtype == "i1" else "bitwise_not", x)


@rule("aten.where.self", "aten.where.ScalarSelf", "aten.where.ScalarOther", "aten.where.Scalar")
def _where(b: Builder, condition: Value, x: Value | float, y: Value | float) -> Value:
    dtype = b.result.dtype
    return b.emit("select", truth(b, condition), b.tensor(x, dtype), b.tensor(y, dtype))


@rule("aten.masked_fill.Scalar", "aten.masked_fill.Tensor")
def _masked_fill(b: Builder, x: Value, mask: Value, value: Value | float) -> Value:
    return _where(b, mask, value, x)


@rule("aten.clamp.default", "aten.clamp.Tensor", "aten.hardtanh.default")
def _clamp(
    b: Builder,
    x: Value,
    min: Value | float | None = None,
    max: Value | float | None = None,
) -> Value:
    if b.opname == "hardtanh":
        min, max = (-1 if min is None else min), (1 if max is None else max)
    x = b.cast(x, b.result.dtype)
    if min is not None:
        x = b.emit("maximum", x, b.tensor(min, b.result.dtype))
    return x if max is None else b.emit("minimum", x, b.tensor(max, b.result.dtype))


@rule("aten.clamp_min.default", "aten.clamp_min.Tensor")
def _clamp_min(b: Builder, x: Value, least: Value | float) -> Value:
    return _clamp(b, x, least)


@rule("aten.clamp_max.default", "aten.clamp_max.Tensor")
def _clamp_max(b: Builder, x: Value, most: Value | float) -> Value:
    return _clamp(b, x, None, most)


@rule("aten.hypot.default")
def _hypot(b: Builder, x: Value, y: Value) -> Value:
    dtype = b.result.dtype
    x, y = b.cast(x, dtype), b.cast(y, dtype)
    return b.emit("sqrt", b.emit("add", b.emit("mul", x, x), b.emit("mul", y, y)))


@rule(
    "aten._to_copy.default",
    "aten.to.dtype",
    "prims.convert_element_type.default",
    "aten.clone.default",
    "aten.contiguous.default",
    "aten.detach.default",
    "aten.alias.default",
    "aten.lift.default",
    "aten.lift_fresh.default",
    "aten.lift_fresh_copy.default",
    "aten._conj.default",
    "aten.positive.default",
)
def _cast(b: Builder, x: Value, *options: object, **kwargs: object) -> Value:
    """The result's dtype says it all."""
    return b.cast(x, b.result.dtype)
