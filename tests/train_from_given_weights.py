"""Trains a sample model from weights made by NumPy, so that every backend starts alike."""

import contextlib

import keras
import numpy as np
from numerics import float64

from keras_triton import samples

BATCH = 64


def run(name, optimizer, floatx, steps):
    """The losses of `steps` steps of a model without dropout, under "adam" or plain "sgd"."""
    with float64() if floatx == "float64" else contextlib.nullcontext():
        return _train(name, optimizer, floatx, steps)


def _train(name, optimizer, floatx, steps):
    images, labels = samples.digits()
    images = images.astype(floatx)
    x = images if name == "digits" else images.reshape(len(images), 64)
    make = samples.digits_cnn if name == "digits" else samples.mlp
    chosen = keras.optimizers.SGD(0.02) if optimizer == "sgd" else keras.optimizers.Adam()
    model = make(dropout=False, optimizer=chosen)
    generator = np.random.default_rng(5)
    for variable in model.trainable_variables:
        if len(variable.shape) > 1:
            scale = 1.0 / np.sqrt(np.prod(variable.shape[:-1]))
            variable.assign(generator.normal(0.0, scale, variable.shape).astype(floatx))
    losses = []
    for step in range(steps):
        rows = np.arange(step * BATCH, (step + 1) * BATCH) % len(x)
        model.reset_metrics()
        losses.append(float(model.train_on_batch(x[rows], labels[rows])[0]))
    return losses
