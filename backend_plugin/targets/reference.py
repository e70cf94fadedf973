"""The reference target: every kernel by its meaning, on torch. Slow, and right by definition."""

from __future__ import annotations

from collections.abc import Mapping

from mlir import ir

from .base import Compiled, meaning_of


class ReferenceTarget:
    name = "reference"
    decompose = False
    rows = 0
    epilogues = True

    def compile(self, functions: Mapping[str, ir.OpView]) -> dict[str, Compiled | Exception]:
        return {
            name: Compiled(meaning_of(function), "reference meaning")
            for name, function in functions.items()
        }
