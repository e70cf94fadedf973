"""lower-to-linalg: pointwise, broadcast, reduction and random ops become `linalg.generic`.

Ops with a kernel of their own stay `keras` ops, as do the few that neither linalg nor a view
expresses (each of those becomes a kernel of its own). Splat constants go into the bodies that read
them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from mlir import ir

from ..decompose import decompose_module
from ..linalg import rules as linalg_rules
from ..linalg.write import header_text, op_text
from ..mlir import TensorType, functions, parse
from .base import Pass

ROWS = frozenset(
    [
        "softmax",
        "softmax_grad",
        "log_softmax",
        "log_softmax_grad",
        "layer_norm",
        "layer_norm_grad",
        "cross_entropy",
        "cross_entropy_grad",
    ]
)
"""Ops on rows of their operand of most axes."""
ALWAYS = frozenset(["linear"])
"""Ops that every target takes apart: their parts are a template and its epilogue."""


@dataclass(frozen=True)
class LowerToLinalg(Pass):
    """Options: `decompose`, the ops with a template (e.g. "softmax") to spell out as plain ops first;
    `longest_row`, the elements beyond which a row op stays a template all the same (0: never).
    """

    name: ClassVar[str] = "lower-to-linalg"
    takes: ClassVar[str] = "keras"
    gives: ClassVar[str] = "linalg"

    decompose: frozenset[str] = frozenset()
    longest_row: int = 0

    def run(self, module: ir.Module) -> ir.Module:
        self.check_stage(module)
        module = decompose_module(module, self.decompose | ALWAYS, self._fits)
        lines = ['module attributes {keras.stage = "linalg"} {']
        for function in functions(module).values():
            lines += _function(function)
        return parse("\n".join([*lines, "}"]))

    def _fits(self, op: ir.Operation) -> bool:
        """Whether a row of the op is short enough."""
        if not self.longest_row or op.name.removeprefix("keras.") not in ROWS:
            return True
        widest = max((TensorType.of(value).shape for value in op.operands), key=len)
        return widest[-1] <= self.longest_row


def _function(function: ir.OpView) -> list[str]:
    if not function.regions[0].blocks:
        return [op_text(function)]
    lowering = linalg_rules.Lowering()
    block = function.regions[0].blocks[0]
    arguments = [f"{lowering.bind_argument(value)}: {value.type}" for value in block.arguments]
    for op in block.operations:
        lowering.lower(op.operation)
    return [header_text(function, arguments), *lowering.writer.lines, "}"]
