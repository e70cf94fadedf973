"""raise-linear: a matrix product, its bias and its ReLU become one op, as Keras's Dense means them.

Torch's tracing gives the three apart. One op keeps the meaning together for whoever reads stage
"keras"; lower-to-linalg spells it out again, and bias and activation end in the product's epilogue.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from mlir import ir

from .. import dialect
from ..build import OpBuilder
from ..loops import code
from ..mlir import TensorType, context, copied
from .base import Pass


@dataclass(frozen=True)
class RaiseLinear(Pass):
    """Takes products of untransposed operands whose result only the bias addition reads."""

    name: ClassVar[str] = "raise-linear"
    takes: ClassVar[str] = "keras"
    gives: ClassVar[str] = "keras"

    def run(self, module: ir.Module) -> ir.Module:
        self.check_stage(module)
        with context(), ir.Location.unknown():
            rewritten = copied(module)
            for function in code(rewritten).values():
                _raise(function)
        return rewritten


def _raise(function: ir.OpView) -> None:
    for view in list(function.regions[0].blocks[0].operations):
        if view.operation.name == "keras.add":
            _raise_bias(view.operation)
        elif view.operation.name == "keras.relu":
            _raise_relu(view.operation)


def _raise_bias(add: ir.Operation) -> None:
    product, bias = add.operands
    if not _only_reader(product, "keras.matmul"):
        return
    matmul = product.owner
    flags = dialect.attributes_of(matmul)
    columns = TensorType.of(product).shape[-1:]
    if any(flags.values()) or TensorType.of(bias).shape != columns:
        return
    _replace(add, [*matmul.operands, bias], "none", matmul)


def _raise_relu(relu: ir.Operation) -> None:
    (x,) = relu.operands
    if _only_reader(x, "keras.linear") and dialect.attributes_of(x.owner)["activation"] == "none":
        _replace(relu, list(x.owner.operands), "relu", x.owner)


def _only_reader(value: ir.Value, name: str) -> bool:
    """Whether `value` is made by op `name` and read once."""
    maker = value.owner
    made = not isinstance(maker, ir.Block) and maker.name == name
    return made and len(list(value.uses)) == 1


def _replace(
    op: ir.Operation, operands: list[ir.Value], activation: str, part: ir.Operation
) -> None:
    """Puts the linear op in place of `op`, which alone read `part`."""
    with ir.InsertionPoint(op):
        made = OpBuilder(part.location).emit("linear", *operands, activation=activation)
    op.results[0].replace_all_uses_with(made)
    op.erase()
    part.erase()
