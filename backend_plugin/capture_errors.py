"""Why a Keras step cannot be captured, in one sentence."""

import traceback
from collections.abc import Iterator

import numpy as np
import torch
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    UnsupportedOperatorException,
)

_LIBRARIES = tuple(path for module in (torch, np) for path in module.__path__)
VALUE_READ = "an `if`, `int()`, `float()` or `.item()` on a tensor needs its value"
_READ = torch.ops.aten._local_scalar_dense.default
_READ_VALUE = "trying to get value out of a tracing tensor"


class CaptureError(Exception):
    """A step cannot become one graph. The message names the step, the Keras layer, the op and why.

    Attributes:
        layer: Keras path of the layer, or "step".
        reason: the op and why it cannot be captured, without the step and the layer.
        transient: running the step once op by op may remove the cause.
    """

    def __init__(self, step: str, layer: str, reason: str, *, transient: bool = False) -> None:
        super().__init__(f"{step} cannot be captured: in {layer}, {reason}.")
        self.layer = layer
        self.reason = reason
        self.transient = transient


class LoopError(Exception):
    """A loop cannot be captured; the text is the reason, without the step and the layer.

    Attributes:
        unrolled: whether what it does can be captured step by step.
    """

    def __init__(self, reason: str, *, unrolled: bool = True) -> None:
        super().__init__(reason)
        self.unrolled = unrolled


def explain_failure(error: Exception, step: str, layer: str) -> CaptureError | None:
    """The `CaptureError` for an exception raised while tracing.

    None when tracing is not the cause, as for a shape mismatch that Keras finds.
    """
    # Innermost first: Keras rewraps errors with the arguments of every layer they pass.
    causes = list(_causes(error))[::-1]
    for cause in causes:
        if isinstance(cause, CaptureError):
            return cause
        reason = _reason(cause)
        if reason is not None:
            return CaptureError(step, layer, reason)
    if not isinstance(error, ValueError | TypeError) or _raised_by_library(error):
        return CaptureError(step, layer, reason_for(causes[0]))
    return None


def first_cause(error: BaseException) -> BaseException:
    """Where an exception came from: Keras rewraps errors in every layer they pass."""
    return list(_causes(error))[-1]


def reason_for(error: BaseException) -> str:
    """Why something cannot be traced, in a few words."""
    return _reason(error) or f"{type(error).__name__}: {_first_line(error)}"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    # Keras rewraps errors with `from None`, which keeps the original in __context__.
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _reason(error: BaseException) -> str | None:
    if isinstance(error, LoopError):
        return str(error)
    if isinstance(error, DataDependentOutputException):
        return VALUE_READ if error.func is _READ else f"{error.func} needs the value of a tensor"
    if isinstance(error, DynamicOutputShapeException):
        return f"the output shape of {error.func} depends on the values of a tensor"
    if isinstance(error, UnsupportedOperatorException):
        return f"{error.func} has no rule for shapes without values"
    if isinstance(error, RuntimeError):
        message = str(error)
        if _READ_VALUE in message:
            return VALUE_READ
        if "numpy" in message:
            return "a conversion to numpy needs the value of a tensor in Python"
    return None


def _raised_by_library(error: Exception) -> bool:
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and frames[-1].filename.startswith(_LIBRARIES)


def _first_line(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[0].strip().rstrip(".") if lines else "no message"
