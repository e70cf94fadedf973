"""`explain`: compiles a step for an example without running it, and says where every op went."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .report import Report


def explain(model_or_fn: Any, *example: Any) -> Report:
    """What becomes of a model's step or of a function, op by op.

    Args:
        model_or_fn: a Keras model, or a function of tensors written with `keras.ops`.
        example: a model takes `x` (its predict step is explained) or `x, y[, sample_weight]` (its
            train step); a function takes its arguments. Arrays or tensors; only shapes and dtypes
            matter.

    Returns:
        A `Report`: print it, or take its rows. Nothing is trained and no variable changes.

    Raises:
        CaptureError: the step cannot be captured; the sentence names the layer and the op.
        ValueError: targets for a model that was not compiled for training.
    """
    from .compile import compile_quietly

    return compile_quietly(capture_example(model_or_fn, *example)).report


def capture_example(model_or_fn: Any, *example: Any):
    """The captured step that `explain` explains."""
    import keras

    from .capture import capture

    tensors = tuple(keras.tree.map_structure(keras.ops.convert_to_tensor, item) for item in example)
    if not isinstance(model_or_fn, keras.Model):
        return capture(model_or_fn, tensors, name=getattr(model_or_fn, "__name__", "function"))
    name, step = _step_of(model_or_fn, tensors)
    data = tensors if len(tensors) > 1 else (tensors[0],)
    return capture(step, (data,), name=name)


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
