"""Trained models of four kinds, written to a folder by one Keras backend and read by another.

`python exchange_models.py READ WRITE` computes under KERAS_BACKEND with the models in the folder
READ, into WRITE/read.npz, and then fills WRITE with models of its own.
"""

import pathlib
import sys

import keras
import numpy as np
from keras import layers

ROWS, LENGTH = 8, 4

_numbers = np.random.default_rng(0)


def cnn():
    return keras.Sequential(
        [
            keras.Input((12, 12, 3)),
            layers.Conv2D(6, 3, padding="same", use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.MaxPooling2D(),
            layers.SeparableConv2D(8, 3, strides=2, padding="same", activation="relu"),
            layers.AveragePooling2D(2, padding="same"),
            layers.Flatten(),
            layers.Dense(3, activation="softmax"),
        ]
    )


def recurrent():
    inputs = keras.Input((LENGTH,), dtype="int32")
    x = layers.Embedding(11, 5)(inputs)
    x = layers.LSTM(6, return_sequences=True)(x)
    x = layers.Bidirectional(layers.GRU(4))(x)
    return keras.Model(inputs, layers.Dense(3, activation="softmax")(x))


def transformer():
    inputs = keras.Input((LENGTH,), dtype="int32")
    x = layers.Embedding(11, 8)(inputs)
    attended = layers.MultiHeadAttention(2, 4)(x, x, use_causal_mask=True)
    # Layers throughout: Keras reads models with bare ops or masks from .keras files only.
    x = layers.LayerNormalization()(layers.add([x, attended]))
    forward = layers.Dense(8)(layers.Dense(16, activation="gelu")(x))
    x = layers.LayerNormalization()(layers.add([x, forward]))
    x = layers.GlobalAveragePooling1D()(x)
    return keras.Model(inputs, layers.Dense(3, activation="softmax")(x))


def several_outputs():
    a, b = keras.Input((4,), name="a"), keras.Input((5,), name="b")
    hidden = layers.concatenate([layers.Dense(6, activation="tanh")(a), layers.Dense(6)(b)])
    hidden = layers.UnitNormalization()(hidden)
    p = layers.Dense(3, activation="softmax", name="p")(hidden)
    q = layers.Dense(2, name="q")(hidden)
    return keras.Model([a, b], [p, q])


TOKENS = _numbers.integers(0, 11, (ROWS, LENGTH)).astype("int32")
CLASSES = np.eye(3, dtype="float32")[_numbers.integers(0, 3, ROWS)]
PAIR = [_numbers.normal(size=(ROWS, width)).astype("float32") for width in (4, 5)]
IMAGES = _numbers.normal(size=(ROWS, 12, 12, 3)).astype("float32")

# name: (what makes the model, inputs, targets)
MODELS = {
    "cnn": (cnn, IMAGES, CLASSES),
    "recurrent": (recurrent, TOKENS, CLASSES),
    "transformer": (transformer, TOKENS, CLASSES),
    "several_outputs": (several_outputs, PAIR, [CLASSES, PAIR[0][:, :2]]),
}
TRAINED_ON = "several_outputs"


def trained(name):
    """The model of that name after four steps of Adam."""
    keras.utils.set_random_seed(3)
    model = MODELS[name][0]()
    # An object: Keras cannot read the name "mse" back from an .h5 file.
    model.compile(keras.optimizers.Adam(0.01), keras.losses.MeanSquaredError())
    train(model, name)
    return model


def train(model, name):
    _, x, y = MODELS[name]
    model.fit(x, y, batch_size=4, epochs=2, shuffle=False, verbose=0)


def outputs(model, name):
    """What the model predicts: its outputs side by side, [ROWS, all of their widths]."""
    predicted = model.predict(MODELS[name][1], verbose=0)
    return np.concatenate(keras.tree.flatten(predicted), axis=-1)


def write(folder):
    """Saves a trained model of every kind in every format, and what it predicts; one of them is
    trained on then, which shows whether the optimizer was saved whole.
    """
    seen = {}
    for name in MODELS:
        model = trained(name)
        for suffix in ("keras", "h5"):
            model.save(folder / f"{name}.{suffix}")
        model.save_weights(folder / f"{name}.weights.h5")
        seen[name] = outputs(model, name)
        if name == TRAINED_ON:
            train(model, name)
            seen["trained on"] = outputs(model, name)
    np.savez(folder / "written.npz", **seen)


def read(folder):
    """What the models in a folder predict, of every format: what `written.npz` should hold."""
    seen = {}
    for name in MODELS:
        model = keras.saving.load_model(folder / f"{name}.h5")
        seen[f"{name}.h5"] = outputs(model, name)
        model = keras.saving.load_model(folder / f"{name}.keras")
        seen[f"{name}.keras"] = outputs(model, name)
        if name == TRAINED_ON:
            train(model, name)
            seen["trained on"] = outputs(model, name)
        model.set_weights([np.zeros(weight.shape) for weight in model.weights])
        model.load_weights(folder / f"{name}.weights.h5")
        seen[f"{name}.weights.h5"] = outputs(model, name)
    return seen


if __name__ == "__main__":
    ours, theirs = map(pathlib.Path, sys.argv[1:])
    np.savez(theirs / "read.npz", **read(ours))
    write(theirs)
