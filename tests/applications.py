"""The constructors of `keras.applications`, with drawn weights, on the smallest images they take."""

import types
from typing import Any

import keras
import numpy as np
from drawn_weights import draw_weights
from keras.src.applications import nasnet

NAMES = [name for name, value in sorted(vars(keras.applications).items()) if callable(value)]
# Float32 sums of up to some thousand products in another order, through up to 200 layers.
TOLERANCE = 2e-5
SMALLEST = 32
SIZES = {"InceptionResNetV2": 75, "InceptionV3": 75, "Xception": 71}
CLASSES = 10


def _allow_nasnet() -> None:
    """Keras refuses NASNetMobile by the name of its torch backend, which computes it all right."""
    view = types.ModuleType("backend")
    vars(view).update(vars(nasnet.backend), backend=lambda: "any")
    nasnet.backend = view


def run(name: str) -> tuple[list[np.ndarray], Any]:
    """The logits for one image, and the function that predicted them."""
    if keras.config.backend() != "triton":
        _allow_nasnet()
    size = SIZES.get(name, SMALLEST)
    shape = (size, size, 3)
    model = getattr(keras.applications, name)(
        weights=None, input_shape=shape, classes=CLASSES, classifier_activation=None
    )
    draw_weights(model)
    image = np.random.default_rng(1).uniform(0, 255, (1, *shape)).astype("float32")
    return [model.predict(image, verbose=0)], model.predict_function
