"""Layers frozen and unfrozen between fits, batch normalization, and low-rank adaptation."""

import keras
import numpy as np
import pytest
from keras import layers
from numerics import float64
from twins import assert_alike, calls

RANDOM = np.random.default_rng(0)
X, Y = RANDOM.normal(size=(16, 6)), RANDOM.integers(0, 3, 16)
TOKENS = RANDOM.integers(0, 5, (16, 7))
IMAGES = RANDOM.normal(size=(16, 6, 6, 3))
# Keras keeps the factors of LoRA in float32 whatever the policy.
LORA = 1e-6


@pytest.fixture(autouse=True)
def _double_precision():
    with float64():
        yield


def compiled(model, run_eagerly):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), loss, run_eagerly=run_eagerly)
    return model


def normalized(run_eagerly):
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(8, activation="relu"),
            layers.BatchNormalization(momentum=0.5),
            layers.Dense(3),
        ]
    )
    return compiled(model, run_eagerly)


def fit(model):
    return model.fit(X, Y, batch_size=8, shuffle=False, verbose=0).history["loss"]


@pytest.mark.parametrize("recompile", [False, True])
@pytest.mark.parametrize("frozen", [0, 1, slice(0, 2)], ids=["dense", "normalization", "both"])
def test_frozen_and_unfrozen_between_fits(recompile, frozen):
    def run(model):
        found = {"at first": fit(model)}
        chosen = model.layers[frozen] if isinstance(frozen, slice) else [model.layers[frozen]]
        before = [layer.get_weights() for layer in chosen]
        for trainable in (False, True):
            for layer in chosen:
                layer.trainable = trainable
            if recompile:
                compiled(model, model.run_eagerly)
            found[f"trainable {trainable}"] = fit(model)
            kept = all(
                np.array_equal(a, b)
                for layer, old in zip(chosen, before, strict=True)
                for a, b in zip(layer.get_weights(), old, strict=True)
            )
            assert kept != trainable
        return found

    model = assert_alike(normalized, run).compiled
    if not recompile:
        # The first and the last fit share a program.
        assert model.train_function.step.counts.captures == 2


def test_a_frozen_model_inside_a_model():
    def build(run_eagerly):
        base = keras.Sequential([keras.Input((6,)), layers.Dense(8), layers.BatchNormalization()])
        base.trainable = False
        return compiled(keras.Sequential([base, layers.Dense(3)]), run_eagerly)

    def run(model):
        base = model.layers[0]
        before = base.get_weights()
        found = {"frozen": fit(model)}
        assert all(map(np.array_equal, before, base.get_weights()))
        base.trainable = True
        compiled(model, model.run_eagerly)  # Keras's optimizers keep the variables they began with
        return {**found, "unfrozen": fit(model)}

    assert_alike(build, run)


def test_batch_normalization_averages_while_training_and_uses_them_after():
    model = assert_alike(normalized, calls(X, Y)).compiled
    assert np.abs(model.layers[1].moving_mean.numpy()).max() > 0.1


def test_synchronized_masked_and_renormalized_statistics():
    def build(run_eagerly):
        inputs = keras.Input((5, 4))
        hidden = layers.BatchNormalization(synchronized=False)(layers.Masking()(inputs))
        hidden = layers.GroupNormalization(2)(hidden)
        hidden = layers.UnitNormalization()(layers.RMSNormalization()(hidden))
        hidden = layers.SpectralNormalization(layers.Dense(4))(hidden)
        return compiled(keras.Model(inputs, layers.Dense(3)(layers.Flatten()(hidden))), run_eagerly)

    x = RANDOM.normal(size=(16, 5, 4))
    x[:, 3:] = 0
    assert_alike(build, calls(x, Y))


ADAPTED = {
    "Dense": (lambda: [keras.Input((6,)), layers.Dense(8), layers.Dense(3)], X),
    "Embedding and EinsumDense": (
        lambda: [
            keras.Input((7,), dtype="int32"),
            layers.Embedding(5, 4),
            layers.EinsumDense("abc,cd->abd", output_shape=(None, 3)),
            layers.GlobalAveragePooling1D(),
        ],
        TOKENS,
    ),
    "Conv2D": (
        lambda: [
            keras.Input((6, 6, 3)),
            layers.Conv2D(4, 3),
            layers.GlobalAveragePooling2D(),
            layers.Dense(3),
        ],
        IMAGES,
    ),
}


@pytest.mark.parametrize("name", ADAPTED)
def test_lora(name):
    make, x = ADAPTED[name]

    def build(run_eagerly):
        model = keras.Sequential(make())
        for layer in model.layers:
            if layer.weights:
                layer.enable_lora(2)
        return compiled(model, run_eagerly)

    def run(model):
        kernels = [layer._kernel for layer in model.layers if hasattr(layer, "_kernel")]
        before = [kernel.numpy().copy() for kernel in kernels]
        found = calls(x, Y)(model)
        assert all(np.array_equal(a, b.numpy()) for a, b in zip(before, kernels, strict=True))
        return found

    assert_alike(build, run, tolerance=LORA)


def test_lora_enabled_after_a_first_fit():
    def build(run_eagerly):
        model = keras.Sequential([keras.Input((6,)), layers.Dense(8), layers.Dense(3)])
        return compiled(model, run_eagerly)

    def run(model):
        found = {"before": fit(model)}
        model.layers[0].enable_lora(2)
        compiled(model, model.run_eagerly)
        return {**found, "after": fit(model)}

    assert_alike(build, run, tolerance=LORA)
