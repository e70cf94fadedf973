"""Several steps of a model as one graph: the captured step becomes the body of a loop.

The loop carries the states that the step writes. Neither its graph nor what compiling it costs grows
with the number of steps.
"""

import operator
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch.fx import Graph, GraphModule, Node

from .captured import Captured
from .provenance import LAYER
from .torch_ops.loops import scan

aten = torch.ops.aten
BODY = "body"


def repeated(captured: Captured, count: int, *, concatenate: bool) -> Captured:
    """`count` steps, one after another, on a batch each.

    Args:
        captured: one step. It has no backward graph.
        count: how many. Data inputs get a first axis of so many places, one for each batch.
        concatenate: whether results are those of all steps, joined along their first axis, which
            they must have then; else they are those of the last step.
    """
    graph = _Loop(captured, count, concatenate).module()
    return replace(captured, name=f"{captured.name} times {count}", graph=graph)


class _Loop:
    """The graph around the loop. Results of the last step are carried like states, from zeros."""

    def __init__(self, captured: Captured, count: int, concatenate: bool) -> None:
        self.step: GraphModule = captured.graph
        self.count, self.concatenate = count, concatenate
        placeholders = self.step.graph.find_nodes(op="placeholder")
        given = list(zip(captured.inputs, placeholders, strict=True))
        (output,) = self.step.graph.find_nodes(op="output")
        returned: list[Node] = list(output.args[0])
        written = [id(spec.variable) for spec in captured.outputs if spec.kind == "state"]
        states = {id(spec.variable): node for spec, node in given if spec.kind == "state"}
        self.results = returned[: len(returned) - len(written)]
        self.written = [states[variable] for variable in written]
        self.data = [node for spec, node in given if spec.kind == "data"]
        self.rest = [node for spec, node in given if spec.kind != "data"]
        self.fixed = [node for node in self.rest if node not in self.written]
        self.graph = Graph()

    def module(self) -> GraphModule:
        batches = [self._batches(node) for node in self.data]
        rest = {node: _input(self.graph, node) for node in self.rest}
        body = self.graph.get_attr(BODY)
        carried = [rest[node] for node in self.written]
        if not self.concatenate:
            carried += [self._zeros(node) for node in self.results]
        constants = [rest[node] for node in self.fixed]
        made = self._scan((body, carried, batches, constants, self.count, False))
        states, results = made[: len(self.written)], made[len(self.written) :]
        if self.concatenate:
            results = [self._joined(node) for node in results]
        self.graph.output([*results, *states])
        return GraphModule({BODY: self._body()}, self.graph)

    def _body(self) -> GraphModule:
        """The step: states, then what is carried of results and not read, batch, constants; gives
        states and results."""
        graph = Graph()
        copies = {node: _input(graph, node) for node in self.written}
        if not self.concatenate:
            for node in self.results:
                _input(graph, node)
        copies |= {node: _input(graph, node) for node in (*self.data, *self.fixed)}
        returned = graph.graph_copy(self.step.graph, copies)
        assert isinstance(returned, Sequence)
        first_state = len(self.results)
        graph.output((*returned[first_state:], *returned[:first_state]))
        return GraphModule(self.step, graph)

    def _scan(self, arguments: tuple[Any, ...]) -> list[Node]:
        node = self.graph.call_function(scan, arguments)
        returned = [self._value(node) for node in (*self.written, *self.results)]
        carries = len(arguments[1])
        values = [
            value if i < carries else value.new_empty((self.count, *value.shape))
            for i, value in enumerate(returned)
        ]
        _label(node, tuple(values))
        return [self._call(operator.getitem, (node, i), value) for i, value in enumerate(values)]

    def _value(self, node: Node) -> torch.Tensor:
        return node.meta["val"]

    def _zeros(self, like: Node) -> Node:
        value = self._value(like)
        options: dict[str, Any] = {"dtype": value.dtype, "device": value.device}
        node = self.graph.call_function(aten.full.default, (list(value.shape), 0), options)
        return _label(node, value)

    def _batches(self, like: Node) -> Node:
        node, value = _input(self.graph, like), self._value(like)
        node.meta["val"] = value.new_empty((self.count, *value.shape))
        return node

    def _joined(self, stacked: Node) -> Node:
        value = self._value(stacked)
        count, rows, *rest = value.shape
        shape = [count * rows, *rest]
        return self._call(aten.view.default, (stacked, shape), value.new_empty(shape))

    def _call(self, target: Any, args: tuple[Any, ...], value: torch.Tensor) -> Node:
        return _label(self.graph.call_function(target, args), value)


def _input(graph: Graph, like: Node) -> Node:
    node = graph.placeholder(f"input{len(graph.nodes)}")
    node.meta.update(like.meta)
    return node


def _label(node: Node, value: object) -> Node:
    node.meta.update({"val": value, LAYER: "step"})
    return node
