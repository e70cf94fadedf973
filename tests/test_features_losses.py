"""Every loss of Keras, as a class and as a function."""

import inspect

import keras
import numpy as np
import pytest
from keras import layers, losses
from numerics import float64
from twins import assert_alike

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(8, 6))
CLASSES = RANDOM.integers(0, 3, 8)
ONE_HOT = np.eye(3)[CLASSES]
VALUES = RANDOM.normal(size=(8, 3))
SEQUENCES, LABELS = RANDOM.normal(size=(8, 5, 6)), RANDOM.integers(1, 4, (8, 2))

ALL = {
    name: loss
    for name, loss in vars(losses).items()
    if isinstance(loss, type) and loss is not losses.Loss
}
# What they compare: class numbers, or any numbers; else probabilities with classes one-hot.
BY_NUMBER = ("Circle", "CategoricalGeneralizedCrossEntropy", "SparseCategoricalCrossentropy")
OF_VALUES = (
    "CosineSimilarity", "Huber", "LogCosh", "MeanAbsoluteError", "MeanAbsolutePercentageError",
    "MeanSquaredError",
)  # fmt: skip


@pytest.fixture(autouse=True)
def _double_precision():
    with float64():
        yield


def alike(loss, x, y, activation, weights=None):
    def build(run_eagerly):
        model = keras.Sequential([keras.Input(x.shape[1:]), layers.Dense(8, activation="gelu")])
        model.add(layers.Dense(4 if x.ndim == 3 else 3, activation=activation))
        model.compile(keras.optimizers.SGD(0.1), loss(), run_eagerly=run_eagerly)
        return model

    def run(model):
        logs = [model.train_on_batch(x, y, sample_weight=weights) for _ in range(3)]
        return {"loss": logs}

    assert_alike(build, run)


@pytest.mark.parametrize("name", sorted(ALL.keys() - {"CTC"}))
def test_loss(name):
    y = VALUES if name in OF_VALUES else CLASSES if name in BY_NUMBER else ONE_HOT
    weights = None if name == "Circle" else np.linspace(0.1, 1, 8)
    alike(ALL[name], X, y, None if name in OF_VALUES else "softmax", weights)


@pytest.mark.parametrize("loss", [losses.CTC, lambda: losses.ctc])
def test_ctc(loss):
    alike(loss, SEQUENCES, LABELS, None)


def _functions():
    """Each loss's function; some have several names."""
    found = {f for name, f in vars(losses).items() if inspect.isfunction(f) and name.islower()}
    helpers = {losses.get, losses.serialize, losses.deserialize, losses.ctc}
    return sorted(found - helpers, key=lambda function: function.__name__)


OTHERWISE_CALLED = {
    "categorical_generalized_cross_entropy": lambda f, y, p: f(y, p, 0.5),
    "circle": lambda f, y, p: f(y, p, CLASSES, np.eye(3)[CLASSES], remove_diagonal=False),
}


@pytest.mark.parametrize("function", _functions(), ids=lambda function: function.__name__)
def test_function(function):
    name = function.__name__
    by_number = name in (*OTHERWISE_CALLED, "sparse_categorical_crossentropy")
    call = OTHERWISE_CALLED.get(name, lambda f, y, p: f(y, p))
    loss = lambda y, p: call(function, y, p)  # noqa: E731
    alike(lambda: loss, X, CLASSES if by_number else ONE_HOT, "softmax")


@pytest.mark.parametrize("reduction", ["sum", "mean", "mean_with_sample_weight", None])
def test_reduction(reduction):
    if reduction is None:  # Keras has no gradient of a loss with an axis
        with pytest.raises(RuntimeError, match="scalar"):
            alike(lambda: losses.MeanSquaredError(reduction=None), X, VALUES, None)
    else:
        alike(lambda: losses.MeanSquaredError(reduction=reduction), X, VALUES, None)
