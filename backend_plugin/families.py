"""Calls that one program with an open size serves: which axes have the size, and which size a call has."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .signature import Shapes
from .symbolic_size import LEAST, Axes


@dataclass(frozen=True)
class Family:
    """Shapes that differ in one size.

    Attributes:
        shapes: one of them.
        places: which axes of which tensors have the size.
    """

    shapes: Shapes
    places: tuple[tuple[int, tuple[int, ...]], ...]

    @property
    def axes(self) -> Axes:
        return dict(self.places)

    def size_of(self, shapes: Shapes) -> int | None:
        """The size that makes these shapes of the family's; None if they are not of it."""
        sizes = {shapes[i][axis] for i, axes in self.places for axis in axes}
        if len(sizes) != 1 or not self._is_like(shapes):
            return None
        (size,) = sizes
        return size if size >= LEAST else None

    def _is_like(self, shapes: Shapes) -> bool:
        open_axes = self.axes
        return all(
            n == m or axis in open_axes.get(i, ())
            for i, (mine, other) in enumerate(zip(self.shapes, shapes, strict=True))
            for axis, (n, m) in enumerate(zip(mine, other, strict=True))
        )


def batches_of(shapes: Shapes) -> Family | None:
    """All batches like the one of these shapes, whatever its size; None for a batch of too few."""
    sizes = [shape[0] for shape in shapes if shape]
    if not sizes or sizes[0] < LEAST:
        return None
    places = tuple((i, (0,)) for i, shape in enumerate(shapes) if shape and shape[0] == sizes[0])
    return Family(shapes, places)


def family_with(shapes: Shapes, others: Iterable[Shapes]) -> Family | None:
    """The family of `shapes` and the first of `others` that differs from them in one size."""
    for other in others:
        places = tuple(
            (i, tuple(axis for axis in range(len(mine)) if mine[axis] != theirs[axis]))
            for i, (mine, theirs) in enumerate(zip(shapes, other, strict=True))
            if mine != theirs
        )
        family = Family(shapes, places)
        if places and family.size_of(shapes) is not None and family.size_of(other) is not None:
            return family
    return None


def reopened(shapes: Shapes, families: Iterable[Family]) -> Family | None:
    """The family of `shapes` with the open axes of the first of `families` that has the same ranks: what
    varied beside other sizes is expected to vary beside these.
    """
    ranks = [len(shape) for shape in shapes]
    for known in families:
        family = Family(shapes, known.places)
        alike = ranks == [len(shape) for shape in known.shapes]
        if alike and family.size_of(shapes) is not None:
            return family
    return None
