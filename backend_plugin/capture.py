"""One Keras step as one functional graph: `capture(fn, args, name=...) -> Captured`.

The step runs once on fake tensors under `make_fx`. Every Keras variable it touches becomes a graph
input at its first use, and an output if it changes; mutation is functionalized in the same pass.
Shapes and dtypes are static, but for one size that may be left open (symbolic_size.py).
"""

import contextlib
import inspect
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import optree
import torch
from keras.src.backend import Variable
from keras.src.backend.common.variables import initialize_all_variables
from torch._higher_order_ops import effects
from torch._subclasses.fake_tensor import FakeTensorMode
from torch._subclasses.functional_tensor import (
    FunctionalTensor,
    FunctionalTensorMode,
)
from torch.fx import GraphModule, Node
from torch.fx._lazy_graph_module import _use_lazy_graph_module
from torch.fx.experimental.proxy_tensor import (
    make_fx,
)

from keras_triton.lowering.errors import SizeError

from .branches import traced_branches
from .capture_errors import CaptureError, explain_failure
from .captured import Captured, ResultTree, Surroundings
from .decompositions import decomposition_table
from .finish import Traced, finish
from .gradient_state import GradientState
from .host_random import HostRandom
from .loops.control_flow import traced_loops
from .module_state import ReadModes, RefuseClosures, State
from .provenance import LAYER, LayerTrack, patched, track_layers
from .reads import readable_values
from .signature import flatten
from .state import CaptureScope, traced_state
from .symbolic_size import Axes, OpenSize, Size, sizes_as_numbers
from .tracing import current_tracer, empty_like, plain, traced_input, writes

# Capturing patches class attributes of Keras, so one capture runs at a time.
_ONE_AT_A_TIME = threading.RLock()

ROOT_LAYER = "step"
DATA_FIELDS = ("x", "y", "sample_weight")
# What autograd says of results whose graph the function itself has used up, or written over.
_NOT_DIFFERENTIABLE_ANY_MORE = ("a second time", "modified by an inplace operation")


def capture(
    fn: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any] | None = None,
    *,
    name: str,
    free: bool = False,
    axes: Axes | None = None,
) -> Captured:
    """Capture `fn(*args, **kwargs)`.

    Args:
        fn: a step over Keras objects that are built. It may read and assign any variable, run
            `loss.backward()` and read `variable.value.grad`.
        args, kwargs: nested containers of tensors. Leaves that are no tensors are frozen into the
            graph.
        name: what the graph is called, e.g. "train_step".
        free: a function whose results may be differentiated if gradients are enabled now, and whose
            effects on `.grad` show outside. A step of a model keeps its gradients to itself.
        axes: the axes of the call's tensors, by number, whose common size is left open.

    Raises:
        CaptureError: the step needs the value of a tensor, or something that cannot be traced, or
            holds for one size only although it was to be left open.
        Any error that Keras or user code raises on its own account (`ValueError`, `TypeError`).
    """
    # Tensors made in inference mode cannot be traced. Leaving it would enable gradients.
    enabled = torch.is_grad_enabled()
    with (
        _ONE_AT_A_TIME,
        torch.inference_mode(False),
        torch.set_grad_enabled(enabled),
        _without_log_of_failures(),
        track_layers(ROOT_LAYER) as track,
    ):
        capturing = _Capture(fn, (args, dict(kwargs or {})), name, track, free, axes)
        try:
            return capturing.run()
        except Exception as error:
            # Run op by op now, the step draws what it would have drawn without this attempt.
            capturing.random.restore()
            # Variables that the step created have no value yet, and nobody else will give them one.
            initialize_all_variables()
            failure = explain_failure(error, name, track.failed_at or track.path)
            if failure is None or failure is error:
                raise
            raise failure from error


@contextlib.contextmanager
def _without_log_of_failures() -> Iterator[None]:
    """torch logs a traceback of every op that fails on fake tensors, besides raising the error."""
    log = logging.getLogger("torch._subclasses.fake_tensor")
    before, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = before


class _Capture:
    """The moving parts of one capture."""

    def __init__(
        self,
        fn: Callable[..., Any],
        arguments: tuple[tuple[Any, ...], dict[str, Any]],
        name: str,
        track: LayerTrack,
        free: bool,
        axes: Axes | None,
    ) -> None:
        self.fn, self.name, self.track, self.free = fn, name, track, free
        self.differentiable = free and torch.is_grad_enabled()
        self.leaves, self.spec = flatten(arguments)
        self.positions = [i for i, x in enumerate(self.leaves) if isinstance(x, torch.Tensor)]
        self.size = OpenSize(axes, [self.leaves[i] for i in self.positions]) if axes else None
        self.fake_mode = (
            self.size.fake_mode() if self.size else FakeTensorMode(allow_non_fake_inputs=True)
        )
        self.gradients = GradientState()
        self.scope = CaptureScope(self._lift, self.gradients if free else None)
        self.modes = ReadModes()
        self.state_nodes: list[Node] = []
        self.gradient_nodes: list[Node] = []
        self.tangent_nodes: list[Node] = []
        self.differentiable_results: list[int] = []
        self.differentiable_inputs: list[int] = []
        self.result: ResultTree | None = None
        self.random = HostRandom.now()

    def run(self) -> Captured:
        # Lazy: a graph module compiles its Python code twice otherwise, a tenth of the capture.
        with self.fake_mode, _use_lazy_graph_module(True):
            fakes = self._fakes()
            with torch.autograd.set_multithreading_enabled(False):
                module = make_fx(self._step, decomposition_table=decomposition_table())(*fakes)
        if not self.random.is_current():
            reason = "numbers from Python's or NumPy's random module would be frozen into the graph"
            raise CaptureError(self.name, ROOT_LAYER, reason)
        for node in module.graph.nodes:
            node.meta.setdefault(LAYER, ROOT_LAYER)
        captured = finish(self._traced(module))
        return replace(captured, size=self._close()) if self.size else captured

    def _fakes(self) -> list[torch.Tensor]:
        tensors = [self.leaves[i] for i in self.positions]
        if self.size is None:
            return list(map(empty_like, tensors))
        return [self.size.empty_like(i, tensor) for i, tensor in enumerate(tensors)]

    def _close(self) -> Size:
        assert self.size is not None
        try:
            return self.size.close()
        except SizeError as error:
            raise CaptureError(self.name, ROOT_LAYER, str(error)) from None

    def _step(self, *tensors: torch.Tensor) -> list[torch.Tensor]:
        """What is traced: plain tensors in; out come the results, the value of every variable, new
        gradients of storages, and the gradients of the results."""
        self.track.watch(current_tracer().graph)
        with FunctionalTensorMode(), patched(effects, "has_effects", _without_linalg_checks):
            data = [self._functional(*pair) for pair in zip(self.positions, tensors, strict=True)]
            leaves = list(self.leaves)
            for position, tensor in zip(self.positions, data, strict=True):
                leaves[position] = tensor
            args, kwargs = self.spec.unflatten(leaves)
            with (
                sizes_as_numbers() if self.size else contextlib.nullcontext(),
                traced_loops(),
                traced_branches(),
                traced_state(self.scope),
                readable_values(),
                self.modes.watch(),
                self.gradients.watch(),
                RefuseClosures(self._refuse),
            ):
                results = self._split_result(self.fn(*args, **kwargs))
                if self.free:  # the batch of a step belongs to the step
                    self._refuse_effects(data)
                gradients = self._differentiate(results, data) if self.differentiable else []
            self.track.flush()
            states = list(self.scope.values())
            kept = [gradient for _, gradient in self.gradients.changed()]
            with torch.no_grad():
                return [plain(tensor) for tensor in results + states + kept + gradients]

    def _functional(self, position: int, tensor: torch.Tensor) -> torch.Tensor:
        value = FunctionalTensor.to_functional(tensor)
        wanted = self.differentiable and self.leaves[position].requires_grad
        return value.requires_grad_() if wanted else value

    def _lift(self, variable: State) -> torch.Tensor:
        """A new graph input for the storage of `variable`, while the step is being traced."""
        storage = variable._value
        if storage is None:
            raise CaptureError(
                self.name,
                self.track.path,
                f"the variable {variable.path} is created during the step",
                transient=True,
            )
        value = self._input(storage, f"state{len(self.state_nodes)}", self.state_nodes)
        if storage.requires_grad:
            value.requires_grad_()
            if self.scope.gradients is not None:
                self.gradients.lift(variable, value, self._lift_gradient)
        return value

    def _lift_gradient(self, gradient: torch.Tensor) -> torch.Tensor:
        return self._input(gradient, f"gradient{len(self.gradient_nodes)}", self.gradient_nodes)

    def _input(self, like: torch.Tensor, name: str, nodes: list[Node]) -> torch.Tensor:
        """The traced tensor of a new graph input, which is added to `nodes`."""
        self.track.flush()
        value, node = traced_input(name, lambda: empty_like(like))
        nodes.append(node)
        return value

    def _split_result(self, result: Any) -> list[torch.Tensor]:
        leaves, spec = flatten(result)
        leaves = [leaf.value if isinstance(leaf, Variable) else leaf for leaf in leaves]
        self.result = ResultTree.of(leaves, spec)
        return [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]

    def _refuse(self, reason: str) -> None:
        raise CaptureError(self.name, self.track.path, reason)

    def _refuse_effects(self, data: list[torch.Tensor]) -> None:
        for tensor in data:
            if isinstance(tensor, FunctionalTensor) and writes(tensor):
                reason = "an argument is written in place, which would not show outside"
                raise CaptureError(self.name, ROOT_LAYER, reason)
            if tensor.is_leaf and tensor.grad is not None:
                reason = (
                    "an argument is given a gradient (in `.grad`), which would not show outside"
                )
                raise CaptureError(self.name, ROOT_LAYER, reason)

    def _differentiate(
        self, results: list[torch.Tensor], data: list[torch.Tensor]
    ) -> list[torch.Tensor]:
        """The gradients of the inputs that the results depend on, from a tangent for each result."""
        outputs = [i for i, tensor in enumerate(results) if tensor.requires_grad]
        states = list(self.scope.values())
        inputs = [i for i, tensor in enumerate(data + states) if tensor.requires_grad]
        if not outputs or not inputs:
            return []
        tangents = [
            self._input(results[i], f"tangent{n}", self.tangent_nodes)
            for n, i in enumerate(outputs)
        ]
        try:
            found = torch.autograd.grad(
                [results[i] for i in outputs],
                [(data + states)[i] for i in inputs],
                tangents,
                allow_unused=True,
            )
        except RuntimeError as error:
            if any(text in str(error) for text in _NOT_DIFFERENTIABLE_ANY_MORE):
                return []
            raise
        pairs = [(i, g) for i, g in zip(inputs, found, strict=True) if g is not None]
        self.differentiable_results = outputs
        self.differentiable_inputs = [i for i, _ in pairs]
        return [gradient for _, gradient in pairs]

    def _traced(self, module: GraphModule) -> Traced:
        assert self.result is not None, "the step was not traced"
        lifted = self.gradients.lifted()
        return Traced(
            name=self.name,
            module=module,
            data_names=_data_names(self.fn, self.spec, self.positions),
            states=list(zip(self.state_nodes, self.scope.variables, strict=True)),
            gradients=list(zip(self.gradient_nodes, lifted, strict=True)),
            tangents=self.tangent_nodes,
            result=self.result,
            new_gradients=[state for state, _ in self.gradients.changed()],
            differentiable_results=self.differentiable_results,
            differentiable_inputs=self.differentiable_inputs,
            cleared=tuple(self.gradients.cleared()),
            surroundings=Surroundings(
                trainable=tuple((layer, layer._trainable) for layer in self.track.called),
                modes=tuple(self.modes.found.values()),
                gradients=tuple(self.gradients.counted()),
            ),
        )


def _without_linalg_checks(has_effects: Callable[[Any], bool]) -> Callable[[Any], bool]:
    # The check that a matrix was regular is the one effect a step may have. A functional graph
    # drops it: a singular matrix gives what the decomposition gives, NaN or infinity, not an error.
    def check(op: Any) -> bool:
        return op is not torch.ops.aten._linalg_check_errors.default and has_effects(op)

    return check


def _data_names(fn: Callable[..., Any], spec: optree.PyTreeSpec, positions: list[int]) -> list[str]:
    """Names of the tensors of a call: "data/x", "data/y", "data/x/tokens", ... for the argument
    `data` of a step, and "data/<parameter>/..." for those of other functions."""
    try:
        parameters = list(inspect.signature(fn).parameters)
    except (TypeError, ValueError):  # a function that is not written in Python
        parameters = []
    paths = spec.paths()
    names = []
    for position in positions:
        _, argument, *rest = paths[position]
        if isinstance(argument, int):
            argument = parameters[argument] if argument < len(parameters) else f"x{argument}"
        if argument == "data":
            field, *rest = rest or ("x",)
            argument = field
            if isinstance(field, int) and field < len(DATA_FIELDS):
                argument = DATA_FIELDS[field]
        names.append("/".join(str(part) for part in ("data", argument, *rest)))
    return names
