"""Activations and their gradients, when the graph still holds them as one op.

The formulas are those of torch's own documentation; half types compute in float32, as torch does.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import wraps

from mlir import ir

from ..build import Algebra, compute_dtype
from ..importer import Builder, Value, rule
from ..mlir import TensorType


def formula(*targets: str) -> Callable[[Callable[..., Value]], Callable[..., Value]]:
    """A rule whose tensor operands come cast to the compute dtype and whose result is cast back."""

    def register(function: Callable[..., Value]) -> Callable[..., Value]:
        @wraps(function)
        def written(b: Builder, *args: object, **kwargs: object) -> Value:
            dtype = compute_dtype(b.result.dtype)
            cast = [_cast_float(b, arg, dtype) for arg in args]
            return b.cast(function(Algebra(b, dtype), *cast, **kwargs), b.result.dtype)

        rule(*targets)(written)
        return function

    return register


def _cast_float(b: Builder, arg: object, dtype: str) -> object:
    return b.cast(arg, dtype) if isinstance(arg, ir.Value) and TensorType.of(arg).is_float else arg


@formula("aten.threshold_backward.default")
def _threshold_backward(k: Algebra, g: Value, x: Value, threshold: float) -> Value:
    return k.select(k.le(x, threshold), 0, g)


@formula("aten.sigmoid_backward.default")
def _sigmoid_backward(k: Algebra, g: Value, y: Value) -> Value:
    return k.mul(g, k.mul(y, k.sub(1, y)))


@formula("aten.tanh_backward.default")
def _tanh_backward(k: Algebra, g: Value, y: Value) -> Value:
    return k.mul(g, k.sub(1, k.mul(y, y)))


def _gelu_tanh(k: Algebra, x: Value) -> tuple[Value, Value]:
    """tanh's value in the tanh form of GELU, and the derivative of its argument."""
    factor = math.sqrt(2 / math.pi)
    square = k.mul(x, x)
    inner = k.mul(factor, k.add(x, k.mul(0.044715, k.mul(square, x))))
    return k.tanh(inner), k.mul(factor, k.add(1, k.mul(3 * 0.044715, square)))


@formula("aten.gelu.default")
def _gelu(k: Algebra, x: Value, approximate: str = "none") -> Value:
    if approximate == "tanh":
        return k.mul(k.mul(0.5, x), k.add(1, _gelu_tanh(k, x)[0]))
    return k.mul(k.mul(0.5, x), k.add(1, k.erf(k.mul(x, math.sqrt(0.5)))))


@formula("aten.gelu_backward.default")
def _gelu_backward(k: Algebra, g: Value, x: Value, approximate: str = "none") -> Value:
    if approximate == "tanh":
        value, inner = _gelu_tanh(k, x)
        slope = k.mul(k.mul(0.5, x), k.mul(k.sub(1, k.mul(value, value)), inner))
        return k.mul(g, k.add(k.mul(0.5, k.add(1, value)), slope))
    share = k.mul(0.5, k.add(1, k.erf(k.mul(x, math.sqrt(0.5)))))
    density = k.mul(1 / math.sqrt(2 * math.pi), k.exp(k.mul(-0.5, k.mul(x, x))))
    return k.mul(g, k.add(share, k.mul(x, density)))


@formula("aten.silu.default")
def _silu(k: Algebra, x: Value) -> Value:
    return k.mul(x, k.sigmoid(x))


@formula("aten.silu_backward.default")
def _silu_backward(k: Algebra, g: Value, x: Value) -> Value:
    s = k.sigmoid(x)
    return k.mul(g, k.mul(s, k.add(1, k.mul(x, k.sub(1, s)))))


@formula("aten.elu.default")
def _elu(k: Algebra, x: Value, alpha: float = 1, scale: float = 1, input_scale: float = 1) -> Value:
    negative = k.mul(alpha * scale, k.expm1(k.mul(x, input_scale)))
    return k.select(k.gt(x, 0), k.mul(x, scale), negative)


@formula("aten.elu_backward.default")
def _elu_backward(
    k: Algebra,
    g: Value,
    alpha: float,
    scale: float,
    input_scale: float,
    is_result: bool,
    x: Value,
) -> Value:
    # With `is_result`, x is elu's result y, and alpha scale exp(...) = y + alpha scale.
    steep = (
        k.add(x, alpha * scale) if is_result else k.mul(alpha * scale, k.exp(k.mul(x, input_scale)))
    )
    negative = k.mul(g, k.mul(input_scale, steep))
    return k.select(k.gt(x, 0), k.mul(g, scale), negative)


@formula("aten.leaky_relu.default")
def _leaky_relu(k: Algebra, x: Value, negative_slope: float = 0.01) -> Value:
    return k.select(k.gt(x, 0), x, k.mul(x, negative_slope))


@formula("aten.leaky_relu_backward.default")
def _leaky_relu_backward(
    k: Algebra, g: Value, x: Value, negative_slope: float, is_result: bool
) -> Value:
    return k.select(k.gt(x, 0), g, k.mul(g, negative_slope))


@formula("aten.softplus.default")
def _softplus(k: Algebra, x: Value, beta: float = 1, threshold: float = 20) -> Value:
    scaled = k.mul(x, beta)
    return k.select(k.gt(scaled, threshold), x, k.mul(1 / beta, k.log1p(k.exp(scaled))))


@formula("aten.softplus_backward.default")
def _softplus_backward(k: Algebra, g: Value, x: Value, beta: float, threshold: float) -> Value:
    scaled = k.mul(x, beta)
    return k.select(k.gt(scaled, threshold), g, k.mul(g, k.sigmoid(scaled)))


@formula("aten.hardtanh_backward.default")
def _hardtanh_backward(k: Algebra, g: Value, x: Value, low: float, high: float) -> Value:
    return k.select(k.le(x, low), 0, k.select(k.ge(x, high), 0, g))


def _gate(k: Algebra, x: Value) -> Value:
    """min(max(x + 3, 0), 6) / 6."""
    return k.mul(1 / 6, k.minimum(k.maximum(k.add(x, 3), 0), 6))


@formula("aten.hardsigmoid.default")
def _hardsigmoid(k: Algebra, x: Value) -> Value:
    return _gate(k, x)


@formula("aten.hardswish.default")
def _hardswish(k: Algebra, x: Value) -> Value:
    return k.mul(x, _gate(k, x))


@formula("aten.hardsigmoid_backward.default")
def _hardsigmoid_backward(k: Algebra, g: Value, x: Value) -> Value:
    return k.select(k.le(x, -3), 0, k.select(k.ge(x, 3), 0, k.mul(g, 1 / 6)))


@formula("aten.hardswish_backward.default")
def _hardswish_backward(k: Algebra, g: Value, x: Value) -> Value:
    inner = k.mul(g, k.add(k.mul(x, 1 / 3), 0.5))
    return k.select(k.le(x, -3), 0, k.select(k.ge(x, 3), g, inner))


@formula("aten.relu6.default")
def _relu6(k: Algebra, x: Value) -> Value:
    return k.minimum(k.maximum(x, 0), 6)
