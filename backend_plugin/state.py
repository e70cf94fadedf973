"""Keras variables during a capture: which ones a step touches, and their traced values."""

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from keras.src import backend, tree
from keras.src.backend.common.stateless_scope import StatelessScope, get_stateless_scope
from keras.src.utils.torch_utils import TorchModuleWrapper
from torch._subclasses.functional_tensor import FunctionalTensor

from .gradient_state import GradientState
from .indexing import selecting
from .module_state import State, states_of, traced_modules
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
        value = self.state_mapping.get(id(variable))
        if value is None:
            storage = id(variable._value)
            if storage not in self._by_storage:
                self._by_storage[storage] = self._lift(variable)
                self.variables.append(variable)
            value = self._by_storage[storage]
            self.state_mapping[id(variable)] = value
        return value

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


class BranchScope(CaptureScope):
    """One branch of a conditional: starts from copies of the outer scope's values."""

    def __init__(self, outer: CaptureScope) -> None:
        super().__init__(lambda variable: outer.get_current_value(variable).clone())
        self.losses = outer.losses
        self._outer = outer

    def clear_gradient(self, state: State) -> None:
        self._outer.clear_gradient(state)


def traced_cond(pred: Any, true_fn: Callable, false_fn: Callable) -> Any:
    """Both branches traced, results and variable updates selected by `pred`.

    Gradients of the branch not taken are multiplied by zero, so an infinite one becomes NaN: write
    such branches with a safe argument, as for `ops.where`.
    """
    pred = backend.convert_to_tensor(pred).to(torch.bool)
    outer = get_stateless_scope()
    with BranchScope(outer) as when_true:
        true_result = true_fn()
    with BranchScope(outer) as when_false:
        false_result = false_fn()
    touched = {id(v): v for v in when_true.variables + when_false.variables}
    for variable in touched.values():
        chosen = torch.where(
            pred, when_true.get_current_value(variable), when_false.get_current_value(variable)
        )
        outer.add_update((variable, chosen))
    return tree.map_structure(lambda a, b: _select(pred, a, b), true_result, false_result)


def traced_switch(index: Any, branches: Sequence[Callable], *operands: Any) -> Any:
    """Every branch traced, the one at `index` selected; `index` is clamped to the branches."""
    first, *rest = branches
    if not rest:
        return first(*operands)
    index = backend.convert_to_tensor(index)
    return traced_cond(
        index <= 0,
        lambda: first(*operands),
        lambda: traced_switch(index - 1, rest, *operands),
    )


def _select(pred: torch.Tensor, a: Any, b: Any) -> Any:
    if a is None and b is None:
        return None
    return torch.where(pred, backend.convert_to_tensor(a), backend.convert_to_tensor(b))


@contextlib.contextmanager
def traced_state(scope: CaptureScope) -> Iterator[None]:
    """`scope`, with everything that touches variables behind its back working on traced values."""
    with (
        patched(torch.nn.Module, "zero_grad", functools.partial(_zero_grad_in, scope)),
        patched(TorchModuleWrapper, "call", _call_with_variables),
        traced_modules(CaptureScope),
        patched(backend.core, "cond", functools.partial(_when_traced, traced_cond)),
        patched(FunctionalTensor, "__getitem__", selecting),
        patched(backend.core, "switch", functools.partial(_when_traced, traced_switch)),
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


def _when_traced(traced: Callable, original: Callable) -> Callable:
    @functools.wraps(original)
    def choose(selector: Any, *args: Any, **kwargs: Any) -> Any:
        # Symbolic shape inference and plain Python conditions keep the backend's own rule.
        known = not isinstance(selector, torch.Tensor) or selector.device.type == "meta"
        inside = isinstance(get_stateless_scope(), CaptureScope)
        return (traced if inside and not known else original)(selector, *args, **kwargs)

    return choose


def _call_with_variables(original: Callable) -> Callable:
    """A wrapped torch module's parameters are known by the names of their variables."""

    @functools.wraps(original)
    def call(layer: TorchModuleWrapper, *args: Any, **kwargs: Any) -> Any:
        for variable in layer.variables:
            get_stateless_scope().get_current_value(variable)
        return original(layer, *args, **kwargs)

    return call
