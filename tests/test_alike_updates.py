"""Updates of parameters that are alike: traced once, and the same as if each were traced."""

import keras
import numpy as np
import pytest
import torch
from keras import layers

from keras_triton import alike_updates
from keras_triton.explanation import capture_example

OPTIMIZERS = {
    "adadelta": lambda: keras.optimizers.Adadelta(0.1),
    "adagrad": lambda: keras.optimizers.Adagrad(0.1),
    "adam": lambda: keras.optimizers.Adam(0.1),
    "amsgrad": lambda: keras.optimizers.Adam(0.1, amsgrad=True),
    "adamax": lambda: keras.optimizers.Adamax(0.1),
    "adamw": lambda: keras.optimizers.AdamW(0.1, use_ema=True, clipnorm=1.0),
    "ftrl": lambda: keras.optimizers.Ftrl(0.1, beta=0.1),
    "lion": lambda: keras.optimizers.Lion(0.1),
    "nadam": lambda: keras.optimizers.Nadam(0.1),
    "rmsprop": lambda: keras.optimizers.RMSprop(0.1, momentum=0.9, centered=True),
    "sgd": lambda: keras.optimizers.SGD(0.1),
    "nesterov": lambda: keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True),
    "accumulated": lambda: keras.optimizers.Adam(0.1, gradient_accumulation_steps=2),
}
X = np.random.default_rng(0).normal(size=(4, 6)).astype("float32")
Y = np.ones((4, 3), "float32")


class Scale(layers.Layer):
    """A parameter of no dimensions."""

    def build(self, shape):
        self.scale = self.add_weight(shape=(), initializer="ones")

    def call(self, inputs):
        return inputs * self.scale


def model(optimizer):
    keras.utils.set_random_seed(0)
    made = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(6),
            layers.LayerNormalization(),
            Scale(),
            layers.Dense(1),
            layers.Dense(3),
        ]
    )
    made.compile(optimizer, "mse")
    return made


def trained(captured, steps=3):
    """The states after some steps of the captured graph, from values that are not all zeros."""
    generator = torch.Generator().manual_seed(0)
    states = {spec.name: spec.variable for spec in captured.inputs if spec.kind == "state"}
    values = {
        id(state): torch.rand(state.shape, generator=generator)
        if state.value.dtype == torch.float32
        else state.value.detach().clone()
        for _, state in sorted(states.items())
    }
    data = iter([torch.as_tensor(X), torch.as_tensor(Y)] * steps)
    for _ in range(steps):
        inputs = [
            values[id(spec.variable)] if spec.kind == "state" else next(data)
            for spec in captured.inputs
        ]
        results = captured.graph(*inputs)
        new = zip(captured.outputs, results, strict=True)
        values |= {id(spec.variable): value for spec, value in new if spec.kind == "state"}
    return [values[id(state)] for _, state in sorted(states.items())]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_copied_updates_are_what_traced_ones_are(name, monkeypatch):
    made = model(OPTIMIZERS[name]())
    copied = capture_example(made, X, Y)
    monkeypatch.setattr(alike_updates, "_is_known", lambda *_: False)
    traced = capture_example(made, X, Y)
    for got, wanted in zip(trained(copied), trained(traced), strict=True):
        torch.testing.assert_close(got, wanted, rtol=0, atol=0, equal_nan=True)
    assert len(copied.graph.graph.nodes) <= len(traced.graph.graph.nodes), "scalars are shared"


def counted(monkeypatch, made):
    """How many updates are traced."""
    found = []
    update_step = type(made.optimizer).update_step

    def count(self, gradient, variable, rate):
        found.append(variable.path)
        return update_step(self, gradient, variable, rate)

    monkeypatch.setattr(type(made.optimizer), "update_step", count)
    capture_example(made, X, Y)
    return found


def test_one_update_is_traced_for_all_shapes_and_one_for_scalars(monkeypatch):
    assert len(counted(monkeypatch, model("adam"))) == 2


def test_an_optimizer_of_ones_own_is_asked_for_every_parameter(monkeypatch):
    class Mine(keras.optimizers.Adam):
        pass

    made = model(Mine())
    assert len(counted(monkeypatch, made)) == len(made.trainable_variables)


def test_a_state_that_all_updates_write_is_written_by_each(monkeypatch):
    """As if Keras's optimizer counted its updates itself."""
    update_step = keras.optimizers.SGD.update_step

    def counting(self, gradient, variable, rate):
        update_step(self, gradient, variable, rate)
        self.iterations.assign_add(1)

    monkeypatch.setattr(keras.optimizers.SGD, "update_step", counting)
    made = model("sgd")
    made.train_on_batch(X, Y)
    assert int(made.optimizer.iterations) == 1 + len(made.trainable_variables)
