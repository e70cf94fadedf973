"""`keras_triton.jit`: any function of Keras ops and variables, compiled."""

from __future__ import annotations

import contextlib
import functools
import inspect
import types
from collections.abc import Callable
from typing import Any, overload

from keras.src.layers.layer import Layer

from .compiled_function import CompiledFunction
from .report import Report
from .signature import sign


class Jitted(CompiledFunction):
    """A function, layer or model that `jit` has made fast; called as the original is."""

    def __init__(self, fn: Callable[..., Any], name: str) -> None:
        super().__init__(fn, name, layer=_layer_of(fn))
        self.__name__ = name
        functools.update_wrapper(self, fn, updated=())
        with contextlib.suppress(TypeError, ValueError):  # not written in Python
            self.__signature__ = inspect.signature(fn)

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        """In a class, the function becomes a method; `self` is a fixed argument."""
        return self if instance is None else types.MethodType(self, instance)

    def explain(self, *args: Any, **kwargs: Any) -> Report:
        """What becomes of each op for these arguments, gradients included if they are enabled.

        Nothing runs and no variable changes.

        Raises:
            CaptureError: the function cannot be captured; the sentence names the layer and the op.
        """
        from .compile import compile_quietly

        arguments = sign((args, kwargs), static_objects=True, differentiable=True)
        captured = self.capture(arguments)
        report = compile_quietly(captured, keep=True).report
        if captured.backward is None:
            return report
        return report.followed_by(compile_quietly(captured.backward.captured, keep=True).report)


@overload
def jit(fn: Callable[..., Any], *, name: str | None = None) -> Jitted: ...
@overload
def jit(fn: None = None, *, name: str | None = None) -> Callable[[Callable[..., Any]], Jitted]: ...
def jit(fn=None, *, name=None):
    """Compiles a function: captured once for each signature of its arguments, then only called.

    `fn` may be a function, a bound method, a Keras layer or model, or a torch module; as a decorator
    `jit` goes with and without parentheses. The result is called as `fn` is and has `counts`,
    `captured`, `refused` and `explain(*args)`.

    * Arguments and results are nested containers. Tensors and NumPy arrays are data: a new shape or
      dtype compiles anew. Everything else is fixed: numbers, strings and None by value, other
      objects by their own `==`, Keras variables and torch modules by identity. The programs of 64
      signatures are kept. After the eighth, a new signature runs op by op until it has come again,
      the more often the more there are: shapes that change from call to call are not compiled.
    * Keras variables, seed generators, and the parameters and buffers of torch modules are read at
      each call and hold their new values after it, wherever `fn` finds them. Other trainable flags,
      another `training` mode and another dtype of a storage compile anew.
    * Where gradients are enabled, results can be differentiated, once, with respect to arguments and
      parameters; `.grad` may also be read and written inside.
    * What `fn` finds elsewhere is fixed when it is captured: Python values in closures and
      attributes, and the identity of tensors, whose contents are read at each call.
    * Effects besides on the above do not show: an argument that is written to is refused; prints,
      attributes and `layer.losses` are set while capturing only.

    A function that cannot be captured runs op by op, with one warning that names the layer and why.
    Inside of another capture, of a model being built, or of torch's own tracing, it is just `fn`.

    Args:
        fn: what to compile; None makes a decorator.
        name: what reports call it; that of `fn` if None.

    Raises:
        TypeError: `fn` cannot be called.
    """
    if fn is None:
        return functools.partial(jit, name=name)
    if not callable(fn):
        raise TypeError(f"jit takes a function, a layer or a module, not {fn!r}")
    return Jitted(fn, name or name_of(fn))


def name_of(fn: Callable[..., Any]) -> str:
    """What reports call a function, a layer or a module."""
    if isinstance(fn, Layer):
        return fn.name
    return getattr(fn, "__name__", type(fn).__name__)


def _layer_of(fn: Callable[..., Any]) -> Layer | None:
    """The layer that has to be built before there is anything to capture."""
    for candidate in (fn, getattr(fn, "__self__", None)):
        if isinstance(candidate, Layer):
            return candidate
    return None
