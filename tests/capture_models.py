"""Models whose steps are captured: every way to train that asks something of its own of capture.

A kernel in front of a normalization has a gradient of rounding noise, which Adam scales up to the
size of a step. Momentum SGD has no such scaling, so every model but the first uses it.
"""

import keras
import numpy as np
import torch
from keras import layers, ops


def mlp() -> keras.Model:
    model = keras.Sequential(
        [
            keras.Input((12,)),
            layers.Dense(16, activation="gelu"),
            layers.LayerNormalization(),
            layers.Dropout(0.3, seed=1),
            layers.Dense(5),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-3), loss, metrics=["accuracy"])
    return model


def cnn() -> keras.Model:
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(4, 3, padding="same"),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(5, activation="softmax"),
        ],
        name="images",
    )
    optimizer = keras.optimizers.SGD(0.01, momentum=0.9)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


class Regressor(keras.Model):
    """A user's own train_step, with a loss from a layer and a regularizer."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = layers.Dense(5, kernel_regularizer="l2")
        self.penalty = layers.ActivityRegularization(l2=0.1)
        self.tracker = keras.metrics.Mean(name="own_loss")

    def build(self, input_shape) -> None:
        self.dense.build(input_shape)
        self.built = True

    def call(self, x):
        return self.penalty(self.dense(x))

    def train_step(self, data):
        x, y = data
        prediction = self(x, training=True)
        self.zero_grad()
        error = ops.one_hot(y, 5) - prediction
        loss = ops.mean(ops.square(error)) + sum(self.losses)
        loss.backward()
        variables = self.trainable_variables
        with torch.no_grad():
            self.optimizer.apply([v.value.grad for v in variables], variables)
        self.tracker.update_state(loss)
        return {"own_loss": self.tracker.result()}


def custom() -> keras.Model:
    model = Regressor()
    model.build((None, 12))
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9))
    return model


def with_optimizer(optimizer: keras.optimizers.Optimizer) -> keras.Model:
    model = keras.Sequential([keras.Input((12,)), layers.Dense(5)])
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def schedule() -> keras.Model:
    rate = keras.optimizers.schedules.ExponentialDecay(0.1, 2, 0.5)
    return with_optimizer(keras.optimizers.SGD(rate))


def moving_average() -> keras.Model:
    return with_optimizer(
        keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.5, ema_overwrite_frequency=2)
    )


def accumulation() -> keras.Model:
    return with_optimizer(keras.optimizers.SGD(0.1, gradient_accumulation_steps=2))


def loss_scale() -> keras.Model:
    inner = keras.optimizers.SGD(0.1)
    return with_optimizer(
        keras.optimizers.LossScaleOptimizer(inner, initial_scale=4.0, dynamic_growth_steps=2)
    )


def stateful_rnn() -> keras.Model:
    model = keras.Sequential(
        [
            keras.Input(batch_shape=(6, 12)),
            layers.Reshape((4, 3)),
            layers.SimpleRNN(4, stateful=True),
            layers.Dense(5),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1), loss)
    return model


class Branches(layers.Layer):
    """`cond` with an update of a variable in one branch."""

    def build(self, input_shape) -> None:
        self.taken = self.add_weight(shape=(), initializer="zeros", trainable=False, name="taken")

    def call(self, x):
        def double():
            self.taken.assign_add(1.0)
            return x * 2.0

        return ops.cond(ops.sum(x) + self.taken > 0.0, double, lambda: x - 1.0)


def branches() -> keras.Model:
    model = keras.Sequential([keras.Input((12,)), layers.Dense(8), Branches(), layers.Dense(5)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1), loss)
    return model


def torch_module() -> keras.Model:
    linear = keras.layers.TorchModuleWrapper(torch.nn.Linear(12, 5), output_shape=(None, 5))
    model = keras.Sequential([keras.Input((12,)), linear])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1), loss)
    return model


class Adversaries(keras.Model):
    """Two backward passes in one step; the gradients of one must not reach the other."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = keras.Sequential([keras.Input((4,)), layers.Dense(12)])
        self.judge = keras.Sequential([keras.Input((12,)), layers.Dense(1)])
        self.seed = keras.random.SeedGenerator(1)
        self.judge_optimizer = keras.optimizers.SGD(0.1)
        self.judge_optimizer.build(self.judge.trainable_variables)
        self.built = True

    def train_step(self, data):
        real, _ = data
        loss = keras.losses.BinaryCrossentropy(from_logits=True)
        noise = keras.random.normal((real.shape[0], 4), seed=self.seed)
        ones, zeros = ops.ones((6, 1)), ops.zeros((6, 1))
        self.zero_grad()
        judged_fake = self.judge(self.generator(noise).detach())
        judge_loss = loss(ones, self.judge(real)) + loss(zeros, judged_fake)
        self.descend(judge_loss, self.judge.trainable_variables, self.judge_optimizer)
        self.zero_grad()
        generator_loss = loss(ones, self.judge(self.generator(noise)))
        self.descend(generator_loss, self.generator.trainable_variables, self.optimizer)
        return {"judge": judge_loss, "generator": generator_loss}

    def descend(self, loss, variables, optimizer) -> None:
        loss.backward()
        with torch.no_grad():
            optimizer.apply([v.value.grad for v in variables], variables)


def adversaries() -> keras.Model:
    model = Adversaries()
    model.compile(keras.optimizers.SGD(0.1))
    model.optimizer.build(model.generator.trainable_variables)
    return model


MODELS = (
    branches,
    torch_module,
    adversaries,
    mlp,
    cnn,
    custom,
    schedule,
    moving_average,
    accumulation,
    loss_scale,
    stateful_rnn,
)


def batch(model: keras.Model, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    shape = (8, 8, 3) if model.name == "images" else (12,)
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(6, *shape)).astype("float32")
    device = keras.src.backend.ops.core.get_device()
    y = generator.integers(0, 5, 6).astype("int32")
    return torch.as_tensor(x, device=device), torch.as_tensor(y, device=device)


def prepared(make) -> tuple[keras.Model, tuple[torch.Tensor, torch.Tensor]]:
    keras.utils.set_random_seed(0)
    model = make()
    data = batch(model)
    model._symbolic_build(data_batch=data)
    return model, data
