"""keras-tuner, autokeras, the scikit-learn wrappers and TensorFlow beside compiled steps."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers

import keras_triton


def data():
    x = np.random.default_rng(0).normal(size=(48, 6)).astype("float32")
    return x, x[:, :3].argmax(1)


def classifier(units=8, rate=0.1):
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(units, activation="relu"),
            layers.Dropout(rate),
            layers.Dense(3),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), loss, metrics=["accuracy"])
    return model


def calls_since(before):
    after = keras_triton.stats().counts
    return {name: value - getattr(before, name) for name, value in vars(after).items()}


@pytest.mark.filterwarnings("ignore::DeprecationWarning:keras_tuner")
def test_search_of_keras_tuner_trains_compiled(tmp_path):
    keras_tuner = pytest.importorskip("keras_tuner", reason="keras-tuner is not installed")
    before = keras_triton.stats().counts
    tuner = keras_tuner.RandomSearch(
        lambda hp: classifier(hp.Int("units", 4, 16, 4), hp.Float("rate", 0, 0.5)),
        objective="val_accuracy",
        max_trials=2,
        seed=1,
        directory=tmp_path,
    )
    x, y = data()
    tuner.search(x, y, batch_size=12, epochs=2, validation_split=0.25, verbose=0)
    (best,) = tuner.get_best_models(1)
    assert best.predict(x[:2], verbose=0).shape == (2, 3)
    calls = calls_since(before)
    assert calls["op_by_op"] == 0
    # Two trials of two epochs of three steps, validations, one prediction.
    assert calls["compiled"] == 2 * 2 * (3 + 1) + 1


def test_autokeras_imports():
    autokeras = pytest.importorskip("autokeras", reason="autokeras is not installed")
    assert autokeras.AutoModel


def test_wrappers_of_scikit_learn_in_pipelines():
    sklearn = pytest.importorskip("sklearn")
    from sklearn.model_selection import cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    assert sklearn
    before = keras_triton.stats().counts
    x, y = data()
    options = {"fit_kwargs": {"batch_size": 12, "epochs": 2, "verbose": 0}}

    def softmax(X, y):
        model = keras.Sequential(
            [keras.Input(X.shape[1:]), layers.Dense(y.shape[1], activation="softmax")]
        )
        model.compile(keras.optimizers.Adam(0.1), "categorical_crossentropy")
        return model

    def linear(X, y):
        model = keras.Sequential([keras.Input(X.shape[1:]), layers.Dense(1)])
        model.compile("sgd", "mse")
        return model

    wrappers = keras.wrappers
    classify = make_pipeline(StandardScaler(), wrappers.SKLearnClassifier(softmax, **options))
    assert cross_val_score(classify, x, y, cv=2).shape == (2,)
    regress = make_pipeline(StandardScaler(), wrappers.SKLearnRegressor(linear, **options))
    assert np.isfinite(cross_val_score(regress, x, x[:, 0], cv=2)).all()
    transform = wrappers.SKLearnTransformer(linear, **options)
    assert transform.fit(x, x[:, 0]).transform(x[:5]).shape == (5, 1)
    calls = calls_since(before)
    assert calls["op_by_op"] == 0
    assert calls["compiled"] > 0


TRAIN = """
import numpy, keras, keras_triton
model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
model.compile("sgd", "mse")
model.fit(numpy.ones((4, 3)), numpy.ones((4, 2)), verbose=0)
print(keras_triton.stats().counts.compiled)
"""


@pytest.mark.parametrize("first", ["tensorflow", "keras"])
def test_tensorflow_in_the_same_process(first, tmp_path):
    """Its LLVM and MLIR's stay apart, whichever is loaded first."""
    pytest.importorskip("tensorflow", reason="tensorflow is not installed")
    second = {"tensorflow": "keras", "keras": "tensorflow"}[first]
    done = subprocess.run(
        [sys.executable, "-c", f"import {first}\nimport {second}\n{TRAIN}"],
        env={**os.environ, "KERAS_BACKEND": "triton"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "1"
