"""A module of stage "linalg" as a light graph: what fusion decides on, without touching MLIR.

Values and nodes are numbers. A loop's domain leaves out extents of 1: element [i, 0] of a column
and element [i] of a vector are the same to it, so reshapes that only add or drop such axes
disappear.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import add

from mlir import ir

from ..errors import RegionError
from ..indexing import Dims, map_dims, plain
from ..linalg.body import Body, read_block
from ..linalg.write import neutral
from ..lookups import tables_of
from ..mlir import TensorType, context, layer_of
from ..region import COMBINERS, iterators

RESHAPES = ("tensor.collapse_shape", "tensor.expand_shape")
_SILENT = ("tensor.empty", "linalg.fill", "arith.constant", "func.return")


@dataclass(eq=False)
class Loop:
    """What a linalg.generic computes.

    Attributes:
        extents: the domain, kept dims first, none of them 1.
        parallel: how many dims are kept; the others are folded by `combiner`.
        body, value: the scalar code; reads and lookups name values of the graph.
        op: the keras op it came from, for the kernel's name.
    """

    extents: tuple[int, ...]
    parallel: int
    body: Body
    value: int
    combiner: str
    op: str

    def reads(self) -> Sequence[tuple[int, Dims]]:
        return self.body.reads(self.value)

    def tables(self) -> Sequence[int]:
        """The values that elements are looked up in, at indices that the body computes."""
        return self.body.tables(self.value)


@dataclass(frozen=True)
class Piece:
    """A value that is a part of a joined one: where it begins there, and its extents there."""

    value: int
    starts: tuple[int, ...]
    sizes: tuple[int, ...]


@dataclass(eq=False)
class Node:
    """One op of the graph: a "loop", a "view", a "call" (template or extern) that stays as it is.

    A "reshape" is a view of all elements; `op` is then unused, since its types say everything. A
    "join" puts `pieces` together, over the value that comes before theirs in `inputs` if there is one.
    """

    kind: str
    op: ir.Operation | None
    inputs: list[int]
    outputs: list[int]
    location: str
    layer: str
    loop: Loop | None = None
    pieces: list[Piece] = field(default_factory=list)

    @property
    def call(self) -> str:
        """The name of a "call" without its dialect ("matmul"), "" for other nodes."""
        return self.op.name.removeprefix("keras.") if self.op and self.kind == "call" else ""


@dataclass(eq=False)
class Graph:
    """The body of a function, nodes in program order.

    Attributes:
        types: of each value; the first are the arguments.
        producer: for each value the node that makes it, None for an argument.
        results: the values returned.
        donated: results that are new values of arguments.
    """

    function: ir.OpView
    types: list[TensorType] = field(default_factory=list)
    producer: list[int | None] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    results: list[int] = field(default_factory=list)
    donated: frozenset[int] = frozenset()

    def add_value(self, kind: TensorType, producer: int | None) -> int:
        self.types.append(kind)
        self.producer.append(producer)
        return len(self.types) - 1

    def users(self) -> list[list[int]]:
        """For each value the nodes that read it, in order."""
        users: list[list[int]] = [[] for _ in self.types]
        for number, node in enumerate(self.nodes):
            for value in dict.fromkeys(node.inputs):
                users[value].append(number)
        return users

    def makers(self, node: Node) -> set[int]:
        """The nodes that make its inputs; an argument has none."""
        producers = (self.producer[value] for value in node.inputs)
        return {number for number in producers if number is not None}

    def loop_of(self, value: int) -> Loop | None:
        """The loop that makes `value`, if one does."""
        producer = self.producer[value]
        return None if producer is None else self.nodes[producer].loop

    def refresh(self, node: Node) -> None:
        """Sets a loop's inputs from its body."""
        assert node.loop is not None
        reads = [source for source, _ in node.loop.reads()]
        node.inputs = list(dict.fromkeys([*reads, *node.loop.tables()]))

    def drop_dead(self) -> None:
        """Removes nodes that no result needs."""
        needed = set(self.results)
        kept = []
        for node in reversed(self.nodes):
            if needed.intersection(node.outputs):
                needed.update(node.inputs)
                kept.append(node)
        self.nodes = kept[::-1]
        for number, node in enumerate(self.nodes):
            for value in node.outputs:
                self.producer[value] = number


def squeezed(kind: TensorType) -> TensorType:
    """The type without its axes of extent 1."""
    return kind.with_shape([extent for extent in kind.shape if extent != 1])


def squeezed_dims(shape: Sequence[int]) -> tuple[int | None, ...]:
    """For each axis its place among the axes that are not 1 (None for those that are)."""
    dims: list[int | None] = []
    count = 0
    for extent in shape:
        dims.append(None if extent == 1 else count)
        count += extent != 1
    return tuple(dims)


def read_graph(function: ir.OpView, donated: Mapping[int, int]) -> Graph:
    """The graph of a function, of whose arguments some are donated to results.

    Raises:
        RegionError: an op or a form of linalg.generic that no kernel can hold.
    """
    reader = _Reader(Graph(function))
    with context():
        reader.read(function.regions[0].blocks[0])
    results = reader.graph.results
    reader.graph.donated = frozenset(results[k] for k in donated.values())
    return reader.graph


class _Reader:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.values: dict[ir.Value, int] = {}
        # Chains of insert_slice so far: what is there first, and the pieces.
        self.open: dict[ir.Value, tuple[list[int], list[Piece]]] = {}

    def read(self, block: ir.Block) -> None:
        graph = self.graph
        for argument in block.arguments:
            self.values[argument] = graph.add_value(TensorType.of(argument), None)
        for view in block.operations:
            op = view.operation
            if op.name == "func.return":
                graph.results = [self._number(value) for value in op.operands]
            elif op.name == "linalg.generic":
                self._add(op, "loop", self._loop(view))
            elif op.name in RESHAPES:
                self._add(op, "reshape")
            elif op.name == "tensor.extract_slice":
                self._add(op, "view")
            elif op.name == "tensor.insert_slice":
                self._insert(op)
            elif op.name.startswith("keras.") or op.name == "func.call":
                self._add(op, "call")
            elif op.name not in _SILENT:
                where = layer_of(op) or "?"
                raise RegionError(f"{op.name} cannot stand in stage linalg (layer {where})")

    def _add(self, op: ir.Operation, kind: str, loop: Loop | None = None) -> None:
        graph = self.graph
        inputs = [] if loop else [self._number(value) for value in op.operands]
        number, outputs = len(graph.nodes), []
        for result in op.results:
            self.values[result] = graph.add_value(TensorType.of(result), number)
            outputs.append(self.values[result])
        node = Node(kind, op, inputs, outputs, str(op.location), layer_of(op), loop)
        graph.nodes.append(node)
        if loop:
            graph.refresh(node)
            copied = _copied(graph, loop)
            if copied is not None:
                node.kind, node.loop, node.inputs = "reshape", None, [copied]

    def _number(self, value: ir.Value) -> int:
        """The graph's value; a chain of pieces becomes a node when its end is first read."""
        if value not in self.values and value in self.open:
            base, pieces = self.open[value]
            op, made = (
                value.owner,
                self.graph.add_value(TensorType.of(value), len(self.graph.nodes)),
            )
            inputs = [*base, *(piece.value for piece in pieces)]
            node = Node("join", op, inputs, [made], str(op.location), layer_of(op), None, pieces)
            self.graph.nodes.append(node)
            self.values[value] = made
        return self.values[value]

    def _insert(self, op: ir.Operation) -> None:
        source, around = op.operands
        starts, sizes, strides = (
            tuple(ir.DenseI64ArrayAttr(op.attributes[f"static_{name}"]))
            for name in ("offsets", "sizes", "strides")
        )
        if set(strides) - {1}:
            raise RegionError(f"a tensor.insert_slice with strides {list(strides)}")
        base, pieces = self._chain(around)
        if source in self.open and not self.open[source][0]:
            # What is put together only to be put into this is put into this at once.
            inner = [
                replace(piece, starts=tuple(map(add, starts, piece.starts)))
                for piece in self.open[source][1]
            ]
        else:
            inner = [Piece(self._number(source), starts, sizes)]
        self.open[op.results[0]] = base, [*pieces, *inner]

    def _chain(self, around: ir.Value) -> tuple[list[int], list[Piece]]:
        if around in self.open:
            return self.open[around]
        made = around.owner
        empty = not isinstance(made, ir.Block) and made.name == "tensor.empty"
        return ([] if empty else [self._number(around)]), []

    def _loop(self, view: ir.OpView) -> Loop:
        op = view.operation
        where = f"linalg.generic in layer {layer_of(op) or '?'}"
        if len(op.results) != 1:
            raise RegionError(f"{where} has {len(op.results)} results; a stage computes one")
        maps = [map_dims(attribute) for attribute in op.attributes["indexing_maps"]]
        kinds = iterators(view)
        result = TensorType.of(op.results[0])
        if (
            kinds != sorted(kinds)
            or maps[-1] != tuple(range(result.rank))
            or kinds.count("parallel") != result.rank
        ):
            raise RegionError(
                f"{where} must keep dims first, fold the others and write at identity"
            )
        operands = list(op.operands)
        sources = [
            (self._number(value), dims) for value, dims in zip(operands[:-1], maps, strict=False)
        ]
        extents = [1] * len(kinds)
        for value, dims in [*sources, (None, maps[-1])]:
            kind = result if value is None else self.graph.types[value]
            for dim, extent in zip(dims, kind.shape, strict=True):
                if isinstance(dim, int):
                    extents[dim] = extent
        block = op.regions[0].blocks[0]
        tables = {table: self._number(table) for table in tables_of(block)}
        body, numbers = read_block(block, sources, tables)
        value, combiner = _yielded(op, body, numbers, "reduction" in kinds, where)
        if combiner and not _starts_neutral(operands[-1], combiner, result.dtype):
            raise RegionError(
                f"{where} folds with {combiner} from another start than its neutral element"
            )
        squeezing = squeezed_dims(extents)
        small = Body()
        shapes = self.graph.types

        def read(source: int, dims: Dims, dtype: str) -> int:
            if source == "result":
                raise RegionError(f"{where} reads the old value of its result")
            kept = tuple(
                None if n == 1 else d for d, n in zip(dims, shapes[source].shape, strict=True)
            )
            return small.read(source, kept, dtype)

        made = small.inline(body, value, squeezing, read)
        kept = tuple(extent for extent in extents if extent != 1)
        parallel = sum(extent != 1 for extent in result.shape)
        combiner = combiner if parallel < len(kept) else ""
        return Loop(kept, parallel, small, made, combiner, _keras_op(op))


def _keras_op(op: ir.Operation) -> str:
    attributes = op.attributes
    return ir.StringAttr(attributes["keras.op"]).value if "keras.op" in attributes else "loop"


def _copied(graph: Graph, loop: Loop) -> int | None:
    """The value that a loop only reshapes, if it does just that."""
    read = loop.body.op_of(loop.value)
    if read.name != "read" or loop.combiner:
        return None
    source, dims = read.attributes
    identity = plain(dims) == tuple(range(len(loop.extents)))
    return source if identity and squeezed(graph.types[source]).shape == loop.extents else None


def _yielded(
    op: ir.Operation, body: Body, numbers: dict[ir.Value, int], folds: bool, where: str
) -> tuple[int, str]:
    """What a block computes for one point, and the combiner that folds it."""
    block = op.regions[0].blocks[0]
    value = list(block.operations)[-1].operands[0]
    if not folds:
        return numbers[value], ""
    accumulator = list(block.arguments)[-1]
    fold = value.owner
    if (
        isinstance(fold, ir.Block)
        or fold.name not in COMBINERS
        or accumulator not in list(fold.operands)
    ):
        raise RegionError(f"{where} ends in none of {', '.join(COMBINERS)} on its accumulator")
    left, right = fold.operands
    return numbers[right if left == accumulator else left], fold.name


def _starts_neutral(init: ir.Value, combiner: str, dtype: str) -> bool:
    fill = init.owner
    if isinstance(fill, ir.Block) or fill.name != "linalg.fill":
        return False
    constant = fill.operands[0].owner
    return (
        not isinstance(constant, ir.Block)
        and constant.name == "arith.constant"
        and constant.attributes["value"] == ir.Attribute.parse(neutral(combiner, dtype))
    )
