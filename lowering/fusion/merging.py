"""Which groups are merged in which order: sibling reductions, producers with readers, siblings."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from ..indexing import terms
from .group import Group
from .grouping import Grouping

# Reductions to a scalar of at most this many elements need nothing in common to be one launch.
SMALL = 4096


def group_all(grouping: Grouping) -> None:
    """Merges what fits: sibling reductions, then producers with readers, then siblings."""
    # Nothing reads the new values of parameters, and they are half of the nodes: the fewer groups are
    # left of them, the less every other merge has to look at.
    nodes = range(len(grouping.graph.nodes))
    while _merge_edges(grouping, [number for number in nodes if grouping.of[number].is_update]):
        pass
    _merge_siblings(grouping, reductions=True)
    changed = True
    while changed:
        changed = _merge_edges(grouping, nodes)
        changed = _merge_siblings(grouping, reductions=True) or changed
    _merge_siblings(grouping, reductions=False)
    while _merge_edges(grouping, nodes):
        pass


def edges(grouping: Grouping, number: int) -> list[int]:
    """The makers of a node's inputs outside its group, latest first."""
    makers = grouping.graph.makers(grouping.graph.nodes[number])
    return sorted((m for m in makers if grouping.of[m] is not grouping.of[number]), reverse=True)


def _merge_edges(grouping: Grouping, readers: Sequence[int]) -> bool:
    """Merges loops with what makes their inputs, in order; whether any were."""
    changed = False
    for number in readers:
        for maker in edges(grouping, number) if grouping.graph.nodes[number].loop else []:
            first, second = grouping.of[maker], grouping.of[number]
            if first is not second and (first.is_loop or first.template is not None):
                changed |= not grouping.try_merge(first, second)
    return changed


def _merge_siblings(grouping: Grouping, reductions: bool) -> bool:
    """Groups of one domain that read a common tensor, or reduce tensors that one kernel makes (those
    of few elements need neither).
    """
    changed = False
    seen: dict[tuple, list[Group]] = {}
    for group in grouping.groups():
        if not group.is_loop or group.template is not None or bool(group.reduction) != reductions:
            continue
        if group.is_update:
            continue
        for key in _sharing_keys(grouping, group):
            others = seen.setdefault((group.parallel, group.reduction, key), [])
            current = grouping.of[group.nodes[0]]
            for other in dict.fromkeys(grouping.of[g.nodes[0]] for g in others[-4:]):
                if other is not current and not grouping.try_merge(other, current):
                    changed = True
                    current = grouping.of[group.nodes[0]]
            others.append(current)
    return changed


def _sharing_keys(grouping: Grouping, group: Group) -> list[tuple]:
    if not group.parallel and prod(group.reduction) <= SMALL:
        return [("few elements",)]
    keys: dict[tuple, None] = {}
    for number in group.nodes:
        loop = grouping.graph.nodes[number].loop
        assert loop is not None
        for source, dims in loop.reads():
            # Windows of one tensor count as the same: a kernel that makes one can make the other.
            varying = (dim for dim, _, _ in map(terms, dims) if dim is not None)
            read = tuple(group.places[number][dim] for dim in varying)
            if len(read) == len(group.domain):
                keys[(source, read)] = None
                maker = grouping.graph.producer[source]
                if group.reduction and maker is not None:
                    keys[("made by", grouping.of[maker].nodes[0], read)] = None
    return list(keys)
