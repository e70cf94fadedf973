"""Values that one kernel would store for another are computed again there, where that moves less
memory.

So for 2 x, or the mask x > 0, saved for the backward pass beside x itself: whoever reads x can
make it. A product makes an operand as it loads it (`prologue.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from ..indexing import Dims
from ..linalg.body import Body
from .graph import Graph, squeezed_dims
from .group import Group, Refusal
from .grouping import Grouping
from .inline import cost
from .prologue import check_prologue, make_prologue

MAX_COST = 4
# An exponential or the like: more than MAX_COST.
DEAR = 32
# Of what a value moves, one part in so many must be saved for products to make it again and again.
LEAST_SAVED = 6


def rematerialize(grouping: Grouping) -> None:
    """Rewrites readers of cheap stored values, and takes those values out of their groups."""
    # Products come last: what they would read instead is then known.
    for operands in (False, True):
        for number in range(len(grouping.graph.nodes) - 1, -1, -1):
            try:
                recipe = _worthwhile(grouping, number, operands)
            except Refusal as refusal:
                grouping.stored[number] = str(refusal)
                continue
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


def _worthwhile(grouping: Grouping, number: int, operands: bool) -> _Recipe | None:
    """The recipe of a value that its readers elsewhere had better follow themselves: only loops, or
    products, too, of which it is an operand.

    Raises:
        Refusal: why a product reads the value from memory.
    """
    graph, group = grouping.graph, grouping.of[number]
    loop = graph.nodes[number].loop
    if loop is None or loop.combiner or group.is_update:
        return None
    (value,) = graph.nodes[number].outputs
    outside = _outside(grouping, number)
    products = [user for user in outside if _is_product(grouping, user)]
    if value in grouping.returned or not outside or bool(products) != operands:
        return None
    if len(group.nodes) == 1 and not products:
        return None
    if any(grouping.of[user].is_update for user in outside):
        return None
    recipe = _recipe(grouping, number, graph.types[value].nbytes)
    for user in products:
        _check_product(grouping, user, value, recipe)
    if recipe is None:
        return None
    if products:
        _check_saving(grouping, number, recipe, outside)
        return recipe
    return recipe if _pays(grouping, value, recipe, outside) else None


def _is_product(grouping: Grouping, user: int) -> bool:
    """Whether a reader is no loop, or makes an operand of a product."""
    return grouping.graph.nodes[user].loop is None or user in grouping.of[user].before


def _check_product(grouping: Grouping, user: int, value: int, recipe: _Recipe | None) -> None:
    """Whether a product can make its operand, or what that is made of.

    Raises:
        Refusal: why not.
    """
    node, price = grouping.graph.nodes[user], None if recipe is None else recipe.price
    sources = () if recipe is None else recipe.sources
    nbytes = sum(grouping.graph.types[source].nbytes for source in sources)
    if node.loop is None:
        check_prologue(grouping, user, value, price, nbytes)
        return
    template = grouping.of[user].template
    assert template is not None  # the reader stands before it
    own = cost(node.loop)
    total = None if price is None or own is None else price + own
    check_prologue(grouping, template, node.outputs[0], total, nbytes)


def _outside(grouping: Grouping, number: int) -> list[int]:
    group = grouping.of[number]
    (value,) = grouping.graph.nodes[number].outputs
    return [user for user in grouping.users[value] if not group.mask >> user & 1]


def _pays(grouping: Grouping, value: int, recipe: _Recipe, outside: list[int]) -> bool:
    """Whether the readers load no more bytes than storing and loading the value would move, or
    fewer where more than a little is computed again.
    """
    moved, before = _traffic(grouping, value, recipe, outside)
    cheap = recipe.price <= MAX_COST
    return bool(recipe.sources) and (moved <= before if cheap else moved < before)


def _check_saving(grouping: Grouping, number: int, recipe: _Recipe, outside: list[int]) -> None:
    """Whether it is worth while that products make an operand, and others with them.

    Raises:
        Refusal: too little of the value's traffic is saved.
    """
    types = grouping.graph.types
    (value,) = grouping.graph.nodes[number].outputs
    moved, before = _traffic(grouping, value, recipe, outside)
    before += sum(types[source].nbytes for source in _freed(grouping, number, recipe))
    if LEAST_SAVED * (before - moved) < before:
        part = 100 * int(moved) // max(int(before), 1)
        raise Refusal(f"stored: to make it again moves {part} % of what it moves so")


def _traffic(
    grouping: Grouping, value: int, recipe: _Recipe, outside: list[int]
) -> tuple[int, int]:
    """Bytes that the readers load in addition to make the value, and those that it moves itself."""
    types = grouping.graph.types
    groups = list(dict.fromkeys(grouping.of[user] for user in outside))
    loaded = sum(
        types[source].nbytes
        for group in groups
        for source in recipe.sources
        if not _loads(grouping, group, source)
    )
    moved = loaded + sum(types[source].nbytes for source in recipe.kept)
    return moved, types[value].nbytes * (1 + len(groups))


def _freed(grouping: Grouping, number: int, recipe: _Recipe) -> set[int]:
    """What the kernel of a value loads for nothing else."""
    graph, group = grouping.graph, grouping.of[number]
    dying: set[int] = set()
    makers = (graph.producer[value] for value in recipe.inner)
    for maker in sorted((maker for maker in makers if maker is not None), reverse=True):
        users = (user for value in graph.nodes[maker].outputs for user in grouping.users[value])
        if maker == number or all(user in dying for user in users):
            dying.add(maker)
    loaded = {value for maker in dying for value in graph.nodes[maker].inputs} & recipe.sources
    alive = set(group.nodes) - dying
    return {
        source
        for source in loaded
        if not any(source in graph.nodes[other].inputs for other in alive)
        and graph.producer[source] not in alive
    }


def _loads(grouping: Grouping, group: Group, source: int) -> bool:
    return any(source in grouping.graph.nodes[number].inputs for number in group.nodes)


def _move(grouping: Grouping, number: int, recipe: _Recipe) -> None:
    graph, group = grouping.graph, grouping.of[number]
    (value,) = graph.nodes[number].outputs
    for user in _outside(grouping, number):
        before = graph.nodes[user].inputs
        if graph.nodes[user].loop is None:
            product, user = user, make_prologue(grouping, user, value)
            grouping.reread(product, before)
            before = []
        _inline(graph, user, value, recipe.inner)
        grouping.reread(user, before)
    for maker in sorted(group.nodes, reverse=True):
        outputs = graph.nodes[maker].outputs
        if any(grouping.users[made] or made in grouping.returned for made in outputs):
            continue
        group.nodes.remove(maker)
        group.mask &= ~(1 << maker)
        group.places.pop(maker)
        before, graph.nodes[maker].inputs = graph.nodes[maker].inputs, []
        grouping.reread(maker, before)
        grouping.of[maker] = Group([], 0, 0)


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
