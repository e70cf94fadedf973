"""Weights that do not depend on the backend: Keras's own initializers draw differently in each."""

from typing import Any

import numpy as np


def draw_weights(model: Any) -> None:
    """Give every weight of `model` values of a trained net's size, the same in every process.

    Kernels keep the variance of what they multiply; scales and variances are around one. Integers,
    such as the states of seed generators, stay.
    """
    generator = np.random.default_rng(0)
    for variable in model.variables:
        if "float" in str(variable.dtype):
            variable.assign(_draw(generator, variable))


def _draw(generator: np.random.Generator, variable: Any) -> np.ndarray:
    unit = generator.random(variable.shape, dtype="float32")
    if "variance" in variable.name or "gamma" in variable.name:
        return unit + 0.5
    fan_in = int(np.prod(variable.shape[:-1])) if len(variable.shape) > 1 else 100
    return (unit - 0.5) * np.float32(np.sqrt(12 / max(fan_in, 1)))
