"""Offsets into contiguous tensors, from the flattened subscripts of a tile.

A tile's rows are points of the flattened parallel extents P, its columns points of the flattened
reduction extents R. Axes of a tensor that follow consecutive dims share one coordinate, so that an
identity read costs no division and a broadcast along leading dims costs one remainder.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..indexing import Index, terms


@dataclass(frozen=True)
class Coordinate:
    """Part of a flattened subscript: (subscript // inner) % size, in units of `stride` elements.

    Attributes:
        axis: "p" or "r", the flattened subscript it comes from.
        first, last: the domain dims it covers.
        inner: the number of points after `last` on its axis.
        size: the number of points it takes.
        outermost: nothing varies before `first`, so the remainder is not needed.
        stride: elements between neighbours.
    """

    axis: str
    first: int
    last: int
    inner: int
    size: int
    outermost: bool
    stride: int

    def text(self, subscript: str, number: Callable[[int], str] = str) -> str:
        """Its expression: a name, or one that needs no parentheses in a product. `number` writes the
        numbers in it.
        """
        divided = subscript if self.inner == 1 else f"{subscript} // {number(self.inner)}"
        if self.outermost:
            return divided
        return f"{divided} % {number(self.size)}"


class Domain:
    """The extents P and R, dims numbered through both."""

    def __init__(self, parallel: Sequence[int], reduction: Sequence[int]) -> None:
        self.parallel, self.reduction = tuple(parallel), tuple(reduction)
        self.extents = self.parallel + self.reduction

    @property
    def rows(self) -> int:
        return _product(self.parallel)

    @property
    def columns(self) -> int:
        return _product(self.reduction)

    def axis(self, dim: int) -> str:
        return "p" if dim < len(self.parallel) else "r"

    def _bounds(self, dim: int) -> tuple[int, int]:
        split = len(self.parallel)
        return (0, split) if dim < split else (split, len(self.extents))

    def coordinate(self, first: int, last: int, stride: int) -> Coordinate:
        start, end = self._bounds(first)
        return Coordinate(
            axis=self.axis(first),
            first=first,
            last=last,
            inner=_product(self.extents[last + 1 : end]),
            size=_product(self.extents[first : last + 1]),
            outermost=_product(self.extents[start:first]) == 1,
            stride=stride,
        )

    def coordinates(self, shape: Sequence[int], dims: Sequence[Index]) -> list[Coordinate]:
        """The coordinates whose sum, each times its stride, is the offset of an element from the one
        that the indices give at the domain's start.
        """
        groups: list[list[int]] = []
        stride = _product(shape)
        covers = False
        for extent, item in zip(shape, dims, strict=True):
            stride //= max(extent, 1)
            dim, step, _ = terms(item)
            if extent == 1:
                continue
            if dim is None:
                covers = False
                continue
            # Only where an axis is covered does the next element of the one before follow its last.
            if covers and isinstance(item, int) and self._continues(groups[-1][1], dim):
                groups[-1][1:] = [dim, stride]
            else:
                groups.append([dim, dim, step * stride])
            covers = isinstance(item, int)
        return [self.coordinate(*group) for group in groups]

    def _continues(self, last: int, dim: int) -> bool:
        """Whether `dim` follows `last` on one axis, with nothing but single points between."""
        between = self.extents[last + 1 : dim]
        return dim > last and self.axis(last) == self.axis(dim) and _product(between) == 1


def _product(extents: Sequence[int]) -> int:
    result = 1
    for extent in extents:
        result *= extent
    return result
