"""Rematerialization: a function that keeps its inputs only, and runs again in the backward pass.

The second run must see what the first one saw and leave no traces: it draws the same random numbers,
and moving averages and metrics count its batch once. So the first run notes which tensors it writes
to in place, as an assignment to a variable does, and what they held before.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.functional_tensor import FunctionalTensor
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree
from torch.utils.checkpoint import checkpoint

from keras_triton import torch_ops

Values = list[tuple[Tensor, Tensor]]
_IN_PLACE = ("__iadd__", "__isub__", "__imul__", "__itruediv__", "__setitem__")


def remat(f):
    def wrapped(*args, **kwargs):
        return checkpoint(_Twice(f), *args, use_reentrant=False, **kwargs)

    return wrapped


class _Twice:
    """`f`, whose second and later calls repeat the first."""

    def __init__(self, f: Callable[..., Any]) -> None:
        self._f = f
        self._before: Values | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._before is not None:
            # Without a barrier the compiler would find that all of it is computed already.
            args, kwargs = pytree.tree_map_only(FunctionalTensor, torch_ops.barrier, (args, kwargs))
            with _holding(self._before):
                return self._f(*args, **kwargs)
        with _Writes() as writes:
            result = self._f(*args, **kwargs)
        self._before = list(writes.before.values())
        return result


class _Writes(TorchFunctionMode):
    """Notes what tensors held before they were first written to in place."""

    def __init__(self) -> None:
        super().__init__()
        self.before: dict[int, tuple[Tensor, Tensor]] = {}

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        written = args[0] if args and _is_in_place(func) else None
        # What has a history was made inside.
        if isinstance(written, Tensor) and written.grad_fn is None:
            with torch._C.DisableTorchFunction():
                self.before.setdefault(id(written), (written, written.detach().clone()))
        return func(*args, **(kwargs or {}))


def _is_in_place(func: Callable) -> bool:
    name = getattr(func, "__name__", "")
    return name in _IN_PLACE or (name.endswith("_") and not name.endswith("__"))


@contextlib.contextmanager
def _holding(values: Values) -> Iterator[None]:
    """Tensors hold these values inside, and their own again afterwards."""
    own = [(tensor, tensor.detach().clone()) for tensor, _ in values]
    _put(values)
    try:
        yield
    finally:
        _put(own)


@torch.no_grad()
def _put(values: Values) -> None:
    for tensor, value in values:
        # Autograd does not mind: whoever saved the tensor sees its own value again.
        with torch.autograd._unsafe_preserve_version_counter(tensor):
            tensor.copy_(value)
