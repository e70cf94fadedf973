"""Training steps of one's own: overridden methods, adversarial pairs, losses added by layers."""

import keras
import numpy as np
import pytest
import torch
from keras import layers, ops
from numerics import float64
from twins import assert_alike, calls

RANDOM = np.random.default_rng(0)
X, Y = RANDOM.normal(size=(24, 6)), RANDOM.normal(size=(24, 3))


@pytest.fixture(autouse=True)
def _double_precision():
    with float64():
        yield


class Regressor(keras.Model):
    """`train_step` and `test_step` overridden, with metrics of the model's own."""

    def __init__(self):
        super().__init__()
        self.hidden, self.top = layers.Dense(8, activation="relu"), layers.Dense(3)
        self.own_loss = keras.metrics.Mean(name="own_loss")
        self.error = keras.metrics.MeanAbsoluteError(name="error")

    def build(self, input_shape):
        self.hidden.build(input_shape)
        self.top.build((None, 8))

    def call(self, x):
        return self.top(self.hidden(x))

    @property
    def metrics(self):
        return [self.own_loss, self.error]

    def train_step(self, data):
        x, y = data
        y_pred = self(x, training=True)
        loss = ops.mean(ops.square(y - y_pred))
        self.zero_grad()
        loss.backward()
        variables = self.trainable_weights
        gradients = [variable.value.grad for variable in variables]
        with torch.no_grad():
            self.optimizer.apply(gradients, variables)
        return self._updated(loss, y, y_pred)

    def test_step(self, data):
        x, y = data
        y_pred = self(x, training=False)
        return self._updated(ops.mean(ops.square(y - y_pred)), y, y_pred)

    def _updated(self, loss, y, y_pred):
        self.own_loss.update_state(loss)
        self.error.update_state(y, y_pred)
        return {metric.name: metric.result() for metric in self.metrics}


def built(model, run_eagerly, **options):
    model.build((None, 6))
    model.compile(keras.optimizers.Adam(0.01), run_eagerly=run_eagerly, **options)
    return model


def test_train_step_and_test_step():
    assert_alike(lambda eager: built(Regressor(), eager), calls(X, Y))


class Penalized(keras.Model):
    """`compute_loss` and `compute_metrics` overridden, a regularizer, and a loss added in `call`."""

    def __init__(self):
        super().__init__()
        self.top = layers.Dense(3, kernel_regularizer="l2")
        self.absolute = keras.metrics.Mean(name="absolute")

    def build(self, input_shape):
        self.top.build(input_shape)

    def call(self, x):
        self.add_loss(0.01 * ops.sum(ops.square(x)))
        return self.top(x)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        loss = ops.mean(ops.abs(y - y_pred)) + sum(self.losses)
        self.absolute.update_state(loss)
        return loss

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        logs = super().compute_metrics(x, y, y_pred, sample_weight)
        return {**logs, "absolute": self.absolute.result()}


def test_compute_loss_and_compute_metrics():
    assert_alike(lambda eager: built(Penalized(), eager, metrics=["mae"]), calls(X, Y))


class Adversaries(keras.Model):
    """A generator and a discriminator, each with an optimizer, that learn in one step."""

    def __init__(self):
        super().__init__()
        self.generator = keras.Sequential(
            [keras.Input((4,)), layers.Dense(8, activation="relu"), layers.Dense(6)]
        )
        self.discriminator = keras.Sequential(
            [
                keras.Input((6,)),
                layers.Dense(8, activation="leaky_relu"),
                layers.Dropout(0.3, seed=2),
                layers.Dense(1),
            ]
        )
        self.losses_of = [keras.metrics.Mean(name="d_loss"), keras.metrics.Mean(name="g_loss")]
        self.seed = keras.random.SeedGenerator(5)
        self.built = True

    def compile(self, **options):
        super().compile(**options)
        self.optimizers = [keras.optimizers.Adam(0.01), keras.optimizers.RMSprop(0.01)]
        for optimizer, model in zip(self.optimizers, self._players(), strict=True):
            optimizer.build(model.trainable_variables)
        self.criterion = keras.losses.BinaryCrossentropy(from_logits=True)

    def _players(self):
        return self.discriminator, self.generator

    @property
    def metrics(self):
        return self.losses_of

    def _improve(self, player, loss):
        model, optimizer = self._players()[player], self.optimizers[player]
        self.zero_grad()
        loss.backward()
        variables = model.trainable_weights
        with torch.no_grad():
            optimizer.apply([variable.value.grad for variable in variables], variables)
        self.losses_of[player].update_state(loss)

    def train_step(self, real):
        real = real[0] if isinstance(real, tuple) else real
        count = ops.shape(real)[0]
        fake = self.generator(keras.random.normal((count, 4), seed=self.seed))
        labels = ops.concatenate([ops.ones((count, 1)), ops.zeros((count, 1))])
        labels += 0.05 * keras.random.uniform(ops.shape(labels), seed=self.seed)
        both = ops.concatenate([fake, real])
        self._improve(0, self.criterion(labels, self.discriminator(both, training=True)))
        fake = self.generator(keras.random.normal((count, 4), seed=self.seed))
        misleading = ops.zeros((count, 1))
        self._improve(1, self.criterion(misleading, self.discriminator(fake, training=True)))
        return {metric.name: metric.result() for metric in self.metrics}


def test_gan_with_two_optimizers():
    def build(run_eagerly):
        model = Adversaries()
        model.compile(run_eagerly=run_eagerly)
        return model

    def run(model):
        return model.fit(X, batch_size=8, epochs=3, shuffle=False, verbose=0).history

    assert_alike(build, run)


class Sampling(layers.Layer):
    """Draws a latent vector, adds its divergence to the losses, and keeps a metric of it."""

    def __init__(self):
        super().__init__()
        self.seed = keras.random.SeedGenerator(1)
        self.divergence = keras.metrics.Mean(name="divergence")

    def call(self, inputs):
        mean, variance = inputs
        loss = -0.5 * ops.mean(1 + variance - ops.square(mean) - ops.exp(variance))
        self.add_loss(loss)
        self.divergence.update_state(loss)
        noise = keras.random.normal(ops.shape(mean), seed=self.seed)
        return mean + ops.exp(0.5 * variance) * noise


def test_vae_with_losses_and_metrics_of_layers():
    def build(run_eagerly):
        inputs = keras.Input((6,))
        hidden = layers.Dense(8, activation="relu")(inputs)
        latent = Sampling()([layers.Dense(2)(hidden), layers.Dense(2)(hidden)])
        model = keras.Model(inputs, layers.Dense(6)(layers.Dense(8, activation="relu")(latent)))
        model.compile(keras.optimizers.Adam(0.01), "mse", run_eagerly=run_eagerly)
        return model

    model = assert_alike(build, calls(X, X)).compiled
    logs = model.evaluate(X, X, batch_size=8, verbose=0, return_dict=True)
    assert logs["divergence"] > 0
    assert logs["loss"] > logs["divergence"]


class Penalty(keras.Model):
    """A loss that holds a gradient: of the output by the input."""

    def __init__(self):
        super().__init__()
        self.hidden, self.top = layers.Dense(8, activation="tanh"), layers.Dense(1)

    def build(self, input_shape):
        self.hidden.build(input_shape)
        self.top.build((None, 8))

    def call(self, x):
        return self.top(self.hidden(x))

    def train_step(self, data):
        x, y = data
        x = x.detach().requires_grad_()
        y_pred = self(x, training=True)
        (slope,) = torch.autograd.grad(y_pred.sum(), x, create_graph=True)
        penalty = ops.mean(ops.square(ops.norm(slope, axis=1) - 1))
        loss = ops.mean(ops.square(y[:, :1] - y_pred)) + penalty
        self.zero_grad()
        loss.backward()
        variables = self.trainable_weights
        with torch.no_grad():
            self.optimizer.apply([variable.value.grad for variable in variables], variables)
        return {"loss": loss, "penalty": penalty}


def test_gradient_penalty():
    def run(model):
        return model.fit(X, Y, batch_size=8, epochs=2, shuffle=False, verbose=0).history

    assert_alike(lambda eager: built(Penalty(), eager), run)


class Unwraps(Regressor):
    """Tells what a torch loader yields, lists, from the tuples that Keras makes of arrays."""

    def train_step(self, data):
        return super().train_step(tuple(part * 2 for part in data) if type(data) is list else data)


def test_a_loader_gives_lists_and_arrays_give_tuples():
    def run(model):
        parts = torch.utils.data.TensorDataset(torch.as_tensor(X), torch.as_tensor(Y))
        loader = torch.utils.data.DataLoader(parts, batch_size=8)
        doubled = model.fit(loader, epochs=2, verbose=0).history
        plain = model.fit(X, Y, batch_size=8, shuffle=False, verbose=0).history
        return {"lists": doubled["own_loss"], "tuples": plain["own_loss"]}

    assert_alike(lambda eager: built(Unwraps(), eager), run)
