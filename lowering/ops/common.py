"""Checks and type rules that several families share."""

from __future__ import annotations

from collections.abc import Sequence

from ..dialect import Attributes
from ..errors import DialectError
from ..mlir import TORCH_DTYPES, TensorType
from ..sizes import is_symbolic


def broadcast(types: Sequence[TensorType]) -> tuple[int, ...]:
    """NumPy's broadcast of the operands' shapes."""
    rank = max(kind.rank for kind in types)
    result = []
    for position in range(rank):
        extents = {
            kind.shape[position - rank + kind.rank]
            for kind in types
            if position - rank + kind.rank >= 0
        } - {1}
        if len(extents) > 1:
            raise DialectError(f"operands do not broadcast: extents {sorted(extents)} meet")
        result.append(extents.pop() if extents else 1)
    return tuple(result)


def same_dtype(types: Sequence[TensorType]) -> str:
    """The element type all operands share."""
    names = {kind.dtype for kind in types}
    if len(names) != 1:
        raise DialectError(f"operands must share one element type, not {', '.join(sorted(names))}")
    return names.pop()


def require_float(kind: TensorType, operand: str) -> None:
    if not kind.is_float:
        raise DialectError(f"{operand} must be floating point, not {kind.dtype}")


def require_rank(kind: TensorType, rank: int, operand: str) -> None:
    if kind.rank != rank:
        raise DialectError(f"{operand} must have rank {rank}, not {kind.rank}")


def require_type(kind: TensorType, expected: TensorType, operand: str) -> None:
    if kind != expected:
        raise DialectError(f"{operand} must be {expected}, not {kind}")


def require_ints(attributes: Attributes, name: str, count: int, least: int = 0) -> tuple[int, ...]:
    """The attribute `name`: exactly `count` integers, none below `least` (one that depends on an open
    size may be anything here, and is what it should be in every call).
    """
    value = attributes[name]
    if (
        not isinstance(value, tuple | list)
        or len(value) != count
        or any(item < least and not is_symbolic(item) for item in value)
    ):
        raise DialectError(f"{name} must be {count} integers of at least {least}, not {value}")
    return tuple(value)


def require_dtype(attributes: Attributes) -> str:
    if attributes["dtype"] not in TORCH_DTYPES:
        raise DialectError(
            f"dtype must be one of {', '.join(TORCH_DTYPES)}, not {attributes['dtype']!r}"
        )
    return attributes["dtype"]


def require_axes(axes: Sequence[int], rank: int) -> tuple[int, ...]:
    """Distinct axes within `rank`."""
    if len(set(axes)) != len(axes) or any(not 0 <= axis < rank for axis in axes):
        raise DialectError(f"axes {tuple(axes)} must be distinct and within rank {rank}")
    return tuple(axes)
