"""Models that make data: a step with two optimizers, a loss of a layer's own."""

import keras
import torch
from keras import layers, losses, ops, optimizers

from model_zoo.data import BATCH, batches_of, normal
from model_zoo.registry import model


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
    return made, batches_of(normal(random, 4), normal(random, 3))


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

    return made, [(x, x) for (x,) in batches_of(image)]
