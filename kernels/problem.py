"""What a template is asked to do, and what that costs: shapes, dtypes, attributes; bytes, flops."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

ITEM_BYTES = {
    "float64": 8, "float32": 4, "float16": 2, "bfloat16": 2,
    "int64": 8, "int32": 4, "int16": 2, "int8": 1, "uint8": 1, "bool": 1,
}  # fmt: skip
"""Bytes of one element, by dtype name (PyTorch's spelling)."""

Attribute = bool | int | float | str | tuple[int, ...]


@dataclass(frozen=True)
class TensorSpec:
    """Shape and dtype name of one contiguous row-major tensor."""

    shape: tuple[int, ...]
    dtype: str

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        return self.size * ITEM_BYTES[self.dtype]


@dataclass(frozen=True)
class Problem:
    """One use of a template: its operands in order, and its attributes (hashable)."""

    operands: tuple[TensorSpec, ...]
    attributes: tuple[tuple[str, Attribute], ...] = ()

    @classmethod
    def of(
        cls, operands: Sequence[tuple[tuple[int, ...], str]], **attributes: Attribute
    ) -> Problem:
        """``Problem.of([((4, 8), "float32")], eps=1e-5)``."""
        specs = tuple(TensorSpec(tuple(shape), dtype) for shape, dtype in operands)
        return cls(specs, tuple(sorted(attributes.items())))

    @property
    def attrs(self) -> Mapping[str, Any]:
        """The attributes by name."""
        return dict(self.attributes)

    def shape(self, operand: int) -> tuple[int, ...]:
        return self.operands[operand].shape

    def dtype(self, operand: int = 0) -> str:
        return self.operands[operand].dtype


@dataclass(frozen=True)
class Work:
    """Least memory traffic in bytes (each operand and result once), and arithmetic operations."""

    bytes: int
    flops: int


def next_power_of_two(value: int) -> int:
    return 1 << max(value - 1, 0).bit_length()


def ceil_div(value: int, by: int) -> int:
    return -(-value // by)


def wide(*specs: TensorSpec) -> bool:
    """Whether some element offset needs 64 bits."""
    return any(spec.size >= 2**31 for spec in specs)
