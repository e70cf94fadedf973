"""int8, int4 and float8 layers: predicting, and training what remains trainable."""

import keras
import numpy as np
import pytest
from keras import layers
from numerics import float64
from twins import assert_alike, calls

RANDOM = np.random.default_rng(0)
X, Y = RANDOM.normal(size=(16, 8)), RANDOM.integers(0, 4, 16)
TOKENS = RANDOM.integers(0, 5, (16, 7))
# Scales of quantized layers are float32 whatever the policy.
TOLERANCE = 1e-6


@pytest.fixture(autouse=True)
def _double_precision():
    with float64():
        yield


def dense():
    return [keras.Input((8,)), layers.Dense(8, activation="relu"), layers.Dense(4)]


def embedded():
    return [
        keras.Input((7,), dtype="int32"),
        layers.Embedding(5, 4),
        layers.EinsumDense("abc,cd->abd", output_shape=(None, 4)),
        layers.GlobalAveragePooling1D(),
    ]


def quantized(make, mode, lora=False):
    def build(run_eagerly):
        model = keras.Sequential(make())
        model.quantize(mode)
        for layer in model.layers if lora else ():
            layer.enable_lora(2)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.SGD(0.1), loss, run_eagerly=run_eagerly)
        return model

    return build


@pytest.mark.parametrize("mode", ["int8", "int4", "float8"])
@pytest.mark.parametrize(("make", "x"), [(dense, X), (embedded, TOKENS)], ids=["dense", "embedded"])
def test_predict(make, x, mode):
    def run(model):
        return {"predictions": model.predict(x, verbose=0)}

    assert_alike(quantized(make, mode), run, tolerance=TOLERANCE)


@pytest.mark.parametrize("mode", ["int8", "int4"])
def test_lora_trains_beside_quantized_kernels(mode):
    model = assert_alike(
        quantized(dense, mode, lora=True), calls(X, Y), tolerance=TOLERANCE
    ).compiled
    assert model.layers[0]._kernel.dtype == "int8"


def test_float8_training():
    """Torch casts to and from float8, and keeps the histories of largest values."""
    outcome = assert_alike(quantized(dense, "float8"), calls(X, Y), tolerance=TOLERANCE)
    casts = {f"aten._to_copy.default on float8_{kind}" for kind in ("e4m3fn", "e5m2")}
    assert casts <= outcome.fallbacks
    others = outcome.fallbacks - casts
    assert all("roll" in reason or "index_put" in reason for reason in others), others
    history = outcome.compiled.layers[0].inputs_amax_history.numpy()
    # The newest comes first; the roll before it moves its forerunners to the end.
    assert (history[[0, -3, -2, -1]] > 0).all()


def test_quantizing_a_model_that_was_trained_and_predicted_compiled():
    def run(model):
        found = calls(X, Y)(model)
        model.quantize("int8")
        return {**found, "quantized": model.predict(X, verbose=0)}

    def build(run_eagerly):
        model = keras.Sequential(dense())
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.SGD(0.1), loss, run_eagerly=run_eagerly)
        return model

    assert_alike(build, run, tolerance=TOLERANCE)
