"""Indices into tensors as functions of a domain's dims: what indexing maps of the compiler may hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from mlir import ir

from .errors import RegionError


@dataclass(frozen=True)
class Affine:
    """The index `step * d + offset` where d is dim number `dim`; the constant `offset` if that is None.

    Where d goes from 0 to its extent, the axis need not be covered: a dim alone, as an int, says that
    it is.
    """

    dim: int | None
    step: int
    offset: int


Index: TypeAlias = int | Affine | None
"""Of one axis: a dim that covers it, 0 (None), or another affine function of one dim."""

Dims: TypeAlias = tuple[Index, ...]
"""Of all axes of a tensor."""


def window(item: Index, step: int, offset: int) -> Index:
    """`step * item + offset`, which may leave a part of the axis out."""
    dim, inner_step, inner_offset = terms(item)
    start = offset + step * inner_offset
    if dim is None:
        return Affine(None, 0, start) if start else None
    return Affine(dim, step * inner_step, start)


def terms(item: Index) -> tuple[int | None, int, int]:
    """(dim, step, offset) of an index."""
    if isinstance(item, Affine):
        return item.dim, item.step, item.offset
    return (None, 0, 0) if item is None else (item, 1, 0)


def rename(inner: Dims, dims: Dims) -> Dims:
    """`inner` with its dim i being the index `dims[i]`."""
    found: list[Index] = []
    for item in inner:
        if isinstance(item, Affine):
            around = None if item.dim is None else dims[item.dim]
            found.append(window(around, item.step, item.offset))
        else:
            found.append(None if item is None else dims[item])
    return tuple(found)


def is_plain(dims: Dims) -> bool:
    """Whether each axis is indexed by a dim or by 0."""
    return not any(isinstance(item, Affine) for item in dims)


def plain(dims: Dims) -> tuple[int, ...] | None:
    """The dims that index axes, in order, without zeros; None if an axis is indexed otherwise."""
    if not is_plain(dims):
        return None
    return tuple(item for item in dims if isinstance(item, int))


def map_text(rank: int, dims: Dims, shape: Sequence[int]) -> str:
    """The indexing map from a domain of `rank` dims into a tensor of `shape`, as MLIR spells it."""
    domain = ", ".join(f"d{i}" for i in range(rank))
    results = ", ".join(_index_text(*axis) for axis in zip(dims, shape, strict=True))
    return f"affine_map<({domain}) -> ({results})>"


def _index_text(item: Index, extent: int) -> str:
    """A window from 0 is spelled with a modulus, since MLIR reads a dim alone as all of the axis."""
    dim, step, offset = terms(item)
    if dim is None:
        return str(offset)
    if isinstance(item, Affine) and (step, offset) == (1, 0):
        return f"d{dim} mod {extent}"
    scaled = f"d{dim}" if step == 1 else f"d{dim} * {step}"
    return scaled if offset == 0 else f"{scaled} + {offset}"


def map_dims(attribute: ir.Attribute) -> Dims:
    """An indexing map as an index for each axis.

    Raises:
        RegionError: an index of several dims, or not affine in one.
    """
    return tuple(_parse(item, attribute) for item in ir.AffineMapAttr(attribute).value.results)


def _parse(expression: ir.AffineExpr, attribute: ir.Attribute) -> Index:
    if isinstance(expression, ir.AffineDimExpr):
        return expression.position
    if isinstance(expression, ir.AffineConstantExpr):
        return window(None, 0, expression.value)
    if isinstance(expression, ir.AffineAddExpr | ir.AffineMulExpr | ir.AffineModExpr):
        item, right = (_parse(side, attribute) for side in (expression.lhs, expression.rhs))
        dim, _, number = terms(right)
        if dim is None and isinstance(expression, ir.AffineAddExpr):
            return window(item, 1, number)
        if dim is None and isinstance(expression, ir.AffineMulExpr):
            return window(item, number, 0)
        if dim is None and isinstance(item, int):  # a modulus that nothing reaches
            return window(item, 1, 0)
    raise RegionError(f"{expression} in {attribute} is not affine in one dim")


def axes_of(shape: Sequence[int], dims: Dims) -> list[tuple[int, int]]:
    """(dim, elements that a step of it moves by) of each axis that varies, in memory order."""
    found = []
    stride = 1
    for extent, item in zip(reversed(shape), reversed(dims), strict=True):
        dim, step, _ = terms(item)
        if dim is not None:
            found.append((dim, step * stride))
        stride *= extent
    return found[::-1]


def start_of(shape: Sequence[int], dims: Dims) -> int:
    """The element of a contiguous tensor that the indices give where all dims are 0."""
    start, stride = 0, 1
    for extent, item in zip(reversed(shape), reversed(dims), strict=True):
        start += terms(item)[2] * stride
        stride *= extent
    return start
