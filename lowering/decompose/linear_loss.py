"""The cross-entropy of a last product, and its gradients, with the logits as a tensor."""

from __future__ import annotations

from ..build import Value, compute_dtype
from ..mlir import TensorType
from .registry import Rows, decomposes


def _logits(k: Rows, x: Value, w: Value, bias: Value, transpose_w: bool) -> Value:
    """Rounded to the operands' dtype, as a product is."""
    made = k.builder.emit("matmul", x, w, transpose_a=False, transpose_b=transpose_w)
    dtype = compute_dtype(TensorType.of(x).dtype)
    wide = k.builder.cast(made, dtype)
    return k.builder.emit("add", wide, k.builder.cast(bias, dtype))


@decomposes("linear_cross_entropy", widen=False)
def _linear_cross_entropy(
    k: Rows, x: Value, w: Value, bias: Value, target: Value, transpose_w: bool
) -> list[Value]:
    logits = _logits(k, x, w, bias, transpose_w)
    return [
        *k.builder.emit_all("cross_entropy", logits, target),
        k.builder.emit("argmax", logits, axis=1),
    ]


def _logits_grad(
    k: Rows, x: Value, w: Value, bias: Value, given: tuple[Value, Value, Value], transpose_w: bool
) -> Value:
    target, lse, g = given
    logits = _logits(k, x, w, bias, transpose_w)
    return k.builder.emit("cross_entropy_grad", g, logits, target, lse)


@decomposes("linear_cross_entropy_input_grad", widen=False)
def _input_grad(
    k: Rows, x: Value, w: Value, bias: Value, *given: Value, transpose_w: bool
) -> list[Value]:
    target, lse, g = given
    dz = k.builder.cast(
        _logits_grad(k, x, w, bias, (target, lse, g), transpose_w), TensorType.of(x).dtype
    )
    return [k.builder.emit("matmul", dz, w, transpose_a=False, transpose_b=not transpose_w)]


@decomposes("linear_cross_entropy_weight_grad", widen=False)
def _weight_grad(
    k: Rows, x: Value, w: Value, bias: Value, *given: Value, transpose_w: bool
) -> list[Value]:
    target, lse, g = given
    exact = _logits_grad(k, x, w, bias, (target, lse, g), transpose_w)
    dz = k.builder.cast(exact, TensorType.of(x).dtype)
    pair = (dz, x) if transpose_w else (x, dz)
    dw = k.builder.emit("matmul", *pair, transpose_a=True, transpose_b=False)
    return [dw, k.builder.emit("sum", exact, axes=(0,))]
