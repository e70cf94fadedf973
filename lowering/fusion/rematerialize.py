"""Values that one kernel would store for another are computed again there, where that moves less
memory.

So for 2 x, or the mask x > 0, saved for the backward pass beside x itself: whoever reads x can
make it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from ..indexing import Dims
from ..linalg.body import Body
from .graph import Graph, squeezed_dims
from .grouping import Group, Grouping
from .inline import cost

MAX_COST = 4
# An exponential or the like: more than MAX_COST.
DEAR = 16


def rematerialize(grouping: Grouping) -> None:
    """Rewrites readers of cheap stored values, and takes those values out of their groups."""
    graph = grouping.graph
    for number in range(len(graph.nodes) - 1, -1, -1):
        recipe = _worthwhile(grouping, number)
        if recipe is not None:
            _move(grouping, number, recipe)


@dataclass(frozen=True)
class _Recipe:
    """How a value is made of what is in memory.

    Attributes:
        price: arithmetic ops an element.
        sources: what is read.
        kept: those of the sources that would be stored for this alone.
        inner: the values of the same kernel that are made on the way, itself among them.
    """

    price: int
    sources: frozenset[int]
    kept: frozenset[int]
    inner: frozenset[int]

    def __or__(self, other: _Recipe) -> _Recipe:
        """What both take together."""
        return _Recipe(
            self.price + other.price,
            self.sources | other.sources,
            self.kept | other.kept,
            self.inner | other.inner,
        )


def _recipe(grouping: Grouping, number: int, room: int) -> _Recipe | None:
    """The recipe of a loop's value; `room` is the bytes below which a source is worth storing."""
    loop = grouping.graph.nodes[number].loop
    if loop is None or loop.combiner or loop.tables():
        return None  # to look up twice costs more than to read in order
    price, nothing = cost(loop), frozenset[int]()
    made = frozenset(grouping.graph.nodes[number].outputs)
    recipe = _Recipe(DEAR if price is None else price, nothing, nothing, made)
    for source in dict.fromkeys(source for source, _ in loop.reads()):
        found = _source(grouping, source, grouping.of[number], room)
        if found is None:
            return None
        recipe |= found
    return recipe


def _source(grouping: Grouping, source: int, group: Group, room: int) -> _Recipe | None:
    """How what a loop of `group` reads comes into memory, or is made."""
    nothing, itself = frozenset[int](), frozenset([source])
    producer = grouping.graph.producer[source]
    if producer is None or grouping.of[producer] is not group:
        return _Recipe(0, itself, nothing, nothing)
    if grouping.escapes(producer, group.mask):
        return _Recipe(0, itself, nothing, nothing)
    if grouping.graph.types[source].nbytes < room:
        return _Recipe(0, itself, itself, nothing)
    return _recipe(grouping, producer, room)


def _worthwhile(grouping: Grouping, number: int) -> _Recipe | None:
    """The recipe of a value that loops elsewhere had better follow themselves."""
    graph, group = grouping.graph, grouping.of[number]
    loop = graph.nodes[number].loop
    if loop is None or loop.combiner or group.is_update or len(group.nodes) == 1:
        return None
    (value,) = graph.nodes[number].outputs
    outside = _outside(grouping, number)
    if value in grouping.returned or not outside:
        return None
    if any(graph.nodes[user].loop is None or grouping.of[user].is_update for user in outside):
        return None
    recipe = _recipe(grouping, number, graph.types[value].nbytes)
    return recipe if recipe and _pays(grouping, value, recipe, outside) else None


def _outside(grouping: Grouping, number: int) -> list[int]:
    group = grouping.of[number]
    (value,) = grouping.graph.nodes[number].outputs
    return [user for user in grouping.users[value] if not group.mask >> user & 1]


def _pays(grouping: Grouping, value: int, recipe: _Recipe, outside: list[int]) -> bool:
    """Whether the readers load no more bytes than storing and loading the value would move, or
    fewer where more than a little is computed again.
    """
    types = grouping.graph.types
    groups = list(dict.fromkeys(grouping.of[user] for user in outside))
    loaded = sum(
        types[source].nbytes
        for group in groups
        for source in recipe.sources
        if not _loads(grouping, group, source)
    )
    moved = loaded + sum(types[source].nbytes for source in recipe.kept)
    before = types[value].nbytes * (1 + len(groups))
    cheap = recipe.price <= MAX_COST
    return bool(recipe.sources) and (moved <= before if cheap else moved < before)


def _loads(grouping: Grouping, group: Group, source: int) -> bool:
    return any(source in grouping.graph.nodes[number].inputs for number in group.nodes)


def _move(grouping: Grouping, number: int, recipe: _Recipe) -> None:
    graph, group = grouping.graph, grouping.of[number]
    (value,) = graph.nodes[number].outputs
    for user in _outside(grouping, number):
        _inline(graph, user, value, recipe.inner)
    grouping.users = graph.users()
    if not grouping.users[value]:
        group.nodes.remove(number)
        group.mask &= ~(1 << number)
        group.places.pop(number)
        graph.nodes[number].inputs = []
        grouping.users = graph.users()
        grouping.of[number] = Group([], 0, 0)


def _inline(graph: Graph, user: int, value: int, inner: frozenset[int]) -> None:
    """Puts the code that makes `value`, and all of `inner`, into the loop that reads it."""
    node = graph.nodes[user]
    assert node.loop is not None
    body = Body()

    def read(source: int, dims: Dims, dtype: str, within: frozenset[int]) -> int:
        maker = graph.loop_of(source)
        if maker is None or source not in within:
            return body.read(source, dims, dtype)
        axes = squeezed_dims(graph.types[source].shape)
        local = tuple(dim for dim, axis in zip(dims, axes, strict=True) if axis is not None)
        return body.inline(maker.body, maker.value, local, partial(read, within=inner))

    whole = tuple(range(len(node.loop.extents)))
    only = partial(read, within=frozenset([value]))
    node.loop.value = body.inline(node.loop.body, node.loop.value, whole, only)
    node.loop.body = body
    graph.refresh(node)
