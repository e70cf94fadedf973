"""Models of tokens and of series: attention, recurrence, causal convolution."""

import keras
from keras import layers, optimizers

from model_zoo.data import BATCH, batches_of, classes, classifier, crossentropy, normal
from model_zoo.registry import model


def _block(x, causal):
    attended = layers.MultiHeadAttention(2, 4)(x, x, use_causal_mask=causal)
    x = layers.LayerNormalization()(layers.Add()([x, attended]))
    hidden = layers.Dense(8)(layers.Dense(12, activation="gelu")(x))
    return layers.LayerNormalization()(layers.Add()([x, hidden]))


@model
def encoder(random):
    inputs = keras.Input((5,), dtype="int32")
    x = _block(layers.Embedding(11, 8)(inputs), causal=False)
    made = keras.Model(inputs, layers.Dense(4)(layers.GlobalAveragePooling1D()(x)))
    made.compile(optimizers.Adam(0.01), crossentropy())
    return made, batches_of(classes(random, 11, 5), classes(random, 4))


@model
def decoder(random):
    inputs = keras.Input((5,), dtype="int32")
    x = layers.Embedding(11, 8)(inputs)
    x = _block(_block(x, causal=True), causal=True)
    made = keras.Model(inputs, layers.Dense(11)(x))
    made.compile(optimizers.AdamW(0.01, weight_decay=0.01), crossentropy())
    return made, batches_of(classes(random, 11, 5), classes(random, 11, 5))


@model
def lstm(random):
    """Padded sequences: zeros are masked."""
    parts = [layers.Embedding(5, 4, mask_zero=True), layers.LSTM(5), layers.Dense(4)]
    made = keras.Sequential([keras.Input((5,), dtype="int32"), *parts])
    made.compile(optimizers.RMSprop(0.01, centered=True), crossentropy())
    return made, batches_of(classes(random, 5, 5), classes(random, 4))


@model
def gru(random):
    parts = [layers.Bidirectional(layers.GRU(3, return_sequences=True)), layers.Flatten()]
    return classifier(random, parts, (4, 3))


@model
def stateful_rnn(random):
    made = keras.Sequential(
        [
            keras.Input(batch_shape=(BATCH, 4, 3)),
            layers.SimpleRNN(4, stateful=True),
            layers.Dense(1),
        ]
    )
    made.compile(optimizers.SGD(0.05), "huber")
    return made, batches_of(normal(random, 4, 3), normal(random, 1))


@model
def conv_lstm(random):
    parts = [layers.ConvLSTM2D(2, 3), layers.Flatten()]
    return classifier(random, parts, (3, 5, 5, 1), optimizers.SGD(0.1))


@model
def temporal_convolution(random):
    parts = [
        layers.Conv1D(4, 2, padding="causal", activation="tanh"),
        layers.Conv1D(4, 2, padding="causal", dilation_rate=2, activation="elu"),
        layers.SpatialDropout1D(0.0),
        layers.GlobalAveragePooling1D(),
    ]
    return classifier(random, parts, (8, 3))
