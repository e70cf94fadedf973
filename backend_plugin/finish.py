"""From a traced graph to a captured step: inputs and outputs in order, nothing unused, no copies."""

import dataclasses
import itertools

import torch
from torch.fx import Graph, GraphModule, Node

from . import joint
from .capture_errors import CaptureError
from .captured import Backward, Captured, InputSpec, OutputSpec, ResultTree, Surroundings
from .graph_cleanup import (
    clean_bodies,
    detach_outputs,
    fold_literals,
    hoist_inputs,
    lift_constants,
    move_to_inputs_end,
    remove_copies,
)
from .loops.region import find_leak
from .module_state import State, closure_reason
from .provenance import LAYER


@dataclasses.dataclass
class Traced:
    """What a trace leaves.

    Attributes:
        module: gives the results, the value of each of `states` afterwards, that of each of
            `new_gradients`, and the gradients of `differentiable_inputs`.
        states, gradients: the placeholders of storages and of their `.grad`.
        tangents: the placeholders of the gradients of `differentiable_results`.
        differentiable_inputs: positions among data and states.
    """

    name: str
    module: GraphModule
    data_names: list[str]
    states: list[tuple[Node, State]]
    gradients: list[tuple[Node, State]]
    tangents: list[Node]
    result: ResultTree
    new_gradients: list[State]
    differentiable_results: list[int]
    differentiable_inputs: list[int]
    cleared: tuple[State, ...]
    surroundings: Surroundings


def finish(traced: Traced) -> Captured:
    """The captured step.

    Raises:
        CaptureError: the step uses a tensor that requires gradients and is no state, or writes to a
            tensor that is none.
    """
    module, graph = traced.module, traced.module.graph
    leak = find_leak(graph)
    if leak is not None:
        reason = "a tensor made inside a loop is used outside of it"
        raise CaptureError(traced.name, leak.meta[LAYER], reason)
    hoist_inputs(graph)
    for node in (*(node for node, _ in traced.gradients), *traced.tangents):
        move_to_inputs_end(graph, node)
    fold_literals(module)
    constants = dict(lift_constants(module))
    _refuse(traced, constants)
    remove_copies(graph)
    clean_bodies(module)
    return _Finish(traced, constants).run()


def _refuse(traced: Traced, constants: dict[Node, torch.Tensor]) -> None:
    for node, tensor in constants.items():
        if tensor.requires_grad:
            raise CaptureError(traced.name, node.meta[LAYER], closure_reason(tensor))
    for node in traced.module.graph.nodes:
        if isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable:
            reason = (
                f"{node.target} writes to a tensor that is neither a keras.Variable nor a buffer of a "
                "torch module"
            )
            raise CaptureError(traced.name, node.meta[LAYER], reason)


class _Finish:
    """Sorts out what the forward graph takes and gives, and splits the backward graph off."""

    def __init__(self, traced: Traced, constants: dict[Node, torch.Tensor]) -> None:
        self.traced, self.constants = traced, constants
        self.graph: Graph = traced.module.graph
        (self.output,) = self.graph.find_nodes(op="output")
        nodes = iter(self.output.args[0])
        count = sum(position is not None for position in traced.result.leaves)
        self.results = list(itertools.islice(nodes, count))
        states = list(itertools.islice(nodes, len(traced.states)))
        self.new_gradients = list(itertools.islice(nodes, len(traced.new_gradients)))
        self.input_gradients = list(nodes)
        self.changed = [
            (old, state, new)
            for (old, state), new in zip(traced.states, states, strict=True)
            if new is not old
        ]
        self.saved: list[Node] = []

    def run(self) -> Captured:
        traced = self.traced
        data = self.graph.find_nodes(op="placeholder")[: len(traced.data_names)]
        differentiated = [
            [*data, *(node for node, _ in traced.states)][i] for i in traced.differentiable_inputs
        ]
        split = self._split() if differentiated else None
        overwritten = {old for old, _, _ in self.changed}
        left = [n for n in self.saved if n.op != "placeholder" or n in overwritten]
        news = [new for _, _, new in self.changed]
        self.output.args = ([*self.results, *left, *self.new_gradients, *news],)
        detach_outputs(self.graph)
        self.graph.eliminate_dead_code()
        self._drop_unused({*self.saved, *differentiated, *overwritten})
        self.graph.lint()
        traced.module.recompile()
        inputs = self.graph.find_nodes(op="placeholder")
        return Captured(
            name=traced.name,
            graph=traced.module,
            inputs=self._inputs(inputs),
            outputs=self._outputs(len(left)),
            result=traced.result,
            surroundings=traced.surroundings,
            cleared=traced.cleared,
            backward=self._backward(split, inputs, left, differentiated) if split else None,
        )

    def _backward(
        self, captured: Captured, inputs: list[Node], left: list[Node], differentiated: list[Node]
    ) -> Backward:
        return Backward(
            captured=captured,
            saved=self._places(inputs, left),
            results=tuple(self.traced.differentiable_results),
            inputs=tuple(inputs.index(node) for node in differentiated),
        )

    def _split(self) -> Captured:
        """The backward graph; `self.saved` is what it reads."""
        forward = [*self.results, *self.new_gradients, *(new for _, _, new in self.changed)]
        module, self.saved = joint.split(
            self.traced.module, forward, self.input_gradients, self.traced.tangents
        )
        detach_outputs(module.graph)
        module.graph.lint()
        module.recompile()
        names = [*self.traced.data_names, *(state.path for _, state in self.traced.states)]
        wanted = [f"{names[i]}/grad" for i in self.traced.differentiable_inputs]
        return Captured(
            name=f"{self.traced.name}_backward",
            graph=module,
            inputs=(
                *(InputSpec("saved", f"data/saved{i}") for i in range(len(self.saved))),
                *(
                    InputSpec("tangent", f"data/tangent{i}")
                    for i in range(len(self.traced.tangents))
                ),
            ),
            outputs=tuple(OutputSpec("result", name) for name in wanted),
            result=ResultTree.flat(len(wanted)),
        )

    def _drop_unused(self, kept: set[Node]) -> None:
        states = [node for node, _ in (*self.traced.states, *self.traced.gradients)]
        for node in (*states, *self.traced.tangents):
            if not node.users and node not in kept:
                self.graph.erase_node(node)

    def _inputs(self, nodes: list[Node]) -> tuple[InputSpec, ...]:
        names = iter(self.traced.data_names)
        states, gradients = dict(self.traced.states), dict(self.traced.gradients)
        inputs = []
        for node in nodes:
            if node in states:
                inputs.append(InputSpec("state", states[node].path, states[node]))
            elif node in gradients:
                state = gradients[node]
                inputs.append(InputSpec("gradient", f"{state.path}/grad", state))
            elif node in self.constants:
                name = f"{node.meta[LAYER]}/{node.name}"
                inputs.append(InputSpec("constant", name, tensor=self.constants[node]))
            else:
                inputs.append(InputSpec("data", next(names)))
        return tuple(inputs)

    def _outputs(self, left: int) -> tuple[OutputSpec, ...]:
        return (
            *(OutputSpec("result", f"result/{i}") for i in range(len(self.results))),
            *(OutputSpec("saved", f"saved/{i}") for i in range(left)),
            *(OutputSpec("gradient", f"{s.path}/grad", s) for s in self.traced.new_gradients),
            *(OutputSpec("state", state.path, state) for _, state, _ in self.changed),
        )

    def _places(self, inputs: list[Node], left: list[Node]) -> tuple:
        return tuple(
            ("output", len(self.results) + left.index(node))
            if node in left
            else ("input", inputs.index(node))
            for node in self.saved
        )
