"""Values and names of generated Triton source."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

LANGUAGE_DTYPES = {
    "f64": "tl.float64", "f32": "tl.float32", "f16": "tl.float16", "bf16": "tl.bfloat16",
    "i64": "tl.int64", "i32": "tl.int32", "i16": "tl.int16", "i8": "tl.int8", "i1": "tl.int1",
    "index": "tl.int64",
}  # fmt: skip
"""Triton's name of a scalar type, by MLIR's."""

DTYPE_NAMES = {
    "f64": "float64", "f32": "float32", "f16": "float16", "bf16": "bfloat16",
    "i64": "int64", "i32": "int32", "i16": "int16", "i8": "int8", "i1": "bool",
}  # fmt: skip
"""PyTorch's name of a scalar type, by MLIR's."""

Assign = Callable[[str, str], str]
"""Adds the line ``name = expression`` for a (stem, expression), and returns the name taken."""


@dataclass(frozen=True)
class Value:
    """A scalar or tile of the generated program: a variable's name, or a literal.

    Attributes:
        text: what stands in the source.
        dtype: the MLIR scalar type it has ("index" for a subscript).
        axes: the tile axes it varies along, of "p" (rows) and "r" (columns); none for a scalar.
        literal: whether `text` is a Python literal, which takes the type of what it meets.
    """

    text: str
    dtype: str
    axes: frozenset[str] = frozenset()
    literal: bool = False

    def tensor(self) -> str:
        """The text as something that has a type of its own."""
        if not self.literal:
            return self.text
        return f"tl.full((), {self.text}, {LANGUAGE_DTYPES[self.dtype]})"


def literal(value: float | int | bool, dtype: str) -> Value:
    """A constant, written as short as its type allows."""
    if dtype == "i1":
        # Triton finds True out of range for a one-bit integer, so a bool never stands bare.
        return Value(f"tl.full((), {bool(value)}, tl.int1)", dtype)
    if dtype not in ("f64", "f32", "f16", "bf16"):
        return Value(str(int(value)), dtype, literal=True)
    if math.isnan(value) or math.isinf(value):
        return Value(f'float("{value}")', dtype, literal=True)
    short = repr(float(value)) if dtype == "f64" else str(np.float32(value))
    return Value(short, dtype, literal=True)


class Names:
    """Gives out identifiers, each once in a function: ``add``, ``add_1``, ``add_2``."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def fresh(self, stem: str) -> str:
        count = self._counts.get(stem, 0)
        self._counts[stem] = count + 1
        name = f"{stem}_{count}" if count else stem
        return name if name not in self._counts or not count else self.fresh(stem)
