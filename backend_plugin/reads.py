"""What Python reads from tensors of a step under capture.

A size put together by ops, as in `tile(mask, concatenate([[batch_size], [1, 1]]))`, is a tensor that
Python asks for its value. No input has a part in it, so it can be told.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch._subclasses.functional_tensor import FunctionalTensor, FunctionalTensorMode
from torch.utils._python_dispatch import _disable_current_modes

from .known_values import known_value
from .provenance import patched


@contextlib.contextmanager
def readable_values() -> Iterator[None]:
    """Tensors whose values are known give them to Python; others raise what they raise without this.

    `item`, and with it what Python and torch do with a scalar, is one op: it is met where ops are.
    """
    with (
        patched(FunctionalTensorMode, "__torch_dispatch__", _reading_scalars),
        patched(FunctionalTensor, "numpy", functools.partial(_reading, torch.Tensor.numpy)),
        patched(FunctionalTensor, "tolist", functools.partial(_reading, torch.Tensor.tolist)),
    ):
        yield


def _reading_scalars(original: Callable) -> Callable:
    @functools.wraps(original)
    def dispatch(mode: Any, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            value = known_value(args[0])
            if value is not None:
                with _disable_current_modes():
                    return value.item()
        return original(mode, func, types, args, kwargs)

    return dispatch


def _reading(read: Callable[[torch.Tensor], Any], original: Callable) -> Callable:
    @functools.wraps(original)
    def call(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        value = known_value(tensor)
        if value is None:
            return original(tensor, *args, **kwargs)
        with _disable_current_modes():
            return read(value)

    return call
