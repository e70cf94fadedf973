"""Exported programs hold torch's own operators only: they load where this package is not installed.

While torch exports a model (``torch.export``, ``torch.onnx``, ``torch.jit.trace``), every op of ours
gives way to the op of that name in Keras's torch backend.
"""

import functools
import importlib
import inspect
from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch


def exporting() -> bool:
    """Whether torch is recording a program for use outside of this process."""
    return torch.compiler.is_exporting() or torch.jit.is_tracing()


def give_way(ours: ModuleType) -> None:
    """Let the functions of a module of ours give way to their originals while torch exports.

    Args:
        ours: a module or package named like its counterpart in ``keras.src.backend.torch``, such as
            ``ops.nn``. A function that the counterpart lacks stays as it is.
    """
    counterpart = ours.__name__.partition(".src.")[2]
    torchs = importlib.import_module(f"keras.src.backend.torch.{counterpart}")
    for name, function in list(vars(ours).items()):
        original = getattr(torchs, name, function)
        if inspect.isfunction(function) and function is not original:
            setattr(ours, name, _giving_way(function, original))


def _giving_way(function: Callable[..., Any], original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def choose(*args: Any, **kwargs: Any) -> Any:
        return (original if exporting() else function)(*args, **kwargs)

    return choose
