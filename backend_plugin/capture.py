"""One Keras step as one functional graph: `capture(fn, args, name=...) -> Captured`.

The step runs once on fake tensors under `make_fx`. Every Keras variable it touches becomes a graph
input at its first use, and an output if it changes; mutation is functionalized in the same pass.
Shapes and dtypes are static: one capture per input signature.
"""

import dataclasses
import random
import threading
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import optree
import torch
from keras.src.backend import Variable
from keras.src.backend.common.variables import initialize_all_variables
from torch._higher_order_ops import effects
from torch._subclasses.fake_tensor import FakeTensorMode
from torch._subclasses.functional_tensor import (
    FunctionalTensor,
    FunctionalTensorMode,
    disable_functional_mode,
)
from torch.fx._lazy_graph_module import _use_lazy_graph_module
from torch.fx.experimental.proxy_tensor import (
    disable_proxy_modes_tracing,
    get_proxy_mode,
    make_fx,
    track_tensor_tree,
)

from .capture_errors import CaptureError, explain_failure
from .decompositions import decomposition_table
from .graph_cleanup import (
    detach_outputs,
    fold_literals,
    hoist_inputs,
    lift_constants,
    remove_copies,
)
from .provenance import LAYER, LayerTrack, patched, track_layers
from .state import CaptureScope, traced_state

# Capturing patches class attributes of Keras, so one capture runs at a time.
_ONE_AT_A_TIME = threading.RLock()

ROOT_LAYER = "step"
DATA_FIELDS = ("x", "y", "sample_weight")


@dataclasses.dataclass(frozen=True)
class InputSpec:
    """One graph input. `data`: a tensor of `args`, in flattening order. `state`: the storage of
    `variable`. `constant`: `tensor`, a tensor the step closes over."""

    kind: Literal["data", "state", "constant"]
    name: str
    variable: Variable | None = None
    tensor: torch.Tensor | None = None


@dataclasses.dataclass(frozen=True)
class OutputSpec:
    """One graph output. `result`: a tensor of the step's result, in flattening order. `state`: the
    new value of `variable`."""

    kind: Literal["result", "state"]
    name: str
    variable: Variable | None = None


@dataclasses.dataclass(frozen=True)
class ResultTree:
    """How the step's result is put together from the graph's result outputs.

    `leaves[i]` is the position of leaf i among the result outputs, or None for a leaf that is no
    tensor, whose value is `constants[i]`.
    """

    spec: optree.PyTreeSpec
    leaves: tuple[int | None, ...]
    constants: tuple[Any, ...]

    def build(self, results: list[torch.Tensor]) -> Any:
        """The step's result, from the tensors of the result outputs."""
        return self.spec.unflatten(
            [
                constant if position is None else results[position]
                for position, constant in zip(self.leaves, self.constants, strict=True)
            ]
        )


@dataclasses.dataclass(frozen=True)
class Captured:
    """A captured step.

    `graph` takes the tensors of `inputs` in order (data, then state: the variable's storage, then
    constants) and gives a list with the tensors of `outputs` in order: first the results, then the
    state outputs. No output shares memory with an input. The graph holds aten and keras_triton ops
    only, none mutates, each node has `meta["val"]` (a fake tensor) and `meta["keras_layer"]` (the
    Keras path, `/grad` appended in the backward pass).
    """

    name: str
    graph: torch.fx.GraphModule
    inputs: tuple[InputSpec, ...]
    outputs: tuple[OutputSpec, ...]
    result: ResultTree


def flatten(structure: Any) -> tuple[list[Any], optree.PyTreeSpec]:
    """Leaves and tree of nested Python containers; None is a leaf."""
    return optree.tree_flatten(structure, none_is_leaf=True, namespace="keras")


def capture(fn: Callable[..., Any], args: tuple[Any, ...], *, name: str) -> Captured:
    """Capture `fn(*args)`.

    Args:
        fn: a step over Keras objects that are built. It may read and assign any variable, run
            `loss.backward()` and read `variable.value.grad`.
        args: nested containers of tensors. Leaves that are no tensors are frozen into the graph.
        name: what the graph is called, e.g. "train_step".

    Raises:
        CaptureError: the step needs the value of a tensor, or something that cannot be traced.
        Any error that Keras or user code raises on its own account (`ValueError`, `TypeError`).
    """
    with _ONE_AT_A_TIME, track_layers(ROOT_LAYER) as track:
        try:
            return _Capture(fn, args, name, track).run()
        except Exception as error:
            # Variables that the step created have no value yet, and nobody else will give them one.
            initialize_all_variables()
            failure = explain_failure(error, name, track.failed_at or track.path)
            if failure is None or failure is error:
                raise
            raise failure from error


class _Capture:
    """The moving parts of one capture."""

    def __init__(
        self, fn: Callable[..., Any], args: tuple[Any, ...], name: str, track: LayerTrack
    ) -> None:
        self.fn, self.name, self.track = fn, name, track
        self.leaves, self.spec = flatten(args)
        self.positions = [i for i, x in enumerate(self.leaves) if isinstance(x, torch.Tensor)]
        self.fake_mode = FakeTensorMode(allow_non_fake_inputs=True)
        self.scope = CaptureScope(self._lift)
        self.state_nodes: list[torch.fx.Node] = []
        self.result: ResultTree | None = None

    def run(self) -> Captured:
        # Lazy: a graph module compiles its Python code twice otherwise, a tenth of the capture.
        before = _host_random_state()
        with self.fake_mode, _use_lazy_graph_module(True):
            fakes = [_empty_like(self.leaves[i]) for i in self.positions]
            with torch.autograd.set_multithreading_enabled(False):
                module = make_fx(self._step, decomposition_table=decomposition_table())(*fakes)
        if _host_random_state() != before:
            reason = "numbers from Python's or NumPy's random module would be frozen into the graph"
            raise CaptureError(self.name, ROOT_LAYER, reason)
        for node in module.graph.nodes:
            node.meta.setdefault(LAYER, ROOT_LAYER)
        return self._finish(module)

    def _step(self, *tensors: torch.Tensor) -> list[torch.Tensor]:
        """What is traced: plain tensors in; the result's tensors and every variable's value out."""
        self.track.watch(_tracer().graph)
        with FunctionalTensorMode(), patched(effects, "has_effects", _without_linalg_checks):
            leaves = list(self.leaves)
            for position, tensor in zip(self.positions, tensors, strict=True):
                leaves[position] = FunctionalTensor.to_functional(tensor)
            with traced_state(self.scope):
                result = self.fn(*self.spec.unflatten(leaves))
            self.track.flush()
            results = self._split_result(result)
            states = [self.scope.state_mapping[id(v)] for v in self.scope.variables]
            with torch.no_grad():
                return [_plain(tensor) for tensor in results + states]

    def _lift(self, variable: Variable) -> torch.Tensor:
        """A new graph input for the storage of `variable`, while the step is being traced."""
        storage = variable._value
        if storage is None:
            raise CaptureError(
                self.name,
                self.track.path,
                f"the variable {variable.path} is created during the step",
                transient=True,
            )
        tracer = _tracer()
        with disable_proxy_modes_tracing(), disable_functional_mode():
            fake = _empty_like(storage)
        self.track.flush()
        proxy = tracer.create_proxy("placeholder", f"state{len(self.state_nodes)}", (), {})
        track_tensor_tree(fake, proxy, constant=None, tracer=tracer)
        self.state_nodes.append(proxy.node)
        value = FunctionalTensor.to_functional(fake)
        return value.requires_grad_() if storage.requires_grad else value

    def _split_result(self, result: Any) -> list[torch.Tensor]:
        leaves, spec = flatten(result)
        leaves = [leaf.value if isinstance(leaf, Variable) else leaf for leaf in leaves]
        tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
        count = iter(range(len(tensors)))
        is_tensor = [isinstance(leaf, torch.Tensor) for leaf in leaves]
        self.result = ResultTree(
            spec=spec,
            leaves=tuple(next(count) if yes else None for yes in is_tensor),
            constants=tuple(
                None if yes else leaf for yes, leaf in zip(is_tensor, leaves, strict=True)
            ),
        )
        return tensors

    def _finish(self, module: torch.fx.GraphModule) -> Captured:
        graph = module.graph
        hoist_inputs(graph)
        fold_literals(module)
        constants = dict(lift_constants(module))
        self._refuse_gradients(constants)
        remove_copies(graph)
        states = list(zip(self.state_nodes, self.scope.variables, strict=True))
        (output,) = graph.find_nodes(op="output")
        returned = list(output.args[0])
        first_state = len(returned) - len(states)
        changed = [
            (variable, new)
            for (old, variable), new in zip(states, returned[first_state:], strict=True)
            if new is not old
        ]
        output.args = (returned[:first_state] + [new for _, new in changed],)
        detach_outputs(graph)
        graph.eliminate_dead_code()
        changed_ids = {id(variable) for variable, _ in changed}
        variables = {
            node: variable for node, variable in states if node.users or id(variable) in changed_ids
        }
        for node, _ in states:
            if node not in variables:
                graph.erase_node(node)
        inputs = self._inputs(graph, variables, constants)
        results = [OutputSpec("result", f"result/{i}") for i in range(first_state)]
        new_states = [OutputSpec("state", variable.path, variable) for variable, _ in changed]
        graph.lint()
        assert self.result is not None, "the step was not traced"
        module.recompile()
        return Captured(self.name, module, inputs, (*results, *new_states), self.result)

    def _refuse_gradients(self, constants: dict[torch.fx.Node, torch.Tensor]) -> None:
        for node, tensor in constants.items():
            if tensor.requires_grad:
                raise CaptureError(
                    self.name,
                    node.meta[LAYER],
                    f"a tensor of shape {tuple(tensor.shape)} that requires gradients is used "
                    "directly instead of through a keras.Variable",
                )

    def _inputs(
        self,
        graph: torch.fx.Graph,
        variables: dict[torch.fx.Node, Variable],
        constants: dict[torch.fx.Node, torch.Tensor],
    ) -> tuple[InputSpec, ...]:
        names = iter(_data_names(self.spec, self.positions))
        inputs = []
        for node in graph.find_nodes(op="placeholder"):
            if node in variables:
                variable = variables[node]
                inputs.append(InputSpec("state", variable.path, variable=variable))
            elif node in constants:
                name = f"{node.meta[LAYER]}/{node.name}"
                inputs.append(InputSpec("constant", name, tensor=constants[node]))
            else:
                inputs.append(InputSpec("data", next(names)))
        return tuple(inputs)


def _tracer() -> Any:
    mode = get_proxy_mode()
    assert mode is not None, "called outside of make_fx"
    return mode.tracer


def _host_random_state() -> tuple[Any, ...]:
    numpy_state = np.random.get_state(legacy=False)["state"]
    return random.getstate(), numpy_state["pos"], numpy_state["key"].tobytes()


def _without_linalg_checks(has_effects: Callable[[Any], bool]) -> Callable[[Any], bool]:
    # The check that a matrix was regular is the one effect a step may have. A functional graph
    # drops it: a singular matrix gives what the decomposition gives, NaN or infinity, not an error.
    def check(op: Any) -> bool:
        return op is not torch.ops.aten._linalg_check_errors.default and has_effects(op)

    return check


def _empty_like(tensor: torch.Tensor) -> torch.Tensor:
    # A fresh tensor rather than a fake view of the real one: it carries no autograd history.
    return torch.empty_strided(
        tensor.shape, tensor.stride(), dtype=tensor.dtype, device=tensor.device
    )


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    """The traced tensor behind a functional one, pending mutations applied."""
    if not isinstance(tensor, FunctionalTensor):
        return tensor
    torch._sync(tensor)
    return torch._from_functional_tensor(tensor.elem)


def _data_names(spec: optree.PyTreeSpec, positions: list[int]) -> list[str]:
    """Names of the tensors of a step's arguments: "data/x", "data/y", "data/x/tokens", ..."""
    paths = spec.paths()
    names = []
    for position in positions:
        field, *rest = paths[position][1:] or ("x",)
        if isinstance(field, int) and field < len(DATA_FIELDS):
            field = DATA_FIELDS[field]
        names.append("/".join(str(part) for part in ("data", field, *rest)))
    return names
