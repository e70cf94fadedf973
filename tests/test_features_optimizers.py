"""Every optimizer of Keras, the options they share, and every learning-rate schedule."""

import keras
import numpy as np
import pytest
from keras import layers, optimizers
from keras.optimizers import schedules
from numerics import float64
from twins import assert_alike

RANDOM = np.random.default_rng(0)
X, Y = RANDOM.normal(size=(8, 6)), RANDOM.integers(0, 3, 8)
STEPS = 7


@pytest.fixture(autouse=True)
def _double_precision():
    with float64():
        yield


def alike(make, tolerance=1e-9):
    """Some steps with the optimizer that `make()` gives, from equal weights."""

    def build(run_eagerly):
        model = keras.Sequential(
            [keras.Input((6,)), layers.Dense(8, activation="gelu"), layers.Dense(3)]
        )
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(make(), loss, run_eagerly=run_eagerly)
        return model

    def run(model):
        return model.fit(X, Y, batch_size=8, epochs=STEPS, verbose=0).history

    return assert_alike(build, run, tolerance=tolerance)


ALL = {
    "Adadelta": lambda: optimizers.Adadelta(0.5),
    "Adafactor": lambda: optimizers.Adafactor(0.01),
    "Adagrad": lambda: optimizers.Adagrad(0.1),
    "Adam": lambda: optimizers.Adam(0.01),
    "AdamW": lambda: optimizers.AdamW(0.01),
    "Adamax": lambda: optimizers.Adamax(0.01),
    "Ftrl": lambda: optimizers.Ftrl(0.1),
    "Lamb": lambda: optimizers.Lamb(0.01),
    "Lion": lambda: optimizers.Lion(0.01),
    "LossScaleOptimizer": lambda: optimizers.LossScaleOptimizer(
        optimizers.SGD(0.1), initial_scale=4.0, dynamic_growth_steps=2
    ),
    "MultiOptimizer": lambda: optimizers.MultiOptimizer(
        optimizers.OptimizerMap(optimizers.Adam(0.01), {".*bias": optimizers.SGD(0.1)})
    ),
    "Muon": lambda: optimizers.Muon(0.01),
    "Nadam": lambda: optimizers.Nadam(0.01),
    "RMSprop": lambda: optimizers.RMSprop(0.01),
    "SGD": lambda: optimizers.SGD(0.1),
    "ScheduleFreeAdamW": lambda: optimizers.ScheduleFreeAdamW(0.01),
}
# Computed in float32 whatever the model's dtype: by Keras's own casts.
IN_FLOAT32 = {"Adafactor": 1e-5, "Muon": 1e-5}


def test_all_optimizers_are_here():
    known = {
        name
        for name, value in vars(optimizers).items()
        if isinstance(value, type) and issubclass(value, optimizers.Optimizer)
    }
    assert known - {"Optimizer", "OptimizerMap"} == set(ALL)


@pytest.mark.parametrize("name", ALL)
def test_optimizer(name):
    outcome = alike(ALL[name], IN_FLOAT32.get(name, 1e-9))
    assert outcome.compiled.train_function.step.counts.captures == 1


OPTIONS = {
    "momentum": lambda: optimizers.SGD(0.1, momentum=0.9),
    "nesterov": lambda: optimizers.SGD(0.1, momentum=0.9, nesterov=True),
    "amsgrad": lambda: optimizers.Adam(0.01, amsgrad=True),
    "centered": lambda: optimizers.RMSprop(0.01, centered=True, momentum=0.9),
    "weight_decay": lambda: optimizers.SGD(0.1, weight_decay=0.01),
    "clipnorm": lambda: optimizers.SGD(0.1, clipnorm=0.1),
    "clipvalue": lambda: optimizers.SGD(0.1, clipvalue=0.01),
    "global_clipnorm": lambda: optimizers.SGD(0.1, global_clipnorm=0.1),
    "use_ema": lambda: optimizers.SGD(0.1, use_ema=True, ema_momentum=0.5),
    "ema_overwrite_frequency": lambda: optimizers.SGD(
        0.1, use_ema=True, ema_momentum=0.5, ema_overwrite_frequency=2
    ),
    "gradient_accumulation_steps": lambda: optimizers.Adam(0.1, gradient_accumulation_steps=3),
    "loss_scale_factor": lambda: optimizers.SGD(0.1, loss_scale_factor=8.0),
    "together": lambda: optimizers.AdamW(
        0.01, gradient_accumulation_steps=2, global_clipnorm=0.1, use_ema=True, ema_momentum=0.5
    ),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_option(name):
    alike(OPTIONS[name])


SCHEDULES = {
    "CosineDecay": lambda: schedules.CosineDecay(0.0, 4, warmup_target=0.1, warmup_steps=2),
    "CosineDecayRestarts": lambda: schedules.CosineDecayRestarts(0.1, 2),
    "ExponentialDecay": lambda: schedules.ExponentialDecay(0.1, 2, 0.5, staircase=True),
    "InverseTimeDecay": lambda: schedules.InverseTimeDecay(0.1, 2, 0.5),
    "PiecewiseConstantDecay": lambda: schedules.PiecewiseConstantDecay([2, 4], [0.1, 0.05, 0.01]),
    "PolynomialDecay": lambda: schedules.PolynomialDecay(0.1, 3, cycle=True),
}


def test_all_schedules_are_here():
    known = {name for name, value in vars(schedules).items() if isinstance(value, type)}
    assert known - {"LearningRateSchedule"} == set(SCHEDULES)


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedule(name):
    outcome = alike(lambda: optimizers.Adam(SCHEDULES[name]()))
    assert outcome.compiled.train_function.step.counts.captures == 1
