"""`explain`: compiles a step for an example without running it, and says where every op went."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch

from .captured import Captured
from .report import Report
from .settings import Settings
from .signature import Arguments
from .symbolic_size import Axes


def explain(model_or_fn: Any, *example: Any) -> Report:
    """What becomes of a model's step or of a function, op by op.

    Args:
        model_or_fn: a Keras model, or a function of tensors written with `keras.ops`.
        example: a model takes `x` (its predict step is explained) or `x, y[, sample_weight]` (its
            train step); a function takes its arguments. Arrays or tensors; only shapes and dtypes
            matter.

    Returns:
        A `Report`: print it, or take its rows. Nothing is trained and no variable changes. Gradients
        of a function are explained by `keras_triton.jit(fn).explain`.

    Raises:
        CaptureError: the step cannot be captured; the sentence names the layer and the op.
        ValueError: targets for a model that was not compiled for training.
    """
    return explain_captured(capture_example(model_or_fn, *example))


def explain_captured(captured: Captured, options: Settings | None = None) -> Report:
    """The report of a captured step, for the target that `options` (the process's if None) ask for."""
    from keras_triton.lowering.work import floor_of

    from .compile import compile_quietly, import_captured

    report = compile_quietly(captured, options, keep=True).report
    if report.is_whole_step_on_torch:
        return report
    return replace(report, floor=floor_of(import_captured(captured)))


def capture_example(model_or_fn: Any, *example: Any) -> Captured:
    """The captured step that `explain` explains."""
    called = example_of(model_or_fn, *example)
    with torch.set_grad_enabled(not called.free):
        return called.capture()


@dataclass(frozen=True)
class Example:
    """A step or function with arguments to try it on.

    Attributes:
        free: whether it is a free function; see `capture`.
    """

    name: str
    fn: Callable[..., Any]
    arguments: Arguments
    free: bool

    def capture(self, axes: Axes | None = None) -> Captured:
        """The captured step; the size of `axes` is open."""
        from .capture import capture

        args, kwargs = self.arguments.structure()
        return capture(self.fn, args, kwargs, name=self.name, free=self.free, axes=axes)


def example_of(model_or_fn: Any, *example: Any) -> Example:
    """The step or function that these arguments call for; a model is built for it.

    Raises:
        ValueError: targets for a model that was not compiled for training.
        NotExpressible: an argument is neither a tensor nor a fixed value.
    """
    import keras

    from .compiled_function import CompiledFunction
    from .jitted import name_of
    from .signature import sign

    options = {"static_objects": True, "differentiable": True}
    if isinstance(model_or_fn, CompiledFunction):
        model_or_fn = model_or_fn.fn
    if not isinstance(model_or_fn, keras.Model):
        arguments = sign((example, {}), **options)
        return Example(name_of(model_or_fn), model_or_fn, arguments, free=True)
    tensors = keras.tree.map_structure(keras.ops.convert_to_tensor, example)
    name, step = _step_of(model_or_fn, tensors)
    return Example(name, step, sign(((tensors,), {}), **options), free=False)


def _step_of(model: Any, tensors: tuple[Any, ...]) -> tuple[str, Callable]:
    """The step that the example calls for, on a model that is built."""
    if len(tensors) > 1:
        if not model.compiled:
            raise ValueError(f"{model.name} has no loss to train with: call model.compile first")
        model._symbolic_build(data_batch=tensors)
        return "train_step", model.train_step
    if not model.built:
        model(tensors[0])
    return "predict_step", model.predict_step
