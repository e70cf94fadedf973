"""Models whose train steps the compiler is measured on: mixed_bfloat16 if not asked otherwise, Adam, data of
zeros.

The first four are one block each behind its usual head; the others are whole models of the usual sizes. Stacks
of one, two, four and more equal layers tell what grows with the layers.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import keras
import numpy as np
from keras import layers

Example: TypeAlias = tuple[keras.Model, Any, np.ndarray]
"""A compiled model, a batch of its inputs, and the targets."""

CLASSES = 10
BLOCKS = ("mlp", "transformer", "bottleneck", "gru")
HEAD = frozenset(["pooling", "logits", "loss", "metrics", "optimizer", "model"])
"""What stands around a block: layers by name, the parts of a step, and the model itself."""


def example(name: str, policy: str = "mixed_bfloat16") -> Example:
    """The model of this name under a policy; Keras's global one stays as it was.

    Raises:
        KeyError: no model has this name.
    """
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        keras.utils.set_random_seed(0)
        return (MODELS | STACKS)[name]()
    finally:
        keras.config.set_dtype_policy(before)


def _classifier(inputs: Any, features: Any, data: Any, classes: int = CLASSES) -> Example:
    """A model that names a class for each row of `features`."""
    logits = layers.Dense(classes, dtype="float32", name="logits")(features)
    model = keras.Model(inputs, logits, name="model")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(), loss, metrics=["accuracy"])
    rows = (data[0] if isinstance(data, list) else data).shape[0]
    return model, data, np.zeros((rows, *features.shape[1:-1]), "int32")


def _zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape, "float32")


def _tokens(*shape: int) -> np.ndarray:
    return np.zeros(shape, "int32")


def mlp() -> Example:
    """784-1024-1024-10 with layer normalization, GELU and dropout, batch 128."""
    inputs = x = keras.Input((784,))
    for _ in range(2):
        x = layers.LayerNormalization()(layers.Dense(1024)(x))
        x = layers.Dropout(0.1)(layers.Activation("gelu")(x))
    return _classifier(inputs, x, _zeros(128, 784))


def _encoder_block(x: Any, heads: int, causal: bool = False) -> Any:
    """Pre-norm: attention and a perceptron of four times the width, dropout, residuals."""
    width = x.shape[-1]
    h = layers.LayerNormalization()(x)
    h = layers.MultiHeadAttention(heads, width // heads)(h, h, use_causal_mask=causal)
    x = layers.Add()([x, layers.Dropout(0.1)(h)])
    h = layers.LayerNormalization()(x)
    h = layers.Dense(width)(layers.Dense(4 * width, activation="gelu")(h))
    return layers.Add()([x, layers.Dropout(0.1)(h)])


def transformer(blocks: int = 1) -> Example:
    """Pre-norm blocks of width 256 and 4 heads, length 128, batch 8."""
    inputs = x = keras.Input((128, 256))
    for _ in range(blocks):
        x = _encoder_block(x, 4)
    return _classifier(
        inputs, layers.GlobalAveragePooling1D(name="pooling")(x), _zeros(8, 128, 256)
    )


def bottleneck() -> Example:
    """One ResNet block 256-64-64-256 on 28 x 28, batch 16."""

    def convolved(x: Any, filters: int, size: int) -> Any:
        x = layers.Conv2D(filters, size, padding="same", use_bias=False)(x)
        return layers.BatchNormalization()(x)

    inputs = keras.Input((28, 28, 256))
    h = layers.ReLU()(convolved(inputs, 64, 1))
    h = layers.ReLU()(convolved(h, 64, 3))
    x = layers.ReLU()(layers.Add()([inputs, convolved(h, 256, 1)]))
    return _classifier(
        inputs, layers.GlobalAveragePooling2D(name="pooling")(x), _zeros(16, 28, 28, 256)
    )


def gru() -> Example:
    """One GRU of 64 units on 64 steps of 64, batch 32."""
    inputs = keras.Input((64, 64))
    return _classifier(inputs, layers.GRU(64)(inputs), _zeros(32, 64, 64))


class Places(layers.Layer):
    """Adds a learnt vector for each place of a sequence."""

    def build(self, shape: tuple[int, ...]) -> None:
        self.table = self.add_weight(shape=shape[1:], initializer="uniform")

    def call(self, x: Any) -> Any:
        return x + self.table


def _embedded(tokens: Any, vocabulary: int, width: int) -> Any:
    return Places()(layers.Embedding(vocabulary, width, name="tokens")(tokens))


def bert_base() -> Example:
    """12 blocks of width 768, 30522 tokens, length 128, batch 8; a classifier on the first place."""
    inputs = keras.Input((128,), dtype="int32")
    x = layers.Dropout(0.1)(layers.LayerNormalization()(_embedded(inputs, 30522, 768)))
    for _ in range(12):
        x = _encoder_block(x, 12)
    return _classifier(inputs, layers.LayerNormalization()(x)[:, 0], _tokens(8, 128))


def gpt2_small() -> Example:
    """12 causal blocks of width 768, 50257 tokens, length 256, batch 4; the next token everywhere."""
    inputs = keras.Input((256,), dtype="int32")
    x = layers.Dropout(0.1)(_embedded(inputs, 50257, 768))
    for _ in range(12):
        x = _encoder_block(x, 12, causal=True)
    return _classifier(inputs, layers.LayerNormalization()(x), _tokens(4, 256), 50257)


def resnet50() -> Example:
    """ResNet50 on 224 x 224, batch 8."""
    base = keras.applications.ResNet50(weights=None, include_top=False, pooling="avg")
    inputs = keras.Input((224, 224, 3))
    return _classifier(inputs, base(inputs), _zeros(8, 224, 224, 3), 1000)


def mobilenet_v3() -> Example:
    """MobileNetV3Small on 96 x 96, batch 8."""
    base = keras.applications.MobileNetV3Small(
        (96, 96, 3), weights=None, include_top=False, pooling="avg"
    )
    inputs = keras.Input((96, 96, 3))
    return _classifier(inputs, base(inputs), _zeros(8, 96, 96, 3))


def lstm_tagger() -> Example:
    """A tag for each of 64 of 10000 words by a two-way LSTM of 128, batch 32."""
    inputs = keras.Input((64,), dtype="int32")
    x = layers.Embedding(10000, 128)(inputs)
    x = layers.Bidirectional(layers.LSTM(128, return_sequences=True))(x)
    return _classifier(inputs, x, _tokens(32, 64), 17)


def dlrm() -> Example:
    """13 numbers and 26 categories of 10000, their products in pairs, two perceptrons; batch 2048."""
    numbers = keras.Input((13,))
    x = numbers
    for units in (512, 256, 64):
        x = layers.Dense(units, activation="relu")(x)
    categories = keras.Input((26,), dtype="int32")
    rows = keras.ops.arange(26) * 10000
    vectors = layers.Embedding(26 * 10000, 64)(categories + rows)
    every = layers.Concatenate(axis=1)([layers.Reshape((1, 64))(x), vectors])
    pairs = layers.Flatten()(keras.ops.matmul(every, keras.ops.swapaxes(every, 1, 2)))
    h = layers.Concatenate()([x, pairs])
    for units in (512, 256):
        h = layers.Dense(units, activation="relu")(h)
    return _classifier([numbers, categories], h, [_zeros(2048, 13), _tokens(2048, 26)])


MODELS: dict[str, Callable[[], Example]] = {
    make.__name__: make
    for make in (
        mlp,
        transformer,
        bottleneck,
        gru,
        bert_base,
        gpt2_small,
        resnet50,
        mobilenet_v3,
        lstm_tagger,
        dlrm,
    )
}
STACKS: dict[str, Callable[[], Example]] = {
    f"transformer_x{blocks}": partial(transformer, blocks) for blocks in (1, 2, 4, 8)
}
