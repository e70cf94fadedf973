"""Every metric of Keras, in training and in evaluation, with and without sample weights."""

import keras
import numpy as np
import pytest
from keras import layers, metrics
from numerics import float64
from twins import assert_alike, numbered

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(16, 6))
CLASSES = RANDOM.integers(0, 3, 16)
ONE_HOT = np.eye(3)[CLASSES]

ARGUMENTS = {
    "BinaryIoU": {"target_class_ids": [0, 1], "threshold": 0.5},
    "FBetaScore": {"average": "macro", "threshold": 0.4},
    "IoU": {"num_classes": 3, "target_class_ids": [0], "sparse_y_pred": False},
    "MeanIoU": {"num_classes": 3, "sparse_y_pred": False},
    "MeanMetricWrapper": {"fn": keras.losses.mean_squared_error},
    "OneHotIoU": {"num_classes": 3, "target_class_ids": [0, 2]},
    "OneHotMeanIoU": {"num_classes": 3},
    "PrecisionAtRecall": {"recall": 0.5},
    "RecallAtPrecision": {"precision": 0.5},
    "SensitivityAtSpecificity": {"specificity": 0.5},
    "SparseTopKCategoricalAccuracy": {"k": 2},
    "SpecificityAtSensitivity": {"sensitivity": 0.5},
    "TopKCategoricalAccuracy": {"k": 2},
}
BY_CLASS = (
    "IoU", "MeanIoU", "SparseCategoricalAccuracy", "SparseCategoricalCrossentropy",
    "SparseTopKCategoricalAccuracy",
)  # fmt: skip
# Keras ignores weights of correlations, and takes one a class for binary IoU.
UNWEIGHTED = ("BinaryIoU", "ConcordanceCorrelation", "PearsonCorrelation")
ALL = {
    name: metric
    for name, metric in vars(metrics).items()
    if isinstance(metric, type) and metric not in (metrics.Metric, metrics.Mean, metrics.Sum)
}


@pytest.fixture(autouse=True)
def _double_precision():
    with float64():
        yield


def alike(make, y, loss, weighted):
    def build(run_eagerly):
        model = keras.Sequential([keras.Input((6,)), layers.Dense(3, activation="softmax")])
        model.compile(
            keras.optimizers.SGD(0.1),
            loss,
            metrics=[make()],
            weighted_metrics=[make()] if weighted else None,
            run_eagerly=run_eagerly,
        )
        return model

    def run(model):
        options = {"batch_size": 8, "verbose": 0}
        if weighted:
            options["sample_weight"] = np.linspace(0.1, 1, 16)
        logs = model.fit(X, y, epochs=2, shuffle=False, **options).history
        return {
            **numbered("train", logs.values()),
            **numbered("test", model.evaluate(X, y, **options)),
        }

    # Metrics keep their state in float32, Keras's default for them.
    return assert_alike(build, run, tolerance=1e-6)


@pytest.mark.parametrize("name", ALL)
def test_metric(name):
    by_class = name in BY_CLASS
    alike(
        lambda: ALL[name](**ARGUMENTS.get(name, {})),
        CLASSES if by_class else ONE_HOT,
        "sparse_categorical_crossentropy" if by_class else "categorical_crossentropy",
        name not in UNWEIGHTED,
    )


class Sums(layers.Layer):
    """Keeps a `Mean` and a `Sum` of what passes."""

    def __init__(self):
        super().__init__()
        self.mean, self.sum = metrics.Mean(name="mean"), metrics.Sum(name="sum")

    def call(self, x):
        self.mean.update_state(x, sample_weight=keras.ops.abs(x))
        self.sum.update_state(x)
        return x


def test_mean_and_sum_in_a_layer():
    def build(run_eagerly):
        model = keras.Sequential([keras.Input((6,)), layers.Dense(3), Sums()])
        model.compile("sgd", "mse", run_eagerly=run_eagerly)
        return model

    def run(model):
        return model.fit(X, ONE_HOT, batch_size=8, epochs=2, shuffle=False, verbose=0).history

    assert assert_alike(build, run, tolerance=1e-6).compiled.get_metrics_result()["sum"] != 0
