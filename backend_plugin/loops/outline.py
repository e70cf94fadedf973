"""Cutting loop bodies out of the graph being traced."""

import operator
from collections.abc import Collection, Iterable, Iterator, Sequence

import torch
from torch.fx._lazy_graph_module import _make_graph_module

from ..provenance import current_track
from ..tracing import current_tracer
from .region import INSIDE, Region

aten = torch.ops.aten
Node = torch.fx.Node

# Worth keeping from the forward loop for the backward one; what is cheaper than reading it from
# memory is computed again.
_PRODUCTS = frozenset(
    {
        aten.addmm.default,
        aten.baddbmm.default,
        aten.bmm.default,
        aten.convolution.default,
        aten.mm.default,
    }
)
_CHEAP_CUSTOM = frozenset({"dropout", "random_bits", "random_uniform"})


class Outline:
    """The nodes of a region that depend on its inputs, moved to a graph of their own. What is left
    of them in the whole graph is marked.

    `inputs` are the stand-ins that differ from step to step; `outer` gives the node that another
    stand-in stands for. Nodes that depend on no input stay where they are: they are the same in
    every step.
    """

    def __init__(self, region: Region, inputs: Iterable[Node], outer: dict[Node, Node]) -> None:
        current_track().flush()
        for inside, node in outer.items():
            inside.replace_all_uses_with(node)
        self._root: torch.nn.Module = current_tracer().root
        self._graph = torch.fx.Graph()
        # From nodes of the whole graph to their copies in this one; the first dict: what moved.
        self._moved: dict[Node, Node] = {}
        self._outer: dict[Node, Node] = {}
        given = set(inputs)
        for node in region.nodes():
            if node in given:
                self._moved[node] = self._placeholder(node)
            elif INSIDE not in node.meta and (
                _is_random(node) or any(source in self._moved for source in node.all_input_nodes)
            ):
                self._moved[node] = self._graph.node_copy(node, self._copy)
                node.meta[INSIDE] = True

    @property
    def moved(self) -> Collection[Node]:
        """The nodes of the whole graph that are in this one, inputs first to last."""
        return self._moved.keys()

    def needed(self, outputs: Iterable[Node]) -> set[Node]:
        """The nodes of the whole graph that moved and that `outputs` depend on."""
        copies = set(_walk(map(self._copy, outputs)))
        return {node for node, copy in self._moved.items() if copy in copies}

    def cut(self, node: Node) -> None:
        """Makes an input of what was computed here."""
        placeholder = self._placeholder(node)
        self._moved[node].replace_all_uses_with(placeholder)
        self._moved[node] = placeholder

    def _placeholder(self, node: Node) -> Node:
        placeholder = self._graph.placeholder(node.name)
        placeholder.meta.update(node.meta)
        return placeholder

    def _copy(self, node: Node) -> Node:
        """The node that stands in this graph for one of the whole graph."""
        if node in self._moved:
            return self._moved[node]
        if node not in self._outer:
            is_body = node.op == "get_attr" and isinstance(
                getattr(self._root, str(node.target)), torch.fx.GraphModule
            )
            self._outer[node] = self._graph.node_copy(node) if is_body else self._placeholder(node)
        return self._outer[node]

    def kept(self, forward: Sequence[Node], backward: Sequence[Node]) -> list[Node]:
        """What of `forward`'s computation `backward` should read rather than compute again.

        Nodes of the whole graph: results of costly ops, and inputs.
        """
        computed = set(_walk(map(self._copy, forward)))
        costly = set(filter(_is_costly, computed))
        read = computed.intersection(_walk(map(self._copy, backward), costly))
        return [
            node
            for node, copy in self._moved.items()
            if copy in read and (copy in costly or copy.op == "placeholder")
        ]

    def constants(self, inputs: Sequence[Node], outputs: Sequence[Node]) -> list[Node]:
        """Which nodes of the whole graph `outputs` depend on, apart from `inputs`."""
        copies = self._copies(inputs, outputs)
        return [
            node
            for node, copy in self._outer.items()
            if copy in copies and copy.op == "placeholder"
        ]

    def read(
        self, candidates: Iterable[Node], inputs: Sequence[Node], outputs: Sequence[Node]
    ) -> list[Node]:
        """Which of the `candidates`, all inputs, `outputs` depend on, looking no further than
        `inputs`."""
        copies = self._copies(inputs, outputs)
        return [node for node in candidates if self._moved[node] in copies]

    def body(
        self,
        inputs: Sequence[Node],
        constants: Sequence[Node],
        outputs: Sequence[Node],
        zero: Iterable[Node] = (),
    ) -> torch.fx.GraphModule:
        """The module `(*inputs, *constants) -> outputs`. Inputs in `zero`, not given, are zeros."""
        given = [*map(self._moved.__getitem__, inputs), *map(self._outer.__getitem__, constants)]
        needed = self._copies(inputs, outputs)
        graph, copies = torch.fx.Graph(), {}
        for node in given:
            copies[node] = graph.placeholder(node.name)
            copies[node].meta.update(node.meta)
        for node in zero:
            copies[self._moved[node]] = _zeros_in(graph, node)
        for node in self._graph.nodes:
            if node in needed and node not in copies:
                assert node.op != "placeholder", f"{node} is no input of the body"
                copies[node] = graph.node_copy(node, copies.__getitem__)
        graph.output(tuple(copies[self._copy(node)] for node in outputs))
        modules = {
            str(node.target): getattr(self._root, str(node.target))
            for node in graph.find_nodes(op="get_attr")
        }
        return _make_graph_module(modules, graph)

    def _copies(self, inputs: Sequence[Node], outputs: Sequence[Node]) -> set[Node]:
        """What `outputs` depend on, looking no further than `inputs`."""
        stops = set(map(self._moved.__getitem__, inputs))
        return set(_walk(map(self._copy, outputs), stops))


def _walk(outputs: Iterable[Node], stops: Collection[Node] = ()) -> Iterator[Node]:
    """`outputs` and all they depend on, not looking behind `stops`."""
    pending = list(outputs)
    seen = set(pending)
    while pending:
        node = pending.pop()
        yield node
        if node in stops:
            continue
        for source in node.all_input_nodes:
            if source not in seen:
                seen.add(source)
                pending.append(source)


def _is_random(node: Node) -> bool:
    """Whether `node` draws from torch's own generator, so differently each time."""
    tags = getattr(node.target, "tags", ())
    return node.op == "call_function" and torch.Tag.nondeterministic_seeded in tags


def _is_costly(node: Node) -> bool:
    if node.op != "call_function" or not isinstance(node.meta.get("val"), torch.Tensor):
        return False
    if node.target is operator.getitem:
        return _is_costly_call(node.all_input_nodes[0])
    return _is_costly_call(node)


def _is_costly_call(node: Node) -> bool:
    target = node.target
    if isinstance(target, torch._ops.HigherOrderOperator):
        return True
    if not isinstance(target, torch._ops.OpOverload):
        return False
    custom = target.namespace == "keras_triton" and target._opname not in _CHEAP_CUSTOM
    return custom or target in _PRODUCTS or _is_random(node)


def _zeros_in(graph: torch.fx.Graph, node: Node) -> Node:
    value = node.meta["val"]
    options = {"dtype": value.dtype, "device": value.device, "pin_memory": False}
    zeros = graph.call_function(aten.full.default, (list(value.shape), 0), options)
    zeros.meta.update(node.meta)
    return zeros
