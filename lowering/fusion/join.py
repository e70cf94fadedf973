"""Tensors made of pieces: each kernel that makes a piece stores it where it belongs.

A join is what a chain of `tensor.insert_slice` builds: of an uninitialized tensor whose pieces cover it
(concatenation), or of one that a loop fills first (padding). Pieces never overlap, so the kernels that
make them may come in any order. A piece that no loop makes, or one that reduces, is copied by a loop of
its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from ..linalg.body import Body
from .graph import Graph, Loop, Node, squeezed, squeezed_dims
from .group import Group
from .grouping import Grouping


@dataclass(frozen=True)
class Window:
    """Where a kernel stores a value of its own.

    Attributes:
        value: the piece.
        whole: the joined value.
        starts, sizes: of the piece in it.
    """

    value: int
    whole: int
    starts: tuple[int, ...]
    sizes: tuple[int, ...]


def resolve_pieces(graph: Graph) -> None:
    """Takes pieces from before reshapes that only add or drop axes of extent 1."""
    for node in graph.nodes:
        node.pieces = [replace(piece, value=_origin(graph, piece.value)) for piece in node.pieces]
        if node.kind == "join":
            node.inputs = [*node.inputs[: len(node.inputs) - len(node.pieces)]]
            node.inputs += [piece.value for piece in node.pieces]


def _origin(graph: Graph, value: int) -> int:
    while True:
        producer = graph.producer[value]
        node = None if producer is None else graph.nodes[producer]
        if node is None or node.kind != "reshape":
            return value
        (before,) = node.inputs
        if squeezed(graph.types[before]) != squeezed(graph.types[value]):
            return value
        value = before


class Joins:
    """The joins of a grouping: which kernel stores which piece where.

    Attributes:
        base: joined value -> the value that is there first, or None if the pieces cover it.
    """

    def __init__(self, grouping: Grouping) -> None:
        self.grouping, self.graph = grouping, grouping.graph
        self.base: dict[int, int | None] = {}
        self._windows: dict[int, list[Window]] = {}
        for node in list(self.graph.nodes):
            if node.kind == "join":
                self._absorb(node)
        grouping.users = self.graph.users()

    def windows(self, group: Group) -> list[Window]:
        """What a group's kernel stores into joined values."""
        return [window for number in group.nodes for window in self._windows.get(number, ())]

    def stores(self, group: Group, value: int, user: int) -> bool:
        """Whether node `user` is a join into which the group's kernel stores the value itself."""
        (whole, *_) = self.graph.nodes[user].outputs
        return any((w.value, w.whole) == (value, whole) for w in self.windows(group))

    def filled_before(self, group: Group) -> Iterator[int]:
        """The nodes that fill what the group's kernel stores pieces into."""
        for window in self.windows(group):
            base = self.base[window.whole]
            if base is not None:
                producer = self.graph.producer[base]
                assert producer is not None
                yield producer

    def _absorb(self, node: Node) -> None:
        (whole,) = node.outputs
        first = node.inputs[: len(node.inputs) - len(node.pieces)]
        self.base[whole] = self._owned(first[0], node) if first else None
        copies: list[int] = []
        pieces = []
        for piece in node.pieces:
            number = self._maker(piece.value)
            if number is None:
                number = self._copy(piece.value, node)
                copies.append(number)
                piece = replace(piece, value=self.graph.nodes[number].outputs[0])
            pieces.append(piece)
            self._windows.setdefault(number, []).append(
                Window(piece.value, whole, piece.starts, piece.sizes)
            )
        node.pieces = pieces
        bases = [base for base in (self.base[whole],) if base is not None]
        node.inputs = [*bases, *(piece.value for piece in pieces)]
        if len(copies) > 1:
            self.grouping.users = self.graph.users()
            self._merge(copies)

    def _maker(self, value: int) -> int | None:
        """The loop that can store a piece as it makes it."""
        number = self.graph.producer[value]
        if number is None or self.graph.nodes[number].loop is None:
            return None
        group = self.grouping.of[number]
        fits = group.template is None and not group.reduction and not group.is_update
        return number if fits else None

    def _owned(self, base: int, node: Node) -> int:
        """The base itself if a loop fills it for this join alone, else a copy of it."""
        loop, users = self.graph.loop_of(base), self.graph.users()[base]
        alone = users == [self.graph.producer[node.outputs[0]]]
        if loop is not None and not loop.reads() and alone and base not in self.graph.results:
            return base
        (copied,) = self.graph.nodes[self._copy(base, node)].outputs
        return copied

    def _copy(self, value: int, node: Node) -> int:
        """A loop that copies a value; its node."""
        kind = self.graph.types[value]
        extents, body = squeezed(kind).shape, Body()
        read = body.read(value, squeezed_dims(kind.shape), kind.dtype)
        number = len(self.graph.nodes)
        made = self.graph.add_value(kind, number)
        loop = Loop(extents, len(extents), body, read, "", "copy")
        copy = Node("loop", None, [value], [made], node.location, node.layer, loop)
        self.graph.nodes.append(copy)
        self.grouping.add(copy)
        return number

    def _merge(self, copies: list[int]) -> None:
        """One kernel for copies over the same domain."""
        for i, first in enumerate(copies):
            for second in copies[i + 1 :]:
                a, b = self.grouping.of[first], self.grouping.of[second]
                if a is not b and a.parallel == b.parallel:
                    self.grouping.try_merge(a, b)
