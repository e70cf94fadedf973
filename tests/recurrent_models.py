"""Small recurrent models in float64, for any backend of Keras on torch tensors."""

import keras
import numpy as np
from keras import layers, ops
from numerics import float64

BATCH, TIME, FEATURES = 5, 6, 3
STEPS = 3


class CountingCell(layers.Layer):
    """A cell with a Dropout layer of its own, that counts its steps and adds a loss in each."""

    def __init__(self, units=4):
        super().__init__()
        self.units = self.state_size = units
        self.dropout = layers.Dropout(0.3, seed=3)

    def build(self, input_shape):
        self.kernel = self.add_weight(shape=(input_shape[-1], self.units), name="kernel")
        self.recurrent = self.add_weight(shape=(self.units, self.units), name="recurrent")
        self.count = self.add_weight(shape=(), initializer="zeros", trainable=False, name="count")
        self.built = True

    def call(self, x, states, training=False):
        self.count.assign_add(1.0)
        x = ops.matmul(self.dropout(x, training=training), self.kernel)
        h = ops.tanh(x + ops.matmul(states[0], self.recurrent) + 0.1 * self.count)
        self.add_loss(0.01 * ops.sum(ops.square(h)))
        return 2.0 * h, [h]


class WithState(layers.Layer):
    """Both the outputs and the states of a recurrent layer, from states given to it."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer
        self.start = layers.Dense(4)

    def build(self, input_shape):
        self.layer.build(input_shape)
        self.start.build((input_shape[0], input_shape[-1]))
        self.built = True

    def call(self, x):
        start = self.start(x[:, 0])
        outputs, h, c = self.layer(x, initial_state=[start, 2.0 * start])
        return ops.concatenate([outputs[:, -1], outputs[:, 1], h, c], axis=-1)


def masked(*following):
    return [layers.Masking(0.0), *following]


def plain_rnn(cell, **options):
    return layers.RNN(cell, return_sequences=True, **options)


# Name of a case: the layers before the last Dense one.
CASES = {
    "simple": lambda: [layers.SimpleRNN(4)],
    "lstm": lambda: [layers.LSTM(4)],
    "lstm without bias": lambda: [layers.LSTM(4, use_bias=False, activation="relu")],
    "lstm of all times": lambda: [layers.LSTM(4, return_sequences=True)],
    "lstm, masked": lambda: masked(layers.LSTM(4)),
    "lstm of all times, masked": lambda: masked(layers.LSTM(4, return_sequences=True)),
    "lstm with dropout": lambda: [layers.LSTM(4, dropout=0.3, seed=1)],
    "lstm with states": lambda: [
        WithState(layers.LSTM(4, return_sequences=True, return_state=True))
    ],
    "stateful lstm": lambda: [layers.LSTM(4, stateful=True)],
    "unrolled lstm": lambda: [layers.LSTM(4, unroll=True)],
    "gru": lambda: [layers.GRU(4)],
    "gru, reset before": lambda: [layers.GRU(4, reset_after=False)],
    "gru, backwards": lambda: [layers.GRU(4, return_sequences=True, go_backwards=True)],
    "gru, backwards and masked": lambda: masked(
        layers.GRU(4, return_sequences=True, go_backwards=True)
    ),
    "gru with both dropouts": lambda: [layers.GRU(4, dropout=0.3, recurrent_dropout=0.2, seed=1)],
    "stateful gru, masked": lambda: masked(layers.GRU(4, stateful=True)),
    "bidirectional": lambda: [layers.Bidirectional(layers.LSTM(4, return_sequences=True))],
    "bidirectional, masked": lambda: masked(layers.Bidirectional(layers.GRU(4), merge_mode="sum")),
    "zeros for masked": lambda: masked(
        plain_rnn(layers.SimpleRNNCell(4), zero_output_for_mask=True)
    ),
    "stacked cells": lambda: [
        layers.RNN([layers.LSTMCell(4, dropout=0.2, seed=1), layers.GRUCell(3)])
    ],
    "own cell": lambda: [plain_rnn(CountingCell())],
    "own cell, masked": lambda: masked(layers.RNN(CountingCell())),
    "three layers": lambda: [
        layers.LSTM(4, return_sequences=True),
        layers.LSTM(3, return_sequences=True),
        layers.GRU(3),
    ],
    "every time alike": lambda: [layers.TimeDistributed(layers.Dense(3)), layers.SimpleRNN(3)],
    "convolutional": lambda: [
        layers.Reshape((TIME, 1, FEATURES, 1)),
        layers.ConvLSTM2D(2, (1, 2), padding="same"),
    ],
}
# What Keras on torch computes alike: it draws other random numbers, calls a step function once more
# than there are steps, and cannot train a stateful LSTM.
ALIKE_ON_TORCH = (
    "lstm of all times, masked",
    "gru, backwards and masked",
    "bidirectional, masked",
    "zeros for masked",
    "convolutional",
)


def build(name, time=TIME):
    """The compiled model of a case, with weights drawn by NumPy."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input(batch_shape=(BATCH, time, FEATURES))
    model = keras.Sequential([inputs, *CASES[name](), layers.Flatten(), layers.Dense(2)])
    generator = np.random.default_rng(1)
    for variable in model.trainable_variables:
        variable.assign(generator.normal(0.0, 0.5, variable.shape))
    model.compile(keras.optimizers.SGD(0.05, momentum=0.9), "mse")
    return model


def data(time=TIME):
    """Inputs with some time steps zero, which are masked, and targets."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(BATCH, time, FEATURES))
    x[0, :2] = x[1, -2:] = x[2, 3] = 0.0
    return x, generator.normal(size=(BATCH, 2))


def train(model):
    """Some steps; then all variables and a prediction."""
    x, y = data()
    for _ in range(STEPS):
        model.train_on_batch(x, y)
    prediction = model.predict_on_batch(x)
    return [*(keras.ops.convert_to_numpy(variable) for variable in model.variables), prediction]


def results_on(names):
    """What `train` gives for some cases, as nested lists."""
    with float64():
        return {name: [array.tolist() for array in train(build(name))] for name in names}
