"""Thirty-odd small models that between them use every kind of training Keras has.

Each is built alike on every backend: data and initial weights come from NumPy, nothing from Keras's
initializers. Where a model draws random numbers, `DRAWS` says so: backends draw different ones.
"""

import zlib
from collections.abc import Callable

import keras
import numpy as np
import torch
from keras import layers, losses, ops, optimizers

BATCH, BATCHES = 6, 4
MODELS: dict[str, Callable] = {}
DRAWS: set[str] = set()


def model(make=None, *, draws=False):
    """Registers a maker: `make(random)` gives a compiled model and its batches (x, y[, weights])."""
    if make is None:
        return lambda make: model(make, draws=draws)
    MODELS[make.__name__] = make
    if draws:
        DRAWS.add(make.__name__)
    return make


def train(name, steps, eagerly):
    """Trains a model of the zoo in the floatx in force.

    Returns the losses of each step, and the model's variables after the last.
    """
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(7)
    random = np.random.default_rng(zlib.crc32(name.encode()))
    made, batches = MODELS[name](random)
    made.run_eagerly = eagerly
    for variable in made.variables:
        if variable.trainable or len(variable.shape) > 1:
            variable.assign(_initial(variable, random))
    found = []
    for step in range(steps):
        x, y, *weights = batches[step % len(batches)]
        made.reset_metrics()
        logs = made.train_on_batch(x, y, *weights, return_dict=True)
        found.append([float(logs[key]) for key in sorted(logs) if "loss" in key])
    if not eagerly and keras.backend.backend() == "triton":
        counts = made.train_function.step.counts
        assert (counts.compiled, counts.op_by_op) == (steps, 0), counts
    kept = [np.asarray(v.numpy()) for v in made.variables if "seed" not in v.path]
    return np.array(found), kept


def _initial(variable, random):
    """Scaled by the fan-in; vectors stay near what their initializer gave, but no two entries equal,
    for ties would be broken by rounding."""
    shape = tuple(variable.shape)
    if len(shape) > 1:
        return random.normal(0.0, 1.0 / np.sqrt(np.prod(shape[:-1])), shape)
    return np.asarray(variable.numpy(), "float64") + random.normal(0.0, 0.05, shape)


def _batches(*makers):
    """`BATCHES` batches of the arrays that the makers give."""
    return [tuple(make() for make in makers) for _ in range(BATCHES)]


def _normal(random, *shape):
    return lambda: random.normal(size=(BATCH, *shape)).astype(keras.config.floatx())


def _classes(random, count, *shape):
    return lambda: random.integers(0, count, (BATCH, *shape)).astype("int32")


def _crossentropy():
    return losses.SparseCategoricalCrossentropy(from_logits=True)


def _classifier(random, parts, shape, optimizer=None, **options):
    """A stack of layers that ends in four logits, and its data."""
    made = keras.Sequential([keras.Input(shape), *parts, layers.Dense(4)])
    made.compile(optimizer or optimizers.Adam(0.01), _crossentropy(), **options)
    return made, _batches(_normal(random, *shape), _classes(random, 4))


# Vision


@model
def cnn(random):
    parts = [
        layers.Conv2D(4, 3, padding="same", use_bias=False),
        layers.BatchNormalization(),
        layers.ReLU(),
        layers.MaxPooling2D(2),
        layers.Conv2D(6, 3, strides=2, activation="relu"),
        layers.Flatten(),
    ]
    return _classifier(random, parts, (8, 8, 2), optimizers.SGD(0.05, momentum=0.9))


def _inverted_residual(x, width, stride):
    hidden = layers.Conv2D(2 * x.shape[-1], 1, use_bias=False)(x)
    hidden = layers.Activation("hard_swish")(layers.BatchNormalization()(hidden))
    hidden = layers.DepthwiseConv2D(3, stride, padding="same", use_bias=False)(hidden)
    hidden = layers.Activation("hard_swish")(layers.BatchNormalization()(hidden))
    gate = layers.GlobalAveragePooling2D(keepdims=True)(hidden)
    gate = layers.Conv2D(2, 1, activation="relu")(gate)
    gate = layers.Conv2D(hidden.shape[-1], 1, activation="hard_sigmoid")(gate)
    hidden = layers.Multiply()([hidden, gate])
    hidden = layers.BatchNormalization()(layers.Conv2D(width, 1, use_bias=False)(hidden))
    return layers.Add()([x, hidden]) if stride == 1 and x.shape[-1] == width else hidden


@model
def mobilenet(random):
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, 2, padding="same", activation="hard_swish")(inputs)
    x = _inverted_residual(_inverted_residual(x, 4, 1), 6, 2)
    made = keras.Model(inputs, layers.Dense(4)(layers.GlobalAveragePooling2D()(x)))
    made.compile(optimizers.RMSprop(0.002, momentum=0.9), _crossentropy())
    return made, _batches(_normal(random, 8, 8, 3), _classes(random, 4))


def _residual(x, width, stride):
    def norm(x):
        return layers.BatchNormalization(epsilon=1e-3)(x)

    hidden = layers.Conv2D(width, 3, stride, padding="same", use_bias=False)(x)
    hidden = layers.ReLU()(norm(hidden))
    hidden = norm(layers.Conv2D(width, 3, padding="same", use_bias=False)(hidden))
    if stride > 1:
        x = norm(layers.Conv2D(width, 1, stride, use_bias=False)(x))
    return layers.ReLU()(layers.Add()([x, hidden]))


@model
def resnet(random):
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, padding="same", activation="relu")(inputs)
    x = layers.MaxPooling2D(3, 2, padding="same")(x)
    x = _residual(_residual(x, 4, 1), 8, 2)
    made = keras.Model(inputs, layers.Dense(4)(layers.GlobalAveragePooling2D()(x)))
    made.compile(optimizers.SGD(0.05, momentum=0.9, nesterov=True), _crossentropy())
    return made, _batches(_normal(random, 8, 8, 3), _classes(random, 4))


@model
def unet(random):
    inputs = keras.Input((8, 8, 1))
    first = layers.Conv2D(3, 3, padding="same", activation="relu")(inputs)
    low = layers.Conv2D(4, 3, padding="same", activation="relu")(layers.AveragePooling2D(2)(first))
    up = layers.Conv2DTranspose(3, 2, 2)(low)
    wide = layers.UpSampling2D(2)(layers.ZeroPadding2D(1)(layers.Cropping2D(1)(low)))
    outputs = layers.Conv2D(1, 1)(layers.Concatenate()([first, up, wide]))
    made = keras.Model(inputs, outputs)
    made.compile(optimizers.Adam(0.01), "mse")
    return made, _batches(_normal(random, 8, 8, 1), _normal(random, 8, 8, 1))


@model
def normalizations(random):
    parts = [
        layers.SeparableConv2D(4, 3, activation="silu"),
        layers.GroupNormalization(2),
        layers.UnitNormalization(),
        layers.GlobalMaxPooling2D(),
        layers.RMSNormalization(),
        layers.Dense(6, activation="selu"),
    ]
    return _classifier(random, parts, (6, 6, 2))


@model
def frozen_backbone(random):
    backbone = keras.Sequential(
        [keras.Input((6, 6, 2)), layers.Conv2D(3, 3), layers.BatchNormalization()]
    )
    backbone.trainable = False
    return _classifier(random, [backbone, layers.Flatten()], (6, 6, 2), optimizers.SGD(0.1))


# Sequences


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
    made.compile(optimizers.Adam(0.01), _crossentropy())
    return made, _batches(_classes(random, 11, 5), _classes(random, 4))


@model
def decoder(random):
    inputs = keras.Input((5,), dtype="int32")
    x = layers.Embedding(11, 8)(inputs)
    x = _block(_block(x, causal=True), causal=True)
    made = keras.Model(inputs, layers.Dense(11)(x))
    made.compile(optimizers.AdamW(0.01, weight_decay=0.01), _crossentropy())
    return made, _batches(_classes(random, 11, 5), _classes(random, 11, 5))


@model
def lstm(random):
    """Padded sequences: zeros are masked."""
    parts = [layers.Embedding(5, 4, mask_zero=True), layers.LSTM(5), layers.Dense(4)]
    made = keras.Sequential([keras.Input((5,), dtype="int32"), *parts])
    made.compile(optimizers.RMSprop(0.01, centered=True), _crossentropy())
    return made, _batches(_classes(random, 5, 5), _classes(random, 4))


@model
def gru(random):
    parts = [layers.Bidirectional(layers.GRU(3, return_sequences=True)), layers.Flatten()]
    return _classifier(random, parts, (4, 3))


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
    return made, _batches(_normal(random, 4, 3), _normal(random, 1))


@model
def conv_lstm(random):
    parts = [layers.ConvLSTM2D(2, 3), layers.Flatten()]
    return _classifier(random, parts, (3, 5, 5, 1), optimizers.SGD(0.1))


@model
def temporal_convolution(random):
    parts = [
        layers.Conv1D(4, 2, padding="causal", activation="tanh"),
        layers.Conv1D(4, 2, padding="causal", dilation_rate=2, activation="elu"),
        layers.SpatialDropout1D(0.0),
        layers.GlobalAveragePooling1D(),
    ]
    return _classifier(random, parts, (8, 3))


# Ways to train


class Adversaries(keras.Model):
    """A generator and a judge, each with an optimizer; the noise comes with the data."""

    def __init__(self):
        super().__init__()
        self.generator = keras.Sequential(
            [keras.Input((3,)), layers.Dense(6, activation="leaky_relu"), layers.Dense(4)]
        )
        self.judge = keras.Sequential(
            [keras.Input((4,)), layers.Dense(6, activation="tanh"), layers.Dense(1)]
        )
        self.error = losses.BinaryCrossentropy(from_logits=True)
        self.judge_optimizer = optimizers.Adam(0.01)
        self.built = True

    def train_step(self, data):
        real, noise, _ = keras.utils.unpack_x_y_sample_weight(data)
        ones, zeros = ops.ones((BATCH, 1)), ops.zeros((BATCH, 1))
        self.zero_grad()
        judged = self.judge(self.generator(noise).detach())
        judge_loss = self.error(ones, self.judge(real)) + self.error(zeros, judged)
        self._descend(judge_loss, self.judge, self.judge_optimizer)
        self.zero_grad()
        loss = self.error(ones, self.judge(self.generator(noise)))
        self._descend(loss, self.generator, self.optimizer)
        return {"judge_loss": judge_loss, "loss": loss}

    def _descend(self, loss, part, optimizer):
        loss.backward()
        variables = part.trainable_variables
        with torch.no_grad():
            optimizer.apply([v.value.grad for v in variables], variables)


@model
def gan(random):
    made = Adversaries()
    made.compile(optimizers.Adam(0.01, beta_1=0.5))
    made.optimizer.build(made.generator.trainable_variables)
    made.judge_optimizer.build(made.judge.trainable_variables)
    return made, _batches(_normal(random, 4), _normal(random, 3))


class Sampling(layers.Layer):
    """Draws a code, and adds its divergence from a standard normal one to the loss."""

    def __init__(self):
        super().__init__()
        self.seed = keras.random.SeedGenerator(3)

    def call(self, inputs):
        mean, log_variance = ops.split(inputs, 2, axis=-1)
        divergence = 1 + log_variance - ops.square(mean) - ops.exp(log_variance)
        self.add_loss(-0.5 * ops.mean(divergence))
        noise = keras.random.normal(ops.shape(mean), seed=self.seed, dtype=mean.dtype)
        return mean + ops.exp(0.5 * log_variance) * noise


@model(draws=True)
def vae(random):
    made = keras.Sequential(
        [keras.Input((6,)), layers.Dense(4), Sampling(), layers.Dense(6, activation="sigmoid")]
    )
    made.compile(optimizers.Adam(0.01), "binary_crossentropy")

    def image():
        return random.uniform(size=(BATCH, 6)).astype(keras.config.floatx())

    return made, [(x, x) for (x,) in _batches(image)]


@model(draws=True)
def noisy(random):
    parts = [
        layers.GaussianNoise(0.1, seed=1),
        layers.Dense(8, activation="relu"),
        layers.Dropout(0.3, seed=2),
        layers.AlphaDropout(0.1, seed=3),
    ]
    return _classifier(random, parts, (5,))


@model
def towers(random):
    """Named inputs and outputs, shared layers, weights for losses and samples, metrics."""
    left, right = keras.Input((3,), name="left"), keras.Input((3,), name="right")
    shared = layers.Dense(4, activation="softplus")
    both = [shared(left), shared(right)]
    outputs = {
        "near": layers.Dot(1, normalize=True, name="near")(both),
        "kind": layers.Dense(4, name="kind")(layers.Average()(both)),
    }
    made = keras.Model({"left": left, "right": right}, outputs)
    made.compile(
        optimizers.Adam(0.01),
        {"near": "mae", "kind": _crossentropy()},
        loss_weights={"near": 0.3, "kind": 1.0},
        metrics={"kind": ["accuracy"]},
    )
    x, near, kind = _normal(random, 3), _normal(random, 1), _classes(random, 4)

    def weights():
        return random.uniform(size=BATCH).astype(keras.config.floatx())

    batches = [
        (
            {"left": x(), "right": x()},
            {"near": near(), "kind": kind()},
            {"near": weights(), "kind": weights()},
        )
        for _ in range(BATCHES)
    ]
    return made, batches


@model
def regularized(random):
    """Regularizers, constraints, an activity penalty, label smoothing."""
    made = keras.Sequential(
        [
            keras.Input((5,)),
            layers.Dense(6, "mish", kernel_regularizer="l1l2", kernel_constraint="max_norm"),
            layers.ActivityRegularization(l2=0.01),
            layers.Dense(4, "softmax", kernel_constraint=keras.constraints.UnitNorm()),
        ]
    )
    loss = losses.CategoricalCrossentropy(label_smoothing=0.1)
    made.compile(optimizers.SGD(0.1), loss, metrics=["auc", "f1_score"])
    batches = _batches(_normal(random, 5), _classes(random, 4))
    return made, [(x, keras.utils.to_categorical(y, 4).astype(x.dtype)) for x, y in batches]


class Gate(layers.Layer):
    """A branch on the data, a loop, and a count of the branch taken."""

    def build(self, input_shape):
        self.taken = self.add_weight(shape=(), initializer="zeros", trainable=False, name="taken")

    def call(self, x):
        def double():
            self.taken.assign_add(1.0)
            return x * 2.0

        x = ops.cond(ops.sum(x) > 0.0, double, lambda: x - 1.0)
        return ops.fori_loop(0, 3, lambda i, value: ops.tanh(value) + 0.1, x)


@model
def control_flow(random):
    parts = [layers.Dense(5), Gate()]
    return _classifier(random, parts, (5,), optimizers.SGD(0.1))


@model
def low_rank(random):
    dense = layers.Dense(6, activation="relu")
    made, batches = _classifier(random, [dense], (5,), optimizers.SGD(0.1))
    dense.enable_lora(2)
    made.compile(optimizers.Adam(0.01), _crossentropy())
    return made, batches


@model
def torch_module(random):
    """A torch module with buffers inside of a Keras model."""
    module = torch.nn.Sequential(
        torch.nn.Linear(5, 6, bias=False), torch.nn.BatchNorm1d(6), torch.nn.Tanh()
    ).to(getattr(torch, keras.config.floatx()))
    wrapped = layers.TorchModuleWrapper(module, output_shape=(None, 6))
    return _classifier(random, [wrapped], (5,), optimizers.SGD(0.1, momentum=0.5))


# Optimizers and schedules, on one perceptron


def _perceptron(random, optimizer):
    parts = [layers.Dense(8, activation="gelu"), layers.LayerNormalization()]
    return _classifier(random, parts, (5,), optimizer)


@model
def accumulation(random):
    return _perceptron(random, optimizers.Adam(0.01, gradient_accumulation_steps=3))


@model
def moving_average(random):
    average = {"use_ema": True, "ema_momentum": 0.8, "ema_overwrite_frequency": 5}
    return _perceptron(random, optimizers.SGD(0.1, **average))


@model
def clipping(random):
    rate = optimizers.schedules.CosineDecay(0.1, 15, warmup_target=0.3, warmup_steps=5)
    return _perceptron(random, optimizers.SGD(rate, global_clipnorm=0.2, weight_decay=0.01))


@model
def loss_scale(random):
    inner = optimizers.Adam(0.01)
    return _perceptron(
        random, optimizers.LossScaleOptimizer(inner, initial_scale=4.0, dynamic_growth_steps=6)
    )


@model
def adagrad(random):
    return _perceptron(
        random, optimizers.Adagrad(optimizers.schedules.ExponentialDecay(0.1, 5, 0.7))
    )


@model
def adadelta(random):
    return _perceptron(
        random, optimizers.Adadelta(optimizers.schedules.PolynomialDecay(1.0, 15, 0.1))
    )


@model
def adamax(random):
    return _perceptron(
        random,
        optimizers.Adamax(optimizers.schedules.PiecewiseConstantDecay([5, 9], [0.1, 0.05, 0.01])),
    )


@model
def nadam(random):
    return _perceptron(random, optimizers.Nadam(0.01, clipvalue=0.05))


@model
def amsgrad(random):
    rate = optimizers.schedules.InverseTimeDecay(0.02, 5, 0.5)
    return _perceptron(random, optimizers.Adam(rate, amsgrad=True, clipnorm=0.1))


@model
def ftrl(random):
    return _perceptron(random, optimizers.Ftrl(0.1, l1_regularization_strength=0.001))


@model
def lion(random):
    return _perceptron(
        random,
        optimizers.Lion(optimizers.schedules.CosineDecayRestarts(0.01, 6), weight_decay=0.01),
    )


@model
def lamb(random):
    return _perceptron(random, optimizers.Lamb(0.01))


@model
def adafactor(random):
    return _perceptron(random, optimizers.Adafactor(0.01))


@model
def muon(random):
    return _perceptron(random, optimizers.Muon(0.01))
