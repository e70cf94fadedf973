"""Training steps in torch's manner: parameters, their gradients and their data, taken from modules."""

import keras
import numpy as np
import pytest
import torch
from keras import layers
from numerics import float64
from twins import assert_alike

from keras_triton.journal import stats

RANDOM = np.random.default_rng(0)
X, Y = RANDOM.normal(size=(24, 6)), RANDOM.normal(size=(24, 3))


@pytest.fixture(autouse=True)
def _double_precision():
    with float64():
        yield


class Stepper(keras.Model):
    """Applies gradients after `change(model)` saw them."""

    change = staticmethod(lambda model: None)

    def train_step(self, data):
        x, y = data
        self.zero_grad()
        loss = self.compute_loss(x, y, self(x, training=True))
        loss.backward()
        self.change(self)
        variables = self.trainable_weights
        with torch.no_grad():
            self.optimizer.apply([variable.value.grad for variable in variables], variables)
        return {"loss": loss}


def network():
    inputs = keras.Input((6,))
    hidden = layers.BatchNormalization()(layers.Dense(8, activation="relu")(inputs))
    return inputs, layers.Dense(3)(hidden)


def stepper(change, run_eagerly):
    model = Stepper(*network())
    model.average = keras.Model(*network(), trainable=False)
    model.change = change
    model.saved = list(model.parameters())
    model.compile(keras.optimizers.SGD(0.1), "mse", run_eagerly=run_eagerly)
    return model


def fit(model):
    return model.fit(X, Y, batch_size=8, epochs=2, shuffle=False, verbose=0).history


def clip_norm(model):
    torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)


def clip_values(model):
    torch.nn.utils.clip_grad_value_(model.parameters(), 0.01)


def clip_a_layer(model):
    torch.nn.utils.clip_grad_norm_(model.layers[-1].parameters(), 0.1)


def replace_gradients(model):
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            parameter.grad = parameter.grad * (2 if "bias" in name else 3)


def descend(model):
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter -= 0.1 * parameter.grad


def write_data(model):
    for parameter in model.parameters():
        if parameter.grad is not None:
            parameter.data.add_(parameter.grad, alpha=-0.1)


def replace_data(model):
    for layer, other in zip(model.layers, model.average.layers, strict=True):
        for parameter, mean in zip(layer.parameters(), other.parameters(), strict=True):
            mean.data = 0.9 * mean.data + 0.1 * parameter.data


@pytest.mark.parametrize(
    "change",
    [clip_norm, clip_values, clip_a_layer, replace_gradients, descend, write_data, replace_data],
)
def test_what_a_step_does_to_parameters_is_part_of_it(change):
    assert_alike(lambda eager: stepper(change, eager), fit)


def clip_saved(model):
    torch.nn.utils.clip_grad_norm_(model.saved, 0.1)


def torch_optimizer(model):
    torch.optim.SGD(model.saved, 0.1).step()


@pytest.mark.parametrize("change", [clip_saved, torch_optimizer])
def test_gradients_of_tensors_from_before_are_refused(change):
    before = len(stats().refused)
    keras.utils.set_random_seed(1)
    compiled = stepper(change, False)
    with pytest.warns(UserWarning, match="gradient of a tensor .* holds from before"):
        found = fit(compiled)
    keras.utils.set_random_seed(1)
    assert found == fit(stepper(change, True))
    assert len(stats().refused) == before + 1


def test_parameters_are_plain_again_after_a_step():
    model = stepper(clip_norm, False)
    fit(model)
    assert all(type(parameter) is torch.nn.Parameter for parameter in model.parameters())
    assert len(list(model.layers[1].parameters())) == 2
