"""Which producers are computed again where they are read, instead of being stored once.

Movement (broadcast, transpose, casts), values made of nothing (random numbers, counters,
constants) and cheap arithmetic on scalars always are, so masks never reach memory. Cheap
arithmetic on arguments is where it would be read through a broadcast or a permutation, which no
region can do with a stored value.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mlir import ir

from ..indexing import Dims, Index, is_plain, plain, window
from ..linalg.body import Body
from ..mlir import TORCH_DTYPES, TensorType
from .graph import Graph, Loop, Node, squeezed_dims

CHEAP_OPS = 8
_FREE = ("read", "arith.constant", "linalg.index", "arith.index_cast")
_CASTS = (
    "arith.extf",
    "arith.truncf",
    "arith.sitofp",
    "arith.uitofp",
    "arith.extsi",
    "arith.extui",
    "arith.trunci",
)
_MODERATE = (
    "math.sqrt",
    "math.rsqrt",
    "math.absf",
    "math.absi",
    "math.floor",
    "math.ceil",
    "math.roundeven",
)


def cost(loop: Loop) -> int | None:
    """Arithmetic ops an element, casts not counted; None when one is as dear as an exponential."""
    count = 0
    for position in loop.body.live([loop.value]):
        name = loop.body.ops[position].name
        if name.startswith("math.") and name not in _MODERATE:
            return None
        count += name not in _FREE and name not in _CASTS
    return count


def inline_producers(graph: Graph, updates: frozenset[int]) -> None:
    """Rewrites loops so that recomputed producers stand in their readers' bodies.

    Loops in `updates` (by result value) take scalars only: anything else would make them differ
    from one another.
    """
    users = graph.users()
    once = frozenset(value for value, readers in enumerate(users) if len(readers) == 1) - frozenset(
        graph.results
    )
    stored = frozenset(
        value
        for value, readers in enumerate(users)
        if value in graph.results or any(graph.nodes[user].loop is None for user in readers)
    )
    stored |= {table for node in graph.nodes if node.loop for table in node.loop.tables()}
    for node in graph.nodes:
        if node.loop:
            _expand(graph, node, updates, once, stored)
            graph.refresh(node)


def _expand(
    graph: Graph,
    node: Node,
    updates: frozenset[int],
    once: frozenset[int],
    stored: frozenset[int],
) -> None:
    loop = node.loop
    assert loop is not None
    body = Body()
    is_update = node.outputs[0] in updates

    def read(source: int, dims: Dims, dtype: str) -> int:
        source, dims = through_views(graph, source, dims)
        producer = graph.loop_of(source)
        if producer and (
            _recomputes(graph, producer, loop, dims, is_update, source in stored)
            or (source in once and not is_update and _permutes(producer, loop, dims))
        ):
            axes = squeezed_dims(graph.types[source].shape)
            local = tuple(dim for dim, axis in zip(dims, axes, strict=True) if axis is not None)
            # Of what is read in part, the parts of what that is made of are computed too; and so is
            # what an index is made of.
            further = None if is_plain(dims) and not loop.tables() else read
            return body.inline(producer.body, producer.value, local, further)
        return body.read(source, dims, dtype)

    loop.value = body.inline(loop.body, loop.value, tuple(range(len(loop.extents))), read)
    loop.body = body


def _permutes(producer: Loop, consumer: Loop, dims: Dims) -> bool:
    """Whether the consumer moves every element once: then its producer is computed as it moves."""
    kept = plain(dims)
    return (
        kept is not None
        and not producer.combiner
        and not consumer.combiner
        and kept != tuple(sorted(kept))
        and sorted(kept) == list(range(len(consumer.extents)))
    )


def _recomputes(
    graph: Graph, producer: Loop, consumer: Loop, dims: Dims, is_update: bool, stored: bool
) -> bool:
    if producer.combiner:
        return False
    price = cost(producer)
    wide = [source for source, inner in producer.reads() if any(dim is not None for dim in inner)]
    scalar = not producer.extents
    if scalar and not consumer.extents:
        return False  # scalars become one kernel, which computes nothing twice
    if is_update:
        return scalar and price is not None and price <= CHEAP_OPS and not producer.tables()
    if not wide:
        return not scalar or (price is not None and price <= CHEAP_OPS)
    if price == 0:
        return not _narrows(graph, producer, stored)
    if not is_plain(dims):
        return _price_from_memory(graph, producer) is not None
    if plain(dims) == tuple(range(len(consumer.extents))) or price is None or price > CHEAP_OPS:
        return False
    of_arguments = all(graph.loop_of(source) is None for source in wide)
    if consumer.tables():
        # An index is a small part of what it picks, so all of its arithmetic may stand there.
        of_arguments = _price_from_memory(graph, producer) is not None
    return of_arguments or (bool(consumer.combiner) and _reads_no_more(graph, producer, dims))


def _narrows(graph: Graph, producer: Loop, stored: bool) -> bool:
    """Whether reading the producer's value moves fewer bytes than reading what it is a cast of.

    What is an argument is in memory anyway, so its cast is worth storing only if somebody needs that.
    """
    ((source, _), *more) = producer.reads()
    if more or (graph.producer[source] is None and not stored):
        return False
    made = TORCH_DTYPES[producer.body.types[producer.value]]
    return made.itemsize < graph.types[source].torch_dtype.itemsize


def _price_from_memory(graph: Graph, loop: Loop) -> int | None:
    """Arithmetic ops an element of a loop takes from what no loop makes; None if they are not cheap."""
    price = cost(loop)
    if loop.combiner or price is None:
        return None
    for source, dims in loop.reads():
        maker = graph.loop_of(source)
        if maker is not None and any(dim is not None for dim in dims):
            more = _price_from_memory(graph, maker) if price <= CHEAP_OPS else None
            if more is None:
                return None
            price += more
    return price if price <= CHEAP_OPS else None


def _reads_no_more(graph: Graph, producer: Loop, dims: Dims) -> bool:
    """Whether a reduction that computes the producer itself loads no more memory than its value
    would be.

    So for the difference from a mean: it is read in another order than it is made, but so is the
    tensor that the mean is taken of, which is in memory anyway.
    """
    full = [source for source, inner in producer.reads() if _covers(inner, producer)]
    kept = plain(dims)
    if kept is None or len(set(kept)) != len(producer.extents) or len(full) != 1:
        return False
    return graph.loop_of(full[0]) is None or any(
        node.loop.combiner and dims in _read_at(node.loop, full[0])
        for node in graph.nodes
        if node.loop and full[0] in node.inputs
    )


def _read_at(loop: Loop, source: int) -> list[Dims]:
    return [dims for value, dims in loop.reads() if value == source]


def _covers(dims: Dims, loop: Loop) -> bool:
    return sum(dim is not None for dim in dims) == len(loop.extents)


def through_views(graph: Graph, source: int, dims: Dims) -> tuple[int, Dims]:
    """The same element read from before reshapes that only add or drop axes of extent 1, and from
    what a slice is cut of, if a loop makes that.
    """
    while True:
        producer = graph.producer[source]
        node = None if producer is None else graph.nodes[producer]
        if node is None or node.kind not in ("reshape", "view"):
            return source, dims
        (before,) = node.inputs
        moved = _unreshaped(graph, source, before, dims)
        if node.kind == "view":
            moved = _uncut(node, dims) if graph.loop_of(before) else None
        if moved is None:
            return source, dims
        source, dims = before, moved


def _unreshaped(graph: Graph, source: int, before: int, dims: Dims) -> Dims | None:
    kind, inner = graph.types[source], graph.types[before]
    if [n for n in kind.shape if n != 1] != [n for n in inner.shape if n != 1]:
        return None
    kept = iter(dim for dim, extent in zip(dims, kind.shape, strict=True) if extent != 1)
    return tuple(None if extent == 1 else next(kept) for extent in inner.shape)


def _uncut(node: Node, dims: Dims) -> Dims:
    """Indices into a slice as indices into what it is cut of; a view takes every element."""
    assert node.op is not None
    starts, sizes = (
        ir.DenseI64ArrayAttr(node.op.attributes[name])
        for name in ("static_offsets", "static_sizes")
    )
    shape, kept = (
        TensorType.of(value).shape for value in (node.op.operands[0], node.op.results[0])
    )
    cuts = zip(_with_dropped_axes(dims, kept, sizes), starts, sizes, shape, strict=True)
    return tuple(item if size == n else window(item, 1, at) for item, at, size, n in cuts)


def _with_dropped_axes(dims: Dims, kept: Sequence[int], sizes: Sequence[int]) -> Iterator[Index]:
    """An index for each axis of a slice of these sizes; the slice may drop axes of extent 1."""
    left = list(zip(dims, kept, strict=True))
    for size in sizes:
        yield left.pop(0)[0] if left and left[0][1] == size else None
