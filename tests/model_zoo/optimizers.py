"""Every optimizer and schedule, on one perceptron."""

from keras import layers, optimizers

from model_zoo.data import classifier
from model_zoo.registry import model


def _perceptron(random, optimizer):
    parts = [layers.Dense(8, activation="gelu"), layers.LayerNormalization()]
    return classifier(random, parts, (5,), optimizer)


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
