"""The two models this project shows and checks itself with, on data that comes with scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np


def digits() -> tuple[np.ndarray, np.ndarray]:
    """1,797 scans of digits as float32 [N, 8, 8, 1] in 0..1 and int32 labels [N].

    Raises:
        ValueError: scikit-learn, which carries them, is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        sentence = "the built-in examples need scikit-learn: run `pip install scikit-learn`"
        raise ValueError(sentence) from None

    data = load_digits()
    return (data.images / 16.0).astype("float32")[..., None], data.target.astype("int32")


def digits_cnn(dropout: bool = True, optimizer: Any = "adam") -> Any:
    """A convolutional classifier of 8x8 images, compiled for training; `dropout=False` draws no
    random numbers.
    """
    import keras

    drop = keras.layers.Dropout if dropout else (lambda rate: keras.layers.Activation("linear"))
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(32, 3, padding="same", activation="relu"),
            keras.layers.BatchNormalization(),
            keras.layers.Conv2D(64, 3, padding="same", activation="relu"),
            keras.layers.MaxPooling2D(2),
            drop(0.25),
            keras.layers.Flatten(),
            keras.layers.Dense(128, activation="relu"),
            drop(0.5),
            keras.layers.Dense(10),
        ],
        name="digits",
    )
    return _compiled(model, optimizer)


def mlp(dropout: bool = True, optimizer: Any = "adam", features: int = 64, width: int = 128) -> Any:
    """A perceptron with LayerNormalization and Dropout over `features` inputs, compiled for
    training.
    """
    import keras

    layers: list[Any] = [keras.Input((features,))]
    for _ in range(2):
        layers += [
            keras.layers.Dense(width),
            keras.layers.LayerNormalization(),
            keras.layers.Activation("gelu"),
        ]
        layers += [keras.layers.Dropout(0.2)] if dropout else []
    return _compiled(keras.Sequential([*layers, keras.layers.Dense(10)], name="mlp"), optimizer)


def _compiled(model: Any, optimizer: Any) -> Any:
    import keras

    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=optimizer, loss=loss, metrics=["accuracy"])
    return model


def example(name: str, batch: int) -> tuple[Any, np.ndarray, np.ndarray]:
    """A built-in model by name ("digits" or "mlp") with `batch` real images and labels."""
    images, labels = digits()
    images, labels = images[:batch], labels[:batch]
    if name == "mlp":
        return mlp(), images.reshape(len(images), 64), labels
    return digits_cnn(), images, labels
