"""How often a product meets the elements of its operands."""

from __future__ import annotations

from math import prod

from mlir import ir

from keras_triton.kernels import spec

from .dialect import attributes_of
from .emit_triton.template import problem_of
from .mlir import TensorType

# Tiles are no wider.
TILE = 128


def meetings(op: ir.Operation, number: int) -> tuple[int, int]:
    """For each element of operand `number` of a product or convolution, the multiply-adds that it takes
    part in, and the tiles that it is loaded into.
    """
    kind = op.name.removeprefix("keras.")
    # Plain numbers: the quotient of two symbolic sizes is what it tends to.
    size = max(int(TensorType.of(op.operands[number]).size), 1)
    met = int(spec.get(kind).work(problem_of(op, kind)).flops) // 2 // size
    return met, max(met // min(int(_width(op, kind, number)), TILE), 1)


def _width(op: ir.Operation, kind: str, number: int) -> int:
    """The columns, or for a right operand the rows, of the product that it is multiplied as."""
    result = TensorType.of(op.results[0]).shape
    if kind in ("matmul", "batch_matmul"):
        return max(result[-2 if number else -1], 1)
    if kind == "conv2d_kernel_grad" and number == 0:
        return max(prod(result[:-1]), 1)
    return max(result[-1] // int(attributes_of(op)["groups"]), 1)
