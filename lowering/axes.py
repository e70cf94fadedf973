"""Merging neighbouring axes of a shape, and which merges an op on those axes can bear.

A merge is the set of its *cuts*: the axes at which a group begins. {0, 2} makes [1024, 256] of
[8, 128, 256].
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from math import prod
from typing import TypeAlias

Shape: TypeAlias = Sequence[int]
Cuts: TypeAlias = frozenset[int]


def groups(rank: int, cuts: Cuts) -> list[range]:
    """The axes of each group."""
    starts = sorted(cuts)
    return [range(a, b) for a, b in zip(starts, [*starts[1:], rank], strict=True)]


def merged(shape: Shape, cuts: Cuts) -> tuple[int, ...]:
    """The extents of the groups."""
    return tuple(prod(shape[axis] for axis in group) for group in groups(len(shape), cuts))


def cuts_between(fine: Shape, coarse: Shape) -> Cuts | None:
    """The cuts that make `coarse` of `fine`, or None if no merge of neighbours does."""
    cuts, axis = set(), 0
    for extent in coarse:
        if axis == len(fine):
            return None
        cuts.add(axis)
        size, axis = fine[axis], axis + 1
        while size < extent and axis < len(fine):
            size, axis = size * fine[axis], axis + 1
        if size != extent:
            return None
    found = frozenset(cuts)
    return found if found and merged(fine, found) == tuple(coarse) else None


def cuts_where(kinds: Sequence[Hashable | None]) -> Cuts:
    """The cuts between axes of different kinds; an axis of kind None goes with any neighbour."""
    cuts, last = {0}, None
    for axis, kind in enumerate(kinds):
        if kind is None:
            continue
        if last is not None and kind != last:
            cuts.add(axis)
        last = kind
    return frozenset(cuts)


def spread_kinds(extents: Sequence[int | None], shape: Shape) -> list[bool | None]:
    """For each axis of `shape`, whether an operand has it (True) or repeats along it (False).

    `extents` are the operand's, None where it has no such axis; axes of extent 1 are both.
    """
    return [
        None if whole == 1 else extent == whole
        for extent, whole in zip(extents, shape, strict=True)
    ]
