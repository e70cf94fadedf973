"""`KERAS_TRITON_MEMORY_BUDGET`: less memory, the same bits."""

import re
import warnings

import keras
import numpy as np
import pytest
from keras import layers

import keras_triton
from keras_triton import ready
from keras_triton.settings import settings

RANDOM = np.random.default_rng(0)
X, Y = RANDOM.normal(size=(64, 32)).astype("float32"), RANDOM.normal(size=(64, 2)).astype("float32")


@pytest.fixture
def budget(monkeypatch):
    """Sets the variable, or none, for what is compiled from then on."""

    def choose(value):
        name = "KERAS_TRITON_MEMORY_BUDGET"
        monkeypatch.setenv(name, value) if value else monkeypatch.delenv(name, raising=False)
        settings.cache_clear()
        ready._warned.clear()

    yield choose
    monkeypatch.undo()
    settings.cache_clear()


def perceptron():
    keras.utils.set_random_seed(3)
    model = keras.Sequential([keras.Input((32,))])
    for _ in range(6):
        model.add(layers.Dense(64, activation="gelu"))
        model.add(layers.LayerNormalization())
        model.add(layers.Dropout(0.2, seed=1))
    model.add(layers.Dense(2))
    model.compile("adam", "mse")
    return model


def trained(value, budget, sizes=(64, 64, 64)):
    budget(value)
    model = perceptron()
    for size in sizes:
        model.train_on_batch(X[:size], Y[:size])
    return [np.asarray(variable) for variable in model.variables + model.optimizer.variables]


def test_a_step_within_a_budget_gives_the_same_bits(budget):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = trained("0.9", budget)
    for wanted, got in zip(trained(None, budget), found, strict=True):
        np.testing.assert_array_equal(wanted, got)


def test_one_program_for_batches_of_any_size_is_fitted_for_each(budget):
    sizes = (64, 48, 33, 64)
    found = trained("0.95", budget, sizes)
    for wanted, got in zip(trained(None, budget, sizes), found, strict=True):
        np.testing.assert_array_equal(wanted, got)


def test_explain_names_what_is_made_again(budget):
    budget(None)
    before = keras_triton.explain(perceptron(), X, Y)
    budget("0.9")
    report = keras_triton.explain(perceptron(), X, Y)
    assert before.fitted is None
    assert report.fitted.before == before.peak.bytes - before.peak.workspace
    assert report.fitted.after == report.peak.bytes - report.peak.workspace <= report.fitted.budget
    again = [row for row in report.rows if row.again]
    assert again
    assert all(
        re.match(r"made again (rather than kept: \d+ bytes|for what)", row.note) for row in again
    )
    assert f"{len(again)} launches make values again" in report.budget()
    assert "is within the budget" in report.budget()


def test_a_budget_that_cannot_be_met_is_said_once(budget):
    budget("10kB".replace("k", "K"))
    model = perceptron()
    with pytest.warns(RuntimeWarning, match=r"MB.*NOT within the budget of 0\.01 MB") as caught:
        model.train_on_batch(X, Y)
    model = perceptron()
    model.train_on_batch(X, Y)
    assert sum("budget" in str(warning.message) for warning in caught) == 1
