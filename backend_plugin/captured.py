"""A captured step: its graph, what goes in and comes out, and for which surroundings it holds."""

import dataclasses
from typing import Any, Literal

import optree
import torch

from .module_state import State
from .symbolic_size import Size


@dataclasses.dataclass(frozen=True)
class InputSpec:
    """One graph input.

    `data`: a tensor of the arguments, in flattening order. `state`: the storage of `variable`.
    `gradient`: the `.grad` of that storage. `constant`: `tensor`, a tensor the step closes over.
    Of a backward graph, `saved`: what the forward graph left for it; `tangent`: the gradient of a
    result.
    """

    kind: Literal["data", "state", "gradient", "constant", "saved", "tangent"]
    name: str
    variable: State | None = None
    tensor: torch.Tensor | None = None


@dataclasses.dataclass(frozen=True)
class OutputSpec:
    """One graph output.

    `result`: a tensor of the step's result, in flattening order; of a backward graph, the gradient
    of an input. `saved`: for the backward graph. `gradient`: the new `.grad` of the storage of
    `variable`. `state`: its new value.
    """

    kind: Literal["result", "saved", "gradient", "state"]
    name: str
    variable: State | None = None


@dataclasses.dataclass(frozen=True)
class ResultTree:
    """How the step's result is put together from the graph's result outputs.

    `leaves[i]` is the position of leaf i among the result outputs, or None for a leaf that is no
    tensor, whose value is `constants[i]`.
    """

    spec: optree.PyTreeSpec
    leaves: tuple[int | None, ...]
    constants: tuple[Any, ...]

    @classmethod
    def of(cls, leaves: list[Any], spec: optree.PyTreeSpec) -> "ResultTree":
        """The tree of a result with these leaves."""
        tensors = [i for i, leaf in enumerate(leaves) if isinstance(leaf, torch.Tensor)]
        numbers = {leaf: number for number, leaf in enumerate(tensors)}
        positions = tuple(numbers.get(i) for i in range(len(leaves)))
        constants = tuple(None if i in numbers else leaf for i, leaf in enumerate(leaves))
        return cls(spec, positions, constants)

    @classmethod
    def flat(cls, count: int) -> "ResultTree":
        """The tree of a list of `count` tensors."""
        leaves: Any = [0] * count
        spec = optree.tree_structure(leaves, none_is_leaf=True, namespace="keras")
        return cls(spec, tuple(range(count)), (None,) * count)

    def build(self, results: list[torch.Tensor]) -> Any:
        """The step's result, from the tensors of the result outputs."""
        return self.spec.unflatten(
            [
                constant if position is None else results[position]
                for position, constant in zip(self.leaves, self.constants, strict=True)
            ]
        )


@dataclasses.dataclass(frozen=True)
class Surroundings:
    """What a step saw of the Python objects around it, and a graph of it therefore depends on.

    Attributes:
        trainable: every Keras layer it called, and whether that was trainable.
        modes: the torch modules that it asked for their mode, and whether that was training.
        gradients: the states whose `.grad` mattered, and whether there was one.
    """

    trainable: tuple[tuple[Any, bool], ...] = ()
    modes: tuple[tuple[torch.nn.Module, bool], ...] = ()
    gradients: tuple[tuple[State, bool], ...] = ()


@dataclasses.dataclass(frozen=True)
class Captured:
    """A captured step.

    `graph` takes the tensors of `inputs` in order (data, states: the variable's storage, gradients,
    constants) and gives a list with the tensors of `outputs` in order: results, saved ones,
    gradients, states. No output shares memory with an input. The graph holds aten and keras_triton
    ops only, none mutates, each node has `meta["val"]` (a fake tensor) and `meta["keras_layer"]`
    (the Keras path, `/grad` appended in the backward pass).

    Attributes:
        surroundings: for which the graph holds.
        cleared: the states whose storage has no `.grad` afterwards.
        backward: how to differentiate the results, if any of them can be.
        size: the size that is left open, if one is.
    """

    name: str
    graph: torch.fx.GraphModule
    inputs: tuple[InputSpec, ...]
    outputs: tuple[OutputSpec, ...]
    result: ResultTree
    surroundings: Surroundings = Surroundings()
    cleared: tuple[State, ...] = ()
    backward: "Backward | None" = None
    size: Size | None = None

    def states_of(self, kind: str) -> list[State]:
        """The states whose storages ("state") or gradients ("gradient") are inputs, in order."""
        return [i.variable for i in self.inputs if i.kind == kind and i.variable is not None]

    def new_states_of(self, kind: str) -> list[State]:
        """The states whose storages or gradients are outputs, in order."""
        return [o.variable for o in self.outputs if o.kind == kind and o.variable is not None]


@dataclasses.dataclass(frozen=True)
class Backward:
    """The backward pass of a captured function.

    Attributes:
        captured: its graph, which takes the saved tensors and then a tangent for each of `results`,
            and gives the gradient of each of `inputs`.
        saved: where each saved tensor is found: ("input" or "output", position).
        results: the result outputs that can be differentiated.
        inputs: the graph inputs that have gradients.
    """

    captured: Captured
    saved: tuple[tuple[Literal["input", "output"], int], ...]
    results: tuple[int, ...]
    inputs: tuple[int, ...]
