"""The reference target: every kernel by its meaning, on torch. Slow, and right by definition."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping

from mlir import ir

from .base import Compiled, meaning_of


class ReferenceTarget:
    name = "reference"
    decompose = False
    rows = 0
    epilogues = True
    recompute = False
    sized = frozenset[str]()
    native = False
    host = ""

    def compile(
        self, functions: Mapping[str, ir.OpView], code: MutableMapping[str, bytes]
    ) -> dict[str, Compiled | Exception]:
        return {
            name: Compiled(meaning_of(function), "reference meaning")
            for name, function in functions.items()
        }
