"""Building `keras` ops without ceremony: what import rules, decompositions and passes share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from mlir import ir

from . import dialect
from .errors import SizeError
from .mlir import TensorType
from .sizes import Extent, digits

Value: TypeAlias = ir.Value


class OpBuilder:
    """Builds ops at the current insertion point, all with one location."""

    def __init__(self, location: ir.Location, size: Value | None = None) -> None:
        self.location = location
        self.size = size
        """The symbolic size, a tensor<i64>, if there is one."""

    def emit(self, name: str, *operands: Value, **attributes: Any) -> Value:
        """Builds `keras.<name>` and returns its first result."""
        return self.emit_all(name, *operands, **attributes)[0]

    def emit_all(self, name: str, *operands: Value, **attributes: Any) -> list[Value]:
        """Builds `keras.<name>` and returns its results."""
        return dialect.build(name, operands, attributes, loc=self.location)

    def full(self, value: float, shape: Sequence[int], dtype: str) -> Value:
        """A tensor of one value, rounded as `dtype` rounds it.

        Raises:
            SizeError: the value depends on the symbolic size, which is not at hand.
        """
        if isinstance(value, Extent):
            return self.broadcast(self.cast(self._polynomial(value), dtype), shape)
        number = float(value) if dtype.startswith(("f", "b")) else int(value)
        return self.emit("full", value=number, shape=tuple(shape), dtype=dtype)

    def _polynomial(self, value: Extent) -> Value:
        """The value in a call, as a tensor<i64> (by Horner's rule)."""
        if self.size is None:
            raise SizeError(f"{value.text} is computed with where the size is not known")
        *rest, made = (self.scalar(digit, "i64") for digit in digits(value))
        for digit in reversed(rest):
            made = self.emit("add", self.emit("mul", made, self.size), digit)
        return made

    def scalar(self, value: float, dtype: str) -> Value:
        """`full` of rank 0."""
        return self.full(value, (), dtype)

    def tensor(self, operand: Value | float, dtype: str) -> Value:
        """A tensor or Python number as a tensor of `dtype`."""
        if isinstance(operand, ir.Value):
            return self.cast(operand, dtype)
        return self.scalar(operand, dtype)

    def cast(self, x: Value, dtype: str) -> Value:
        """x itself if it has `dtype` already."""
        return x if TensorType.of(x).dtype == dtype else self.emit("cast", x, dtype=dtype)

    def reshape(self, x: Value, shape: Sequence[int]) -> Value:
        """x itself if it has `shape` already."""
        same = TensorType.of(x).shape == tuple(shape)
        return x if same else self.emit("reshape", x, shape=tuple(shape))

    def broadcast(self, x: Value, shape: Sequence[int]) -> Value:
        """x itself if it has `shape` already."""
        same = TensorType.of(x).shape == tuple(shape)
        return x if same else self.emit("broadcast_to", x, shape=tuple(shape))

    def transpose(self, x: Value, permutation: Sequence[int]) -> Value:
        """x itself for the identity."""
        same = tuple(permutation) == tuple(range(TensorType.of(x).rank))
        return x if same else self.emit("transpose", x, permutation=tuple(permutation))


class Algebra:
    """Pointwise arithmetic in one dtype, so that formulas read as such: `k.mul(x, k.add(y, 1))`."""

    def __init__(self, builder: OpBuilder, dtype: str) -> None:
        self.builder, self.dtype = builder, dtype

    def __getattr__(self, name: str) -> Callable[..., Value]:
        """The op `name`, with Python numbers allowed as operands."""
        return lambda *operands: self.builder.emit(
            name,
            *(x if isinstance(x, ir.Value) else self.scalar(x) for x in operands),
        )

    def scalar(self, value: float) -> Value:
        return self.builder.scalar(value, self.dtype)


def compute_dtype(dtype: str) -> str:
    """The precision in which formulas on floats of `dtype` run: at least float32."""
    return "f64" if dtype == "f64" else "f32"
