"""A Dense layer as a product and the pointwise ops that end in its epilogue."""

from __future__ import annotations

from ..build import Algebra, Value
from .registry import decomposes


# In the operands' dtype: a half-precision product is a half-precision product.
@decomposes("linear", widen=False)
def _linear(k: Algebra, x: Value, w: Value, bias: Value, activation: str) -> list[Value]:
    y = k.add(k.builder.emit("matmul", x, w, transpose_a=False, transpose_b=False), bias)
    return [k.relu(y) if activation == "relu" else y]
