"""fuse-regions: `linalg.generic`s become kernel functions; `@main` and the bodies of loops only call
them and reshape.

Producers that are cheaper to compute again than to store are inlined; then loops that share a
domain are merged (grouping.py) and each group is written with the fewest stages (kernel_text.py).
Every edge between two kernels that did not become one carries its reason as `keras.reason` on the
reader.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

from mlir import ir

from keras_triton.kernels import spec

from ..errors import RegionError
from ..fusion.graph import Graph, Node, read_graph
from ..fusion.group import Group, Limits
from ..fusion.grouping import Grouping
from ..fusion.inline import inline_producers
from ..fusion.join import Joins, resolve_pieces
from ..fusion.kernel_text import Kernel, write_kernel
from ..fusion.merging import edges, group_all
from ..fusion.order import ordered
from ..fusion.prologue import keep_operands
from ..fusion.rematerialize import rematerialize
from ..fusion.updates import update_values
from ..linalg.write import Named, Writer, attribute_text, header_text, op_text, reshape
from ..loops import code, donations
from ..mlir import functions, parse
from .base import Pass, PassError

_PLAIN = ("cast", "broadcast_to", "broadcast_in_dim", "transpose", "full", "loop")
_NAME_PARTS = 4
# Nodes that compute nothing.
_VIEWS = ("view", "reshape", "join")


@dataclass(frozen=True)
class FuseRegions(Pass):
    """Options: `epilogues`, whether loops before and behind a product or convolution join its kernel;
    `max_row`, the longest row (elements) that a region may read again after reducing it.
    """

    name: ClassVar[str] = "fuse-regions"
    takes: ClassVar[str] = "linalg"
    gives: ClassVar[str] = "regions"

    epilogues: bool = True
    max_row: int = 65536

    def run(self, module: ir.Module) -> ir.Module:
        self.check_stage(module)
        known = functions(module)
        donated = donations(known)
        declarations = [op_text(f) for f in known.values() if not f.regions[0].blocks]
        kernels: list[str] = []
        callers: list[str] = []
        for name, function in code(module).items():
            try:
                fused = self._fuse(read_graph(function, donated[name]), name, len(kernels))
            except RegionError as error:
                raise PassError(f"{self.name}: {error}") from None
            kernels += fused[0]
            callers.append(fused[1])
        lines = [
            'module attributes {keras.stage = "regions"} {',
            *declarations,
            *kernels,
            *callers,
            "}",
        ]
        return parse("\n".join(lines))

    def _fuse(self, graph: Graph, name: str, count: int) -> tuple[list[str], str]:
        """The kernels of a function, numbered from `count`, and the function that calls them."""
        graph.drop_dead()
        # A loop's carries are parameters only if an optimizer updates them.
        updates = update_values(graph, by_optimizer=name != "main")
        inline_producers(graph, updates)
        resolve_pieces(graph)
        graph.drop_dead()
        limits = Limits(self.max_row, self.epilogues, self.epilogues)
        grouping = Grouping(graph, updates, limits)
        group_all(grouping)
        rematerialize(grouping)
        keep_operands(grouping)
        joins = Joins(grouping)
        order = _ordered(grouping, joins)
        names = _names(graph, order, count)
        reasons = _Reasons(grouping, names)
        kernels = {
            id(group): write_kernel(grouping, joins, group, names[id(group)], reasons.of(group))
            for group in order
            if id(group) in names
        }
        return [kernel.text for kernel in kernels.values()], _caller(graph, joins, order, kernels)


def _ordered(grouping: Grouping, joins: Joins) -> list[Group]:
    """The groups so that each stands after what it needs, else in program order."""
    groups = grouping.groups()
    number = {id(group): i for i, group in enumerate(groups)}

    def needs(i: int) -> list[int]:
        makers = [maker for node in groups[i].nodes for maker in edges(grouping, node)]
        makers += joins.filled_before(groups[i])
        return [number[id(grouping.of[maker])] for maker in makers]

    return [groups[i] for i in ordered(range(len(groups)), needs)]


def _names(graph: Graph, order: list[Group], count: int) -> dict[int, str]:
    """A readable name for every group that becomes a function: layer, ops, and a number from `count`
    on.
    """
    names: dict[int, str] = {}
    for group in order:
        nodes = [graph.nodes[number] for number in group.nodes]
        if nodes[0].kind in _VIEWS or nodes[0].call == "func.call":
            continue
        ops = list(dict.fromkeys(node.loop.op if node.loop else node.call for node in nodes))
        telling = [op for op in ops if op not in _PLAIN] or ops[:1]
        layer = next((node.layer for node in reversed(nodes) if node.layer), "")
        tail = [part for part in layer.split("/") if part not in ("", "grad")][-1:]
        parts = [re.sub(r"\W", "_", part) for part in [*tail, *telling[:_NAME_PARTS]]]
        name = "_".join([*parts, str(count + len(names))])
        names[id(group)] = name if name[0].isalpha() else f"k_{name}"
    return names


class _Reasons:
    """Why each kernel ends where it does."""

    def __init__(self, grouping: Grouping, names: dict[int, str]) -> None:
        self.grouping, self.names = grouping, names

    def of(self, group: Group) -> list[str]:
        """A sentence for each kernel or reshape that `group` reads and is not one with."""
        graph, found = self.grouping.graph, {}
        for number in group.nodes:
            if graph.nodes[number].loop is None and not self._is_template(number):
                continue
            for maker in edges(self.grouping, number):
                node = graph.nodes[maker]
                if any(graph.types[value].rank for value in node.outputs):
                    found[self._name(maker, node)] = self._why(number, maker, group)
        return [f"{name}: {why}" for name, why in found.items() if why]

    def _name(self, maker: int, node: Node) -> str:
        callee = {} if node.op is None else node.op.attributes
        fallback = str(callee["callee"]) if "callee" in callee else node.kind
        return self.names.get(id(self.grouping.of[maker]), fallback)

    def _is_template(self, number: int) -> bool:
        return spec.has(self.grouping.graph.nodes[number].call)

    def _why(self, reader: int, maker: int, group: Group) -> str:
        node = self.grouping.graph.nodes[maker]
        if self.grouping.graph.nodes[reader].loop is None or reader in group.before:
            return self.grouping.stored.get(maker, "")
        if node.kind in _VIEWS:
            source = self.grouping.graph.producer[node.inputs[0]]
            return "" if source is None else f"{node.kind} between"
        other = self.grouping.of[maker]
        if node.loop is None and other.template is None:
            return "takes no epilogue"
        return self.grouping.why_not(other, group)


def _caller(graph: Graph, joins: Joins, order: list[Group], kernels: dict[int, Kernel]) -> str:
    """The function again, of calls and views."""
    writer = Writer()
    values: dict[int, Named] = {}
    arguments = []
    for value in range(len(graph.function.regions[0].blocks[0].arguments)):
        values[value] = (f"%a{value}", graph.types[value])
        arguments.append(f"%a{value}: {graph.types[value]}")
    for group in order:
        nodes = [graph.nodes[number] for number in group.nodes]
        if id(group) in kernels:
            for whole in {window.whole: None for window in joins.windows(group)}:
                if whole not in values:
                    values[whole] = _started(writer, graph, values, joins.base[whole], whole)
            _call(writer, graph, values, kernels[id(group)], nodes[-1].location)
        elif nodes[0].kind == "join":
            continue  # the kernels of its pieces have made it
        elif nodes[0].kind == "reshape":
            (source,), (value,) = nodes[0].inputs, nodes[0].outputs
            kind = graph.types[value]
            values[value] = (reshape(writer, values[source], kind.shape, nodes[0].location), kind)
        else:
            (node,) = nodes
            assert node.op is not None
            operands = [values[value] for value in node.inputs]
            types = [graph.types[value] for value in node.outputs]
            made = writer.op(node.op.name, operands, types, attribute_text(node.op), node.location)
            values.update(
                {
                    value: (name, kind)
                    for value, name, kind in zip(node.outputs, made, types, strict=True)
                }
            )
    writer.op("func.return", [values[value] for value in graph.results], [], "", "")
    return "\n".join([header_text(graph.function, arguments), *writer.lines, "}"])


def _started(
    writer: Writer, graph: Graph, values: dict[int, Named], base: int | None, whole: int
) -> Named:
    """A joined value before its pieces are stored."""
    if base is not None:
        return values[base]
    return writer.empty(graph.types[whole]), graph.types[whole]


def _call(
    writer: Writer, graph: Graph, values: dict[int, Named], kernel: Kernel, location: str
) -> None:
    operands = [values[value] for value in kernel.arguments]
    names = writer.op("func.call", operands, kernel.types, f"{{callee = @{kernel.name}}}", location)
    for value, name, kind in zip(kernel.results, names, kernel.types, strict=True):
        wanted = graph.types[value]
        if kind != wanted:
            name = reshape(writer, (name, kind), wanted.shape, location)
        values[value] = (name, wanted)
