"""Parameters and buffers of torch modules as state of a captured step.

While a step is traced, a call of a torch module computes with traced tensors in place of its
parameters and buffers, its submodules' included. A buffer that the module writes (the running
statistics of a batch normalization) becomes the state's new value, be it written in place or
replaced by a new tensor.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import torch
from keras.src.backend import Variable
from keras.src.backend.common import global_state
from keras.src.backend.common.stateless_scope import get_stateless_scope
from keras.src.backend.torch.layer import TorchLayer
from keras.src.layers.layer import Layer
from torch._subclasses.functional_tensor import FunctionalTensor
from torch.fx.experimental.proxy_tensor import get_proxy_mode
from torch.nn.utils.stateless import _reparametrize_module
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from .provenance import patched


class ModuleTensor:
    """A parameter or buffer as state: what a capture needs of a Keras variable.

    Attributes:
        path: the class of the outermost module and the tensor's name in it.
    """

    def __init__(self, module: torch.nn.Module, name: str) -> None:
        self._root, self._name = module, name
        owner, _, self._attribute = name.rpartition(".")
        self._owner = module.get_submodule(owner)
        self.path = f"{type(module).__name__}/{name.replace('.', '/')}"

    @property
    def _value(self) -> torch.Tensor:
        return getattr(self._owner, self._attribute)

    @property
    def value(self) -> torch.Tensor:
        """The tensor, traced while a step is."""
        scope = get_stateless_scope()
        return self._value if scope is None else scope.get_current_value(self)


State: TypeAlias = Variable | ModuleTensor
"""What a step may read and write: it has a `path`, and its storage as `_value`."""


def own_parts(module: torch.nn.Module, prefix: str = "") -> Iterator[tuple[str, torch.nn.Module]]:
    """A module and the torch modules in it, with their names. Keras layers and what they hold are not
    part of it: Keras variables are all their state, but for what is registered with a layer itself.
    """
    yield prefix, module
    if not isinstance(module, Layer):
        for name, child in module.named_children():
            if not isinstance(child, Layer):
                yield from own_parts(child, f"{prefix}{name}.")


def own_tensors(module: torch.nn.Module) -> Iterator[str]:
    """The names of the parameters and buffers of `own_parts`."""
    for prefix, part in own_parts(module):
        for name, tensor in (*part._parameters.items(), *part._buffers.items()):
            if tensor is not None:
                yield prefix + name


def states_of(module: torch.nn.Module) -> Iterator[State]:
    """Everything in a module that may have gradients: Keras variables, and other parameters."""
    for name in module._parameters:
        if module._parameters[name] is not None:
            yield ModuleTensor(module, name)
    if isinstance(module, Layer):
        yield from module.trainable_variables
        return
    for child in module.children():
        yield from states_of(child)


def parameters_of(module: torch.nn.Module) -> Iterator[State]:
    """Everything that `module.parameters()` may give: all Keras variables, and other parameters."""
    for part in module.modules():
        if isinstance(part, Layer):
            yield from part.variables
        for name in part._parameters:
            if part._parameters[name] is not None:
                yield ModuleTensor(part, name)


@contextlib.contextmanager
def traced_parameters(scope_type: type[Any]) -> Iterator[None]:
    """Under a scope of `scope_type`, `module.parameters()` gives that scope's values: what a step does
    to them and to their gradients is then part of it."""

    def of_scope(original: Callable) -> Callable:
        @functools.wraps(original)
        def named_parameters(
            module: torch.nn.Module, *args: Any, **kwargs: Any
        ) -> Iterator[tuple[str, torch.Tensor]]:
            scope = get_stateless_scope()
            found = original(module, *args, **kwargs)
            # The tracer itself asks for what it keeps, and is not being traced then.
            if get_proxy_mode() is None or not isinstance(scope, scope_type):
                yield from found
                return
            states = {id(state._value): state for state in parameters_of(module)}
            for name, parameter in found:
                state = states.get(id(parameter))
                yield name, parameter if state is None else scope.get_current_value(state)

        return named_parameters

    with (
        patched(torch.nn.Module, "named_parameters", of_scope),
        patched(TorchLayer, "_track_variables", _outside_of_scopes),
    ):
        yield


def _outside_of_scopes(original: Callable) -> Callable:
    """A layer hands torch the storages of its variables when torch first asks for them."""

    @functools.wraps(original)
    def track_variables(layer: Layer) -> None:
        scope = get_stateless_scope()
        global_state.set_global_attribute("stateless_scope", None)
        try:
            original(layer)
        finally:
            global_state.set_global_attribute("stateless_scope", scope)

    return track_variables


@contextlib.contextmanager
def traced_modules(scope_type: type) -> Iterator[None]:
    """Calls of torch modules under a scope of `scope_type` use that scope's values."""
    substituted: set[int] = set()

    def wrap(original: Callable) -> Callable:
        @functools.wraps(original)
        def call(module: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
            known = id(module) in substituted or not any(own_tensors(module))
            if known or not isinstance(get_stateless_scope(), scope_type):
                return original(module, *args, **kwargs)
            with _substitute(module, substituted):
                return original(module, *args, **kwargs)

        return call

    with patched(torch.nn.Module, "__call__", wrap):
        yield


@contextlib.contextmanager
def _substitute(module: torch.nn.Module, substituted: set[int]) -> Iterator[None]:
    states = {name: ModuleTensor(module, name) for name in own_tensors(module)}
    given = {name: state.value for name, state in states.items()}
    inside = {id(part) for _, part in own_parts(module)} - substituted
    left = dict(given)
    substituted |= inside
    try:
        with _reparametrize_module(module, left):
            yield
    finally:
        substituted -= inside
    with torch.no_grad():
        for name, tensor in left.items():
            if tensor is not given[name]:
                given[name].copy_(tensor)


class ReadModes:
    """Which modules were in training mode when a step first asked, unless it had set that itself.

    A step captured in one mode does not hold in the other.
    """

    def __init__(self) -> None:
        self.found: dict[int, tuple[torch.nn.Module, bool]] = {}
        self._written: set[int] = set()

    @contextlib.contextmanager
    def watch(self) -> Iterator[None]:
        """Watches `module.training` of every module meanwhile."""
        setattr(torch.nn.Module, "training", property(self._read, self._write))  # noqa: B010
        try:
            yield
        finally:
            delattr(torch.nn.Module, "training")

    def _read(self, module: torch.nn.Module) -> bool:
        if "training" not in module.__dict__:
            raise AttributeError(f"{type(module).__name__!r} object has no attribute 'training'")
        mode: bool = module.__dict__["training"]
        if id(module) not in self._written:
            self.found.setdefault(id(module), (module, mode))
        return mode

    def _write(self, module: torch.nn.Module, mode: bool) -> None:
        if id(module) not in self.found:
            self._written.add(id(module))
        module.__dict__["training"] = mode


def closure_reason(tensor: torch.Tensor) -> str:
    """Why a step cannot be captured that takes gradients with respect to a tensor of no state."""
    return (
        f"a tensor of shape {tuple(tensor.shape)} that requires gradients is used directly instead of "
        "through a keras.Variable or a torch module"
    )


class RefuseClosures(TorchFunctionMode):
    """Calls `refuse` with a reason at the first tensor from outside of the trace that gradients would
    flow to, as soon as a call computes with it: a backward pass would leave traced gradients in it. So
    it does when a step asks such a tensor for its gradient: the trace has left none."""

    def __init__(self, refuse: Callable[[str], None]) -> None:
        super().__init__()
        self._refuse = refuse

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        if func == _READ_GRADIENT and _is_outside(args[0]):
            self._refuse(
                f"the gradient of a tensor of shape {tuple(args[0].shape)} is read that the step holds "
                "from before, as a torch optimizer does; `module.parameters()` in the step gives "
                "tensors that have it"
            )
        result = func(*args, **(kwargs or {}))
        first = result[0] if isinstance(result, list | tuple) and result else result
        if isinstance(first, FunctionalTensor) and first.requires_grad:
            for tensor in tree_leaves((args, kwargs)):
                if _is_outside(tensor):
                    self._refuse(closure_reason(tensor))
        return result


_READ_GRADIENT = vars(torch._C.TensorBase)["grad"].__get__


def _is_outside(value: Any) -> bool:
    """Whether it is a tensor that has gradients and that nobody traces."""
    traced = isinstance(value, FunctionalTensor)
    return isinstance(value, torch.Tensor) and not traced and value.requires_grad
