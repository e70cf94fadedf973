"""Saved models: read back as they were, by this backend and by every other, and the other way."""

import os
import subprocess
import sys

import exchange_models
import keras
import numpy as np
import pytest
from keras import layers

# A batch has eight rows; outputs are of the order of 1.
TOLERANCE = 1e-5
# Four more steps of Adam, which divides small gradients by small roots, roundings included.
TRAINED_TOLERANCE = 1e-4

X = np.random.default_rng(0).normal(size=(16, 5)).astype("float32")
Y = np.random.default_rng(1).normal(size=(16, 2)).astype("float32")


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    """A folder of models that this backend trained."""
    folder = tmp_path_factory.mktemp("triton")
    exchange_models.write(folder)
    return folder


def assert_as_written(read, written):
    for name, values in read.items():
        tolerance = TRAINED_TOLERANCE if name == "trained on" else TOLERANCE
        expected = written[name.partition(".")[0]]
        np.testing.assert_allclose(values, expected, rtol=0, atol=tolerance, err_msg=name)


@pytest.mark.parametrize("backend", ["torch", "jax", "tensorflow"])
def test_models_go_both_ways(backend, ours, tmp_path):
    pytest.importorskip(backend)
    done = subprocess.run(
        [sys.executable, exchange_models.__file__, ours, tmp_path],
        env=os.environ | {"KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert_as_written(np.load(tmp_path / "read.npz"), np.load(ours / "written.npz"))
    assert_as_written(exchange_models.read(tmp_path), np.load(tmp_path / "written.npz"))


@keras.saving.register_keras_serializable("tests")
class Scale(layers.Layer):
    """A layer with a weight and state that only it knows how to save."""

    def __init__(self, start, **options):
        super().__init__(**options)
        self.start, self.notes = start, []

    def build(self, shape):
        self.factor = self.add_weight(shape=(), initializer=keras.initializers.Constant(self.start))

    def call(self, x):
        return x * self.factor

    def get_config(self):
        return super().get_config() | {"start": self.start}

    def save_own_variables(self, store):
        super().save_own_variables(store)
        store["notes"] = np.array(self.notes, "int64")

    def load_own_variables(self, store):
        self.notes = list(store["notes"])
        self.factor.assign(store["0"])


@keras.saving.register_keras_serializable("tests")
def skewed(y, prediction):
    return keras.ops.mean(keras.ops.square(y - prediction) * (1 + 0.5 * (y > 0)), axis=-1)


def model(optimizer):
    keras.utils.set_random_seed(0)
    made = keras.Sequential(
        [
            keras.Input((5,)),
            layers.Dense(8, activation="relu"),
            # Nothing random: Keras saves no state of seeds.
            layers.BatchNormalization(),
            Scale(1.5),
            layers.Dense(2),
        ]
    )
    made.compile(optimizer, skewed, metrics=["mae"])
    return made


def fit(trained):
    return trained.fit(X, Y, batch_size=8, epochs=1, shuffle=False, verbose=0).history


OPTIMIZERS = {
    "adam": lambda: keras.optimizers.AdamW(0.01, ema_momentum=0.9, use_ema=True),
    "momentum": lambda: keras.optimizers.SGD(
        keras.optimizers.schedules.CosineDecay(0.1, 10), momentum=0.9, nesterov=True
    ),
    "scaled": lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.RMSprop(0.01)),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_training_goes_on_as_if_never_saved(optimizer, tmp_path):
    trained = model(OPTIMIZERS[optimizer]())
    fit(trained)
    trained.layers[2].notes = [3, 4]
    trained.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.layers[2].notes == [3, 4]
    assert fit(loaded) == fit(trained)
    for one, other in zip(loaded.variables, trained.variables, strict=True):
        np.testing.assert_array_equal(one, other, err_msg=one.path)
    for one, other in zip(loaded.optimizer.variables, trained.optimizer.variables, strict=True):
        np.testing.assert_array_equal(one, other, err_msg=one.path)


@pytest.mark.filterwarnings("ignore:Skipping variable loading for optimizer")  # it is not built
def test_weights_load_into_a_model_that_is_compiled_already(tmp_path):
    trained, fresh = model("adam"), model("adam")
    fit(trained)
    before = fresh.predict(X, verbose=0)
    trained.save_weights(tmp_path / "model.weights.h5")
    fresh.load_weights(tmp_path / "model.weights.h5")
    after = fresh.predict(X, verbose=0)
    np.testing.assert_array_equal(after, trained.predict(X, verbose=0))
    assert np.abs(after - before).max() > 0.01
    assert fresh.predict_function.step.counts.captures == 1


def test_sharded_weights(tmp_path):
    trained = keras.Sequential([keras.Input((100,)), layers.Dense(90), layers.Dense(80)])
    path = tmp_path / "model.weights.json"
    trained.save_weights(path, max_shard_size=40e-6)  # in gigabytes
    assert len(list(tmp_path.glob("*.weights.h5"))) > 1
    fresh = keras.models.clone_model(trained)
    fresh.load_weights(path)
    for one, other in zip(fresh.weights, trained.weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_unregistered_objects_are_given_by_name(tmp_path):
    class Own(layers.Dense):
        pass

    trained = keras.Sequential([keras.Input((5,)), Own(2)])
    trained.save(tmp_path / "model.keras")
    with pytest.raises(TypeError, match="Could not locate class 'Own'"):
        keras.saving.load_model(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", custom_objects={"Own": Own})
    np.testing.assert_array_equal(loaded.predict(X, verbose=0), trained.predict(X, verbose=0))


def test_files_name_the_backend_as_plain_text(tmp_path):
    import h5py

    trained = keras.Sequential([keras.Input((5,)), layers.Dense(2)])
    trained.save(tmp_path / "model.h5")
    with h5py.File(tmp_path / "model.h5") as file:
        assert file.attrs["backend"] == "triton"
