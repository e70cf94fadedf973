"""Keras variables during a capture: which ones a step touches, and their traced values."""

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from keras.src import backend, tree
from keras.src.backend import Variable
from keras.src.backend.common.stateless_scope import StatelessScope, get_stateless_scope
from keras.src.layers.layer import Layer
from keras.src.utils.torch_utils import TorchModuleWrapper
from torch.nn.utils.stateless import _reparametrize_module

from .provenance import patched


class CaptureScope(StatelessScope):
    """Reads and writes of every `keras.Variable` go to traced tensors; variables stay untouched.

    `lift(variable)` is called at the first touch of each variable, seed generators and metrics in
    closures included, and gives its traced tensor. That tensor stands for the variable's storage:
    an assignment copies into it, as the backend does outside of a scope, so `.grad`, in-place
    updates by optimizers and reads after writes behave as in op-by-op execution.
    """

    def __init__(self, lift: Callable[[Variable], torch.Tensor]) -> None:
        super().__init__(collect_losses=True, initialize_variables=False)
        self._lift = lift
        self.variables: list[Variable] = []

    def get_current_value(self, variable: Variable) -> torch.Tensor:
        value = self.state_mapping.get(id(variable))
        if value is None:
            value = self._lift(variable)
            self.state_mapping[id(variable)] = value
            self.variables.append(variable)
        return value

    def add_update(self, update: tuple[Variable, torch.Tensor]) -> None:
        variable, value = update
        with torch.no_grad():
            self.get_current_value(variable).copy_(value)


class BranchScope(CaptureScope):
    """One branch of a conditional: starts from copies of the outer scope's values."""

    def __init__(self, outer: StatelessScope) -> None:
        super().__init__(lambda variable: outer.get_current_value(variable).clone())
        self.losses = outer.losses


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
        patched(backend.core, "cond", functools.partial(_when_traced, traced_cond)),
        patched(backend.core, "switch", functools.partial(_when_traced, traced_switch)),
        scope,
    ):
        yield


def _zero_grad_in(scope: CaptureScope, original: Callable) -> Callable:
    @functools.wraps(original)
    def zero_grad(module: torch.nn.Module, set_to_none: bool = True) -> None:
        if not isinstance(module, Layer):
            return original(module, set_to_none)
        for variable in module.trainable_variables:
            value = scope.state_mapping.get(id(variable))
            if value is not None:
                value.grad = None
        return None

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
    """A wrapped torch module computes with its variables instead of its own parameters."""

    @functools.wraps(original)
    def call(layer: TorchModuleWrapper, *args: Any, **kwargs: Any) -> Any:
        if next(layer.module.buffers(), None) is not None:
            raise NotImplementedError("a torch module with buffers updates them out of sight")
        variables = {id(variable._value): variable for variable in layer.variables}
        values = {
            name: variables[id(parameter)].value
            for name, parameter in layer.module.named_parameters()
        }
        with _reparametrize_module(layer.module, values):
            return original(layer, *args, **kwargs)

    return call
