"""Trains a sample model from weights made by NumPy, so that every backend starts alike."""

import keras
import numpy as np

from keras_triton import samples

# As in examples/digits.py. Other batches can meet a step where a rounding decides which element of a
# pooling window is the largest; from there on losses differ by 1e-4 instead of 1e-6.
BATCH = 64


def run(name, steps):
    """The losses of `steps` steps of a model without dropout."""
    images, labels = samples.digits()
    x = images if name == "digits" else images.reshape(len(images), 64)
    model = (samples.digits_cnn if name == "digits" else samples.mlp)(dropout=False)
    generator = np.random.default_rng(5)
    for variable in model.trainable_variables:
        scale = 1.0 / np.sqrt(np.prod(variable.shape[:-1]) or 1.0)
        if len(variable.shape) > 1:
            variable.assign(generator.normal(0.0, scale, variable.shape).astype("float32"))
    assert keras.backend.backend() in ("triton", "torch")
    losses = []
    for step in range(steps):
        rows = np.arange(step * BATCH, (step + 1) * BATCH) % len(x)
        model.reset_metrics()
        losses.append(float(model.train_on_batch(x[rows], labels[rows])[0]))
    return losses
