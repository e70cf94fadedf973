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
from ..linalg.write import argument_text, attribute_text, op_text
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
        for name, function in functions(module).items():
            lines += _function(name, function)
        return parse("\n".join([*lines, "}"]))


def _function(name: str, function: ir.OpView) -> list[str]:
    if not function.regions[0].blocks:
        return [op_text(function)]
    lowering = linalg_rules.Lowering()
    arguments = []
    for value, attributes in zip(
        function.regions[0].blocks[0].arguments, argument_text(function), strict=True
    ):
        arguments.append(f"{lowering.bind_argument(value)}: {value.type} {attributes}")
    for op in function.regions[0].blocks[0].operations:
        lowering.lower(op.operation)
    kept = attribute_text(
        function, ("sym_name", "function_type", "arg_attrs", "res_attrs", "sym_visibility")
    )
    types = ", ".join(str(kind) for kind in ir.FunctionType(function.type).results)
    header = f"func.func @{name}({', '.join(arguments)}) -> ({types}) attributes {kept} {{"
    return [header, *lowering.writer.lines, "}"]
