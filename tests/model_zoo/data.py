"""Batches that NumPy draws, and the classifier that many models are."""

import keras
from keras import layers, losses, optimizers

BATCH, BATCHES = 6, 4


def batches_of(*makers):
    """`BATCHES` batches of the arrays that the makers give."""
    return [tuple(make() for make in makers) for _ in range(BATCHES)]


def normal(random, *shape):
    return lambda: random.normal(size=(BATCH, *shape)).astype(keras.config.floatx())


def classes(random, count, *shape):
    return lambda: random.integers(0, count, (BATCH, *shape)).astype("int32")


def crossentropy():
    return losses.SparseCategoricalCrossentropy(from_logits=True)


def classifier(random, parts, shape, optimizer=None, **options):
    """A stack of layers that ends in four logits, and its data."""
    made = keras.Sequential([keras.Input(shape), *parts, layers.Dense(4)])
    made.compile(optimizer or optimizers.Adam(0.01), crossentropy(), **options)
    return made, batches_of(normal(random, *shape), classes(random, 4))
