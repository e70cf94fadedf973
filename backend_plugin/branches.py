"""`ops.cond` and `ops.switch` while a step is captured: every branch traced, results selected."""

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from keras.src import tree
from keras.src.backend.common.stateless_scope import get_stateless_scope
from keras.src.backend.torch.ops.core import convert_to_tensor, is_tensor
from torch._subclasses.functional_tensor import FunctionalTensor
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from .module_state import State
from .provenance import patched_op
from .state import CaptureScope
from .tracing import writes

Written = dict[int, tuple[FunctionalTensor, torch.Tensor]]


@contextlib.contextmanager
def traced_branches() -> Iterator[None]:
    """Conditionals on tensors select between their branches."""
    with (
        patched_op("cond", functools.partial(_when_traced, traced_cond)),
        patched_op("switch", functools.partial(_when_traced, traced_switch)),
    ):
        yield


class BranchScope(CaptureScope):
    """One branch of a conditional: starts from copies of the outer scope's values."""

    def __init__(self, outer: CaptureScope) -> None:
        super().__init__(lambda variable: outer.get_current_value(variable).clone())
        self.losses = outer.losses
        self._outer = outer

    def clear_gradient(self, state: State) -> None:
        self._outer.clear_gradient(state)


class WrittenInBranch(TorchFunctionMode):
    """Tensors from outside of a branch that the branch writes to in place.

    Both branches are traced, and neither may see what the other wrote.
    """

    def __init__(self) -> None:
        super().__init__()
        self._made: dict[int, torch.Tensor] = {}
        # A tensor from outside, its value when it was first touched, and how often it was written to.
        self._touched: dict[int, tuple[FunctionalTensor, torch.Tensor, int]] = {}

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        pytree.tree_map_only(FunctionalTensor, self._touch, (args, kwargs))
        result = func(*args, **(kwargs or {}))
        pytree.tree_map_only(torch.Tensor, self._note, result)
        return result

    def _touch(self, tensor: FunctionalTensor) -> None:
        if id(tensor) not in self._made and id(tensor) not in self._touched:
            with torch._C.DisableTorchFunction():
                self._touched[id(tensor)] = tensor, tensor.clone(), writes(tensor)

    def _note(self, tensor: torch.Tensor) -> None:
        if id(tensor) not in self._touched:  # what an in-place op gives is what it was given
            self._made[id(tensor)] = tensor

    def undo(self, own: Iterable[torch.Tensor]) -> Written:
        """Puts the old values back; gives the tensors that had new ones, and those. `own`: tensors
        that belong to the branch although something beneath a call of torch made them."""
        ours = set(map(id, own))
        changed = [
            item
            for key, item in self._touched.items()
            if key not in ours and writes(item[0]) != item[2]
        ]
        written = {id(tensor): (tensor, tensor.clone()) for tensor, _, _ in changed}
        for tensor, before, _ in changed:
            tensor.copy_(before)
        return written


def traced_cond(pred: Any, true_fn: Callable, false_fn: Callable) -> Any:
    """Both branches traced; results, variable updates and tensors written to selected by `pred`.

    Gradients of the branch not taken are multiplied by zero, so an infinite one becomes NaN: write
    such branches with a safe argument, as for `ops.where`.
    """
    pred = convert_to_tensor(pred).to(torch.bool)
    outer = get_stateless_scope()
    assert isinstance(outer, CaptureScope), "no step is being captured"
    true_result, when_true, true_written = _trace(outer, true_fn)
    false_result, when_false, false_written = _trace(outer, false_fn)
    touched = {id(v): v for v in when_true.variables + when_false.variables}
    for variable in touched.values():
        chosen = torch.where(
            pred, when_true.get_current_value(variable), when_false.get_current_value(variable)
        )
        outer.add_update((variable, chosen))
    for key, (tensor, _) in {**true_written, **false_written}.items():
        _, if_true = true_written.get(key, (tensor, tensor))
        _, if_false = false_written.get(key, (tensor, tensor))
        tensor.copy_(torch.where(pred, if_true, if_false))
    return tree.map_structure(lambda a, b: _select(pred, a, b), true_result, false_result)


def _trace(outer: CaptureScope, branch: Callable) -> tuple[Any, BranchScope, Written]:
    """The result of a branch, its variables, and what it wrote to, which is undone."""
    with BranchScope(outer) as scope, WrittenInBranch() as tensors:
        result = branch()
    # Copies: what the result shares memory with may be one of the tensors that are put back.
    result = tree.map_structure(lambda x: x.clone() if is_tensor(x) else x, result)
    return result, scope, tensors.undo(scope.values())


def traced_switch(index: Any, branches: Sequence[Callable], *operands: Any) -> Any:
    """Every branch traced, the one at `index` selected; `index` is clamped to the branches."""
    first, *rest = branches
    if not rest:
        return first(*operands)
    index = convert_to_tensor(index)
    return traced_cond(
        index <= 0,
        lambda: first(*operands),
        lambda: traced_switch(index - 1, rest, *operands),
    )


def _select(pred: torch.Tensor, a: Any, b: Any) -> Any:
    if a is None and b is None:
        return None
    return torch.where(pred, convert_to_tensor(a), convert_to_tensor(b))


def _when_traced(traced: Callable, original: Callable) -> Callable:
    @functools.wraps(original)
    def choose(selector: Any, *args: Any, **kwargs: Any) -> Any:
        # Symbolic shape inference and plain Python conditions keep the backend's own rule.
        known = not isinstance(selector, torch.Tensor) or selector.device.type == "meta"
        inside = isinstance(get_stateless_scope(), CaptureScope)
        return (traced if inside and not known else original)(selector, *args, **kwargs)

    return choose
