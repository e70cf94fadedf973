"""Keras variables during a capture: which ones a step touches, and their traced values."""

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from keras.src.backend.common.stateless_scope import StatelessScope, get_stateless_scope
from keras.src.utils.torch_utils import TorchModuleWrapper
from torch._subclasses.functional_tensor import FunctionalTensor

from .gradient_state import GradientState
from .indexing import selecting
from .module_state import State, states_of, traced_modules, traced_parameters
from .provenance import patched


class CaptureScope(StatelessScope):
    """Reads and writes of every `keras.Variable` go to traced tensors; variables stay untouched.

    `lift(variable)` is called at the first touch of each variable, seed generators and metrics in
    closures included, and gives its traced tensor. That tensor stands for the variable's storage:
    an assignment copies into it, as the backend does outside of a scope, so `.grad`, in-place
    updates by optimizers and reads after writes behave as in op-by-op execution. Two that share a
    storage, as a variable and the parameter of the torch module it wraps do, share the tensor; the
    first of them to be touched is in `variables`.

    `gradients` tells that `.grad` of the storages is state too. Without it, a step starts with no
    gradients and its own are gone afterwards.
    """

    def __init__(
        self, lift: Callable[[State], torch.Tensor], gradients: GradientState | None = None
    ) -> None:
        super().__init__(collect_losses=True, initialize_variables=False)
        self._lift = lift
        self.gradients = gradients
        self._by_storage: dict[int, torch.Tensor] = {}
        self.variables: list[State] = []

    def get_current_value(self, variable: State) -> torch.Tensor:
        # Known by its storage: of the states of one storage some live no longer than a call.
        storage = id(variable._value)
        if storage not in self._by_storage:
            self._by_storage[storage] = self._lift(variable)
            self.variables.append(variable)
        return self._by_storage[storage]

    def values(self) -> Iterable[torch.Tensor]:
        """The traced tensors, in the order of `variables`."""
        return self._by_storage.values()

    def clear_gradient(self, state: State) -> None:
        """What `zero_grad` does to a state. One that is not touched yet may have a gradient only if
        those from before the call count."""
        if self.gradients is not None:
            self.get_current_value(state)
        value = self._by_storage.get(id(state._value))
        if value is not None:
            value.grad = None

    def add_update(self, update: tuple[State, torch.Tensor]) -> None:
        variable, value = update
        with torch.no_grad():
            self.get_current_value(variable).copy_(value)


@contextlib.contextmanager
def traced_state(scope: CaptureScope) -> Iterator[None]:
    """`scope`, with everything that touches variables behind its back working on traced values."""
    with (
        patched(torch.nn.Module, "zero_grad", functools.partial(_zero_grad_in, scope)),
        patched(TorchModuleWrapper, "call", _call_with_variables),
        traced_modules(CaptureScope),
        traced_parameters(CaptureScope),
        patched(FunctionalTensor, "__getitem__", selecting),
        patched(FunctionalTensor, "data", _written_in_place),
        scope,
    ):
        yield


def _zero_grad_in(scope: CaptureScope, original: Callable) -> Callable:
    @functools.wraps(original)
    def zero_grad(module: torch.nn.Module, set_to_none: bool = True) -> None:
        current = get_stateless_scope()
        for state in states_of(module):
            (current if isinstance(current, CaptureScope) else scope).clear_gradient(state)

    return zero_grad


def _written_in_place(data: Any) -> Any:
    """`tensor.data`, but a new value is written to a traced tensor: torch would put another tensor in
    its place, of which the trace of a state knows nothing."""

    def write(tensor: torch.Tensor, value: torch.Tensor) -> None:
        if (tensor.shape, tensor.dtype) != (value.shape, value.dtype):
            raise RuntimeError("the data of a tensor is replaced by that of another shape or dtype")
        with torch.no_grad():
            tensor.copy_(value)

    return property(data.__get__, write)


def _call_with_variables(original: Callable) -> Callable:
    """A wrapped torch module's parameters are known by the names of their variables."""

    @functools.wraps(original)
    def call(layer: TorchModuleWrapper, *args: Any, **kwargs: Any) -> Any:
        for variable in layer.variables:
            get_stateless_scope().get_current_value(variable)
        return original(layer, *args, **kwargs)

    return call
