"""Values that one kernel would store for another are computed again there, where that moves less
memory.

So for 2 x, or the mask x > 0, saved for the backward pass beside x itself: whoever reads x can
make it.
"""

from __future__ import annotations

from ..indexing import Dims
from ..linalg.body import Body
from .graph import Graph, Loop, squeezed_dims
from .grouping import Group, Grouping
from .inline import cost

MAX_COST = 4


def rematerialize(grouping: Grouping) -> None:
    """Rewrites readers of cheap stored values, and takes those values out of their groups."""
    graph = grouping.graph
    for number in range(len(graph.nodes) - 1, -1, -1):
        if _is_cheap(grouping, number):
            _move(grouping, number)


def _is_cheap(grouping: Grouping, number: int) -> bool:
    """Whether all readers elsewhere are loops that can compute it from what is in memory."""
    graph, group = grouping.graph, grouping.of[number]
    loop = graph.nodes[number].loop
    if loop is None or loop.combiner or group.is_update or len(group.nodes) == 1:
        return False
    if loop.tables():
        return False  # to look up twice costs more than to read in order
    (value,) = graph.nodes[number].outputs
    outside = _outside(grouping, number)
    price = cost(loop)
    if value in grouping.returned or not outside or price is None or price > MAX_COST:
        return False
    if any(graph.nodes[user].loop is None or grouping.of[user].is_update for user in outside):
        return False
    return _pays(grouping, number, loop, outside)


def _outside(grouping: Grouping, number: int) -> list[int]:
    group = grouping.of[number]
    (value,) = grouping.graph.nodes[number].outputs
    return [user for user in grouping.users[value] if not group.mask >> user & 1]


def _pays(grouping: Grouping, number: int, loop: Loop, outside: list[int]) -> bool:
    """Whether a reader loads no more bytes than storing and loading the value would move."""
    graph = grouping.graph
    full = [s for s, dims in loop.reads() if len(loop.extents) == len(dims) - dims.count(None)]
    if len(full) != 1:
        return False
    (source,) = full
    if any(not _is_stored(grouping, s, number) for s, _ in loop.reads()):
        return False
    (value,) = graph.nodes[number].outputs
    if all(_loads(grouping, grouping.of[user], source) for user in outside):
        return True
    return graph.types[value].nbytes * 2 >= graph.types[source].nbytes


def _is_stored(grouping: Grouping, source: int, reader: int) -> bool:
    """Whether a value is in memory whatever becomes of `reader`."""
    producer = grouping.graph.producer[source]
    if producer is None or grouping.graph.nodes[producer].loop is None:
        return producer is None or grouping.of[producer] is not grouping.of[reader]
    mask = grouping.of[producer].mask
    users = [user for user in grouping.users[source] if user != reader]
    return source in grouping.returned or any(not mask >> user & 1 for user in users)


def _loads(grouping: Grouping, group: Group, source: int) -> bool:
    return any(source in grouping.graph.nodes[number].inputs for number in group.nodes)


def _move(grouping: Grouping, number: int) -> None:
    graph, group = grouping.graph, grouping.of[number]
    (value,) = graph.nodes[number].outputs
    for user in _outside(grouping, number):
        _inline(graph, user, value)
    grouping.users = graph.users()
    if not grouping.users[value]:
        group.nodes.remove(number)
        group.mask &= ~(1 << number)
        group.places.pop(number)
        graph.nodes[number].inputs = []
        grouping.users = graph.users()
        grouping.of[number] = Group([], 0, 0)


def _inline(graph: Graph, user: int, value: int) -> None:
    """Puts the code that makes `value` into the loop that reads it."""
    node, maker = graph.nodes[user], graph.loop_of(value)
    assert node.loop is not None
    assert maker is not None
    body = Body()

    def read(source: int, dims: Dims, dtype: str) -> int:
        if source != value:
            return body.read(source, dims, dtype)
        axes = squeezed_dims(graph.types[source].shape)
        local = tuple(dim for dim, axis in zip(dims, axes, strict=True) if axis is not None)
        return body.inline(maker.body, maker.value, local)

    whole = tuple(range(len(node.loop.extents)))
    node.loop.value = body.inline(node.loop.body, node.loop.value, whole, read)
    node.loop.body = body
    graph.refresh(node)
