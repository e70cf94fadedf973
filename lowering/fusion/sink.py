"""Moves reshapes behind the loops that read them, so that those fuse with what is reshaped.

A dense layer on [batch, time, width] is a product of [batch * time, width], reshaped; the bias and
the activation that follow can run on the product's own shape, and the reshape comes after them.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..indexing import Dims, plain
from ..linalg.body import Body
from ..linalg.write import refinement
from .graph import Graph, Loop, Node, squeezed, squeezed_dims
from .grouping import EPILOGUES


def sink_reshapes(graph: Graph, keep: frozenset[int]) -> None:
    """Rewrites loops to run over the shape that their input had before a reshape.

    Args:
        graph: changed in place.
        keep: results of loops that stay as they are.
    """
    _Sinker(graph).run(keep)


@dataclass(frozen=True)
class _Change:
    """The old extents' dims and the new extents' dims, group by group of equal size."""

    extents: tuple[int, ...]
    old: list[list[int]]
    new: list[list[int]]


class _Sinker:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.nodes: list[Node] = []
        self.maker: dict[int, Node] = {}
        self.reshaped: dict[tuple[int, tuple[int, ...]], int] = {}

    def run(self, keep: frozenset[int]) -> None:
        for node in self.graph.nodes:
            change = None
            if node.loop and node.outputs[0] not in keep:
                change = self._wanted(node.loop)
            if change is None:
                self._append(node)
            else:
                self._rewrite(node, change)
        self.graph.nodes = self.nodes
        self.graph.drop_dead()

    def _append(self, node: Node) -> None:
        self.nodes.append(node)
        self.maker.update(dict.fromkeys(node.outputs, node))

    def _origin(self, value: int) -> int:
        """What a value was before all reshapes."""
        while value in self.maker and self.maker[value].kind == "reshape":
            (value,) = self.maker[value].inputs
        return value

    def _wanted(self, loop: Loop) -> _Change | None:
        """The change of domain that lets the loop read some input from before its reshape."""
        whole = tuple(range(len(loop.extents)))
        if any(op.name == "linalg.index" for op in loop.body.ops):
            return None
        if not all(self._reads_whole_axes(*read) for read in loop.reads()):
            return None
        for source, dims in loop.reads():
            origin = self._origin(source)
            shape = squeezed(self.graph.types[origin]).shape
            if plain(dims) != whole or shape == loop.extents or not self._is_worth(origin):
                continue
            _, old, new = refinement(loop.extents, shape)
            change = _Change(shape, old, new)
            if self._keeps_sides(loop, change) and all(
                self._fits(d, change) for _, d in loop.reads()
            ):
                return change
        return None

    def _reads_whole_axes(self, source: int, dims: Dims) -> bool:
        """Whether each axis is indexed by a dim, but for those of extent 1."""
        shape = self.graph.types[source].shape
        return all(
            extent == 1 if item is None else isinstance(item, int)
            for extent, item in zip(shape, dims, strict=True)
        )

    def _is_worth(self, origin: int) -> bool:
        """Whether the loop could become one kernel with what makes `origin`."""
        maker = self.maker.get(origin)
        return maker is not None and (maker.loop is not None or maker.call in EPILOGUES)

    @staticmethod
    def _keeps_sides(loop: Loop, change: _Change) -> bool:
        """No group holds both kept and folded dims."""
        return all(
            len({dim < loop.parallel for dim in group}) == 1 for group in change.old if group
        )

    @staticmethod
    def _fits(dims: Dims, change: _Change) -> bool:
        """Whether a read uses each changed group as a whole, its dims side by side, or not at
        all.
        """
        own = [dim for dim in dims if isinstance(dim, int)]
        for old, new in zip(change.old, change.new, strict=True):
            if len(old) == len(new) == 1 or not set(old) & set(own):
                continue
            if old[0] not in own or own.count(old[0]) != 1:
                return False
            start = own.index(old[0])
            if own[start : start + len(old)] != old:
                return False
        return True

    def _rewrite(self, node: Node, change: _Change) -> None:
        loop, graph = node.loop, self.graph
        assert loop is not None
        body = Body()

        def read(source: int, dims: Dims, dtype: str) -> int:
            return body.read(*self._moved(source, dims, change, node), dtype)

        # The dims are renamed by `read`, so the code itself is taken over as it is.
        value = body.inline(loop.body, loop.value, tuple(range(len(loop.extents))), read)
        kept = [group for group in change.old if group and group[0] < loop.parallel]
        parallel = sum(len(group) for group in change.new[: len(kept)])
        (result,) = node.outputs
        kind = graph.types[result].with_shape(change.extents[:parallel])
        made = graph.add_value(kind, None)
        moved = Loop(change.extents, parallel, body, value, loop.combiner, loop.op)
        rewritten = Node("loop", node.op, [], [made], node.location, node.layer, moved)
        graph.refresh(rewritten)
        self._append(rewritten)
        self._append(Node("reshape", None, [made], [result], node.location, node.layer))

    def _moved(self, source: int, dims: Dims, change: _Change, node: Node) -> tuple[int, Dims]:
        """The read in the new domain: of the source with the changed axes reshaped."""
        own = [dim for dim in dims if isinstance(dim, int)]
        extents = dict(zip(own, squeezed(self.graph.types[source]).shape, strict=True))
        shape: list[int] = []
        moved: list[int] = []
        group_of = {dim: i for i, group in enumerate(change.old) for dim in group}
        for dim in own:
            old, new = change.old[group_of[dim]], change.new[group_of[dim]]
            if len(old) == len(new) == 1:
                shape.append(extents[dim])
                moved.append(new[0])
            elif dim == old[0]:
                shape += [change.extents[d] for d in new]
                moved += new
        origin = self._origin(source)
        kind = self.graph.types[origin]
        if squeezed(kind).shape != tuple(shape):
            origin = self._reshape(source, tuple(shape), node)
            kind = self.graph.types[origin]
        places = squeezed_dims(kind.shape)
        return origin, tuple(None if place is None else moved[place] for place in places)

    def _reshape(self, source: int, shape: tuple[int, ...], node: Node) -> int:
        key = (self._origin(source), shape)
        if key not in self.reshaped:
            made = self.graph.add_value(self.graph.types[source].with_shape(shape), None)
            self._append(Node("reshape", None, [key[0]], [made], node.location, node.layer))
            self.reshaped[key] = made
        return self.reshaped[key]
