"""Writes a group of nodes as a kernel function, in the fewest stages the contract allows."""

from __future__ import annotations

from dataclasses import dataclass

from ..indexing import Dims
from ..linalg.body import Body
from ..linalg.write import Named, Writer, attribute_text, string_list
from ..mlir import TensorType
from ..templates import columns_first
from .graph import Graph, Node, squeezed_dims
from .group import Group
from .grouping import Grouping
from .inline import cost
from .join import Joins
from .order import ordered


@dataclass(frozen=True)
class Kernel:
    """A written kernel function.

    Attributes:
        name, text: of the function.
        arguments, results: values of the graph that a call passes and gets; a joined value is both.
        types: the function's result types (without axes of extent 1, unlike the graph's values).
        group: what it was made of.
    """

    name: str
    text: str
    arguments: tuple[int, ...]
    results: tuple[int, ...]
    types: tuple[TensorType, ...]
    group: Group


def write_kernel(
    grouping: Grouping, joins: Joins, group: Group, name: str, reasons: list[str]
) -> Kernel:
    """The function of `group`, named `name`, with the reasons why it ends where it does."""
    return _KernelWriter(grouping, joins, group).write(name, reasons)


class _KernelWriter:
    def __init__(self, grouping: Grouping, joins: Joins, group: Group) -> None:
        self.grouping, self.joins, self.group = grouping, joins, group
        self.graph: Graph = grouping.graph
        self.writer = Writer()
        self.arguments: dict[int, str] = {}
        self.made: dict[int, Named] = {}
        self.results: list[int] = []
        self.roots = self._roots()

    def write(self, name: str, reasons: list[str]) -> Kernel:
        for number in self._order():
            node = self.graph.nodes[number]
            if node.loop is None:
                self._template(node)
            elif number in self.group.before:
                if self.group.template in self.grouping.users[node.outputs[0]]:
                    self._operand(node)
            elif number in self.roots:
                self._stage(number, node)
            if self.grouping.escapes(number, self.group.mask):
                self.results += [value for value in node.outputs if self._leaves(value)]
        self._insert_pieces()
        named = [self.made[value] for value in self.results]
        self.writer.op("func.return", named, [], "", "")
        types = tuple(kind for _, kind in named)
        parameters = ", ".join(
            f"{text}: {self.graph.types[value]}" for value, text in self.arguments.items()
        )
        header = (
            f"func.func private @{name}({parameters}) -> ({', '.join(map(str, types))}) "
            f"attributes {{{', '.join(self._attributes(reasons))}}} {{"
        )
        text = "\n".join([header, *self.writer.lines, "}"])
        return Kernel(name, text, tuple(self.arguments), tuple(self.results), types, self.group)

    def _order(self) -> list[int]:
        """The template first; new values of donated arguments last, so that they can take the
        place of the old ones that other stages read.
        """
        graph = self.graph

        def rank(number: int) -> tuple[bool, bool, int]:
            node = graph.nodes[number]
            return node.loop is not None, node.outputs[0] in graph.donated, number

        def needs(number: int) -> list[int]:
            makers = [graph.producer[value] for value in graph.nodes[number].inputs]
            return [m for m in makers if m is not None and self.group.mask >> m & 1]

        return ordered(sorted(self.group.nodes, key=rank), needs)

    def _leaves(self, value: int) -> bool:
        users = self.grouping.users[value]
        return value in self.grouping.returned or any(
            not self.group.mask >> user & 1 and not self.joins.stores(self.group, value, user)
            for user in users
        )

    def _insert_pieces(self) -> None:
        """Stores pieces of joined values: each of those is an argument, and a result."""
        for window in self.joins.windows(self.group):
            if window.whole not in self.results:
                self.results.append(window.whole)
            (name, kind), (around, whole) = self.made[window.value], self._named(window.whole)
            made = self.writer.fresh()
            self.writer.line(
                f"{made} = tensor.insert_slice {name} into {around}{list(window.starts)} "
                f"{list(window.sizes)} {[1] * whole.rank} : {kind} into {whole}"
            )
            self.made[window.whole] = made, whole

    def _attributes(self, reasons: list[str]) -> list[str]:
        nodes = [self.graph.nodes[number] for number in self.group.nodes]
        layers = list(dict.fromkeys(node.layer for node in nodes if node.layer))
        calls = [node.call for node in nodes if node.loop is None]
        attributes = [
            f'keras.kernel = "{calls[0] if calls else "loop"}"',
            f"keras.layers = {string_list(layers)}",
        ]
        return [*attributes, f"keras.reason = {string_list(reasons)}"] if reasons else attributes

    def _roots(self) -> set[int]:
        """Loops that are stages; each other one stands in the body of the stage that reads it."""
        roots: set[int] = set()
        stages: dict[int, set[int]] = {}
        for number in reversed(self.group.nodes):
            loop = self.graph.nodes[number].loop
            if loop is None:
                continue
            if number in self.group.before:
                roots.add(number)
                continue
            readers = self.grouping.users[self.graph.nodes[number].outputs[0]]
            inside = [user for user in readers if self.group.mask >> user & 1]
            found = set().union(*(stages[user] for user in inside)) if inside else set()
            alone = len(found) == 1 or (found and cost(loop) == 0 and self._reads_arguments(number))
            inner = (
                alone
                and not loop.combiner
                and all(self._depth(number) == self._depth(s) for s in found)
            )
            if inner and not self.grouping.escapes(number, self.group.mask):
                stages[number] = found
            else:
                roots.add(number)
                stages[number] = {number}
        return roots

    def _depth(self, number: int) -> int:
        """How many of the group's dims the loop runs over."""
        return len(self.group.places[number])

    def _reads_arguments(self, number: int) -> bool:
        makers = self.graph.makers(self.graph.nodes[number])
        return not any(self.group.mask >> maker & 1 for maker in makers)

    def _named(self, value: int) -> Named:
        """The SSA name of a value made inside, else of the argument that it becomes."""
        if value in self.made:
            return self.made[value]
        if value not in self.arguments:
            self.arguments[value] = f"%a{len(self.arguments)}"
        return self.arguments[value], self.graph.types[value]

    def _template(self, node: Node) -> None:
        assert node.op is not None
        operands = [self._named(value) for value in node.inputs]
        types = [self.graph.types[value] for value in node.outputs]
        names = self.writer.op(
            node.op.name, operands, types, attribute_text(node.op), node.location
        )
        for value, name, kind in zip(node.outputs, names, types, strict=True):
            self.made[value] = (name, kind)

    def _operand(self, node: Node) -> None:
        """What makes an operand of the template, in one stage."""
        loop, (result,) = node.loop, node.outputs
        assert loop is not None
        kind, body = self.graph.types[result], Body()
        axes = tuple(axis for axis, dim in enumerate(squeezed_dims(kind.shape)) if dim is not None)

        def read(source: int, dims: Dims, dtype: str) -> int:
            maker = self.graph.producer[source]
            inner = self.graph.nodes[maker].loop if maker in self.group.before else None
            if inner is None:
                return body.read(source, dims, dtype)
            return body.inline(inner.body, inner.value, axes, read)

        value = body.inline(loop.body, loop.value, axes, read)
        name = self.writer.generic(
            body, value, kind, kind.shape, self._source, location=node.location, op=loop.op
        )
        self.made[result] = (name, kind)

    def _stage(self, number: int, node: Node) -> None:
        loop = node.loop
        assert loop is not None
        body = Body()
        dims = self._dims(number)
        value = self._code(body, number, dims)
        (result,) = node.outputs
        extents = tuple(self.group.domain[axis] for axis in dims)
        kind, axes = self._stage_type(result, extents, loop.combiner), self._axes(number)
        if axes:
            kind = kind.with_shape(loop.extents)
        if loop.combiner and not self._covers(body, value, len(extents)):
            whole = TensorType(extents, body.types[value])
            name = self.writer.generic(
                body, value, whole, extents, self._source, location=node.location, op=loop.op
            )
            body = Body()
            value = body.read((name, whole), tuple(range(len(extents))), whole.dtype)
        name = self.writer.generic(
            body,
            value,
            kind,
            extents,
            self._source,
            combiner=loop.combiner,
            axes=axes,
            location=node.location,
            op=loop.op,
        )
        self.made[result] = (name, kind)

    def _stage_type(self, value: int, extents: tuple[int, ...], combiner: str) -> TensorType:
        kind = self.graph.types[value]
        if not combiner:
            return kind.with_shape(extents)
        return kind.with_shape(extents[:1] if self._behind else self.group.parallel)

    def _axes(self, number: int) -> tuple[int, ...]:
        """The dims of a stage's result where it is stored in another order than a reduction goes."""
        loop, places = self.graph.nodes[number].loop, self.group.places[number]
        assert loop is not None
        if self._behind or loop.combiner or places == tuple(range(len(places))):
            return ()
        return places if self.grouping.escapes(number, self.group.mask) else ()

    @property
    def _behind(self) -> bool:
        """Whether the stages stand behind a template."""
        return self.group.template is not None

    def _dims(self, number: int) -> tuple[int, ...]:
        """The dims of the group that the stage of a loop runs over, in its order.

        Behind a template those are all axes of the result, which loops over its columns alone may
        leave out but for the last, and sums have in the order of `columns_first`.
        """
        whole = tuple(range(len(self.group.domain)))
        if not self._behind:
            return whole[: self._depth(number)]
        loop = self.graph.nodes[number].loop
        assert loop is not None
        if loop.combiner:
            return columns_first(whole)
        wide = sum(extent != 1 for extent in self.group.domain)
        return whole if self._depth(number) == wide else whole[-1:]

    def _source(self, source: int | Named) -> Named:
        return source if isinstance(source, tuple) else self._named(source)

    @staticmethod
    def _covers(body: Body, value: int, rank: int) -> bool:
        """Whether the reads tell linalg how far every dim goes."""
        found = {dim for _, dims in body.reads(value) for dim in dims}
        return found.issuperset(range(rank))

    def _code(self, body: Body, number: int, order: tuple[int, ...]) -> int:
        """The code of a loop, with the loops that are no stages inlined; `order` lists the group's
        dims that the stage runs over.
        """
        loop = self.graph.nodes[number].loop
        assert loop is not None

        def read(source: int, dims: Dims, dtype: str) -> int:
            maker = self.graph.producer[source]
            if maker is None or not self.group.mask >> maker & 1:
                return body.read(source, dims, dtype)
            if maker in self.roots or self.graph.nodes[maker].loop is None:
                return body.read(source, self._inside(maker, dims, order), dtype)
            return self._code(body, maker, order)

        places = tuple(order.index(dim) for dim in self.group.places[number])
        return body.inline(loop.body, loop.value, places, read)

    def _inside(self, maker: int, dims: Dims, order: tuple[int, ...]) -> Dims:
        """Where a value made inside is read by a stage over `order`: where it is made."""
        if not self._behind:
            # Its dims stand in the group's order, whatever the order of the value outside.
            return self._axes(maker) or tuple(range(len(dims) - dims.count(None)))
        if maker == self.group.template:
            made = tuple(range(len(self.group.domain)))
        else:
            loop = self.graph.nodes[maker].loop
            assert loop is not None
            made = self._dims(maker)[:1] if loop.combiner else self._dims(maker)
        return tuple(order.index(dim) for dim in made)
