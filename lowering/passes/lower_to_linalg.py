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
from ..mlir import functions, parse
from .base import Pass

ALWAYS = frozenset(["linear"])
"""Ops that every target takes apart: their parts are a template and its epilogue."""


@dataclass(frozen=True)
class LowerToLinalg(Pass):
    """Options: `decompose`, the row templates (e.g. "softmax") to spell out as plain ops first."""

    name: ClassVar[str] = "lower-to-linalg"
    takes: ClassVar[str] = "keras"
    gives: ClassVar[str] = "linalg"

    decompose: frozenset[str] = frozenset()

    def run(self, module: ir.Module) -> ir.Module:
        self.check_stage(module)
        module = decompose_module(module, self.decompose | ALWAYS)
        lines = ['module attributes {keras.stage = "linalg"} {']
        for function in functions(module).values():
            lines += _function(function)
        return parse("\n".join([*lines, "}"]))


def _function(function: ir.OpView) -> list[str]:
    if not function.regions[0].blocks:
        return [op_text(function)]
    lowering = linalg_rules.Lowering()
    block = function.regions[0].blocks[0]
    arguments = [f"{lowering.bind_argument(value)}: {value.type}" for value in block.arguments]
    for op in block.operations:
        lowering.lower(op.operation)
    return [header_text(function, arguments), *lowering.writer.lines, "}"]
