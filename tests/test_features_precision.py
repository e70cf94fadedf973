"""Mixed precision with loss scaling, bfloat16, and float64 throughout.

A compiled kernel computes in float32 between its reads and its writes, where eager execution rounds
to 16 bits after each op; so results differ by some roundings of the type.
"""

import keras
import numpy as np
import pytest
from keras import layers, ops
from numerics import float64
from twins import assert_alike, calls

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(24, 6)).astype("float32")
Y = RANDOM.integers(0, 3, 24)
HALF, BRAIN = 4 * 2.0**-10, 4 * 2.0**-7  # a few roundings of float16 and of bfloat16


def classifier(run_eagerly, policy, optimizer=None):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        model = keras.Sequential(
            [
                keras.Input((6,)),
                layers.Dense(8, activation="gelu"),
                layers.LayerNormalization(),
                layers.Dropout(0.2, seed=1),
                layers.Dense(3),
            ]
        )
    finally:
        keras.config.set_dtype_policy(before)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer or keras.optimizers.SGD(0.1), loss, run_eagerly=run_eagerly)
    return model


@pytest.mark.parametrize(
    ("policy", "tolerance"),
    [("mixed_float16", HALF), ("mixed_bfloat16", BRAIN), ("float16", HALF), ("bfloat16", BRAIN)],
)
def test_policy(policy, tolerance):
    model = assert_alike(
        lambda eager: classifier(eager, policy), calls(X, Y), tolerance=tolerance
    ).compiled
    computed = policy.removeprefix("mixed_")
    assert model.predict(X[:8], verbose=0).dtype == computed
    assert model.layers[0].kernel.dtype == ("float32" if "mixed" in policy else computed)


def test_float64():
    with float64():
        model = assert_alike(lambda eager: classifier(eager, "float64"), calls(X, Y)).compiled
    assert model.predict(X[:8], verbose=0).dtype == "float64"


def test_mixed_float16_scales_its_loss():
    model = classifier(False, "mixed_float16")
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)


def scaled(run_eagerly):
    inner = keras.optimizers.Adam(0.01)
    optimizer = keras.optimizers.LossScaleOptimizer(
        inner, initial_scale=64.0, dynamic_growth_steps=2
    )
    return classifier(run_eagerly, "mixed_float16", optimizer)


def state(model):
    optimizer = model.optimizer
    names = ("dynamic_scale", "step_counter")
    found = {name: float(ops.convert_to_numpy(getattr(optimizer, name))) for name in names}
    return {**found, "iterations": int(optimizer.inner_optimizer.iterations)}


def test_a_step_with_infinite_gradients_is_skipped_and_halves_the_scale():
    broken = X.copy()
    broken[3, 2] = np.inf

    def run(model):
        found = {}
        for step, x in enumerate([X, X, broken, X, broken, broken, X, X]):
            before = [variable.numpy() for variable in model.trainable_variables]
            loss = model.train_on_batch(x, Y)
            after = [variable.numpy() for variable in model.trainable_variables]
            found[f"loss {step}"] = loss
            for name, value in state(model).items():
                found[f"{name} {step}"] = value
            kept = all(map(np.array_equal, before, after))
            assert kept == (x is broken), "steps are skipped that are not finite, and no others"
        return found

    # Adam divides by the root of squared gradients, which magnifies roundings of small ones.
    model = assert_alike(scaled, run, tolerance=0.02).compiled
    assert state(model) == {"dynamic_scale": 32.0, "step_counter": 0.0, "iterations": 5}
    assert model.train_function.step.counts.captures == 1


def test_layers_of_different_policies_in_one_model():
    def build(run_eagerly):
        inputs = keras.Input((6,))
        hidden = layers.Dense(8, dtype="mixed_bfloat16", activation="relu")(inputs)
        model = keras.Model(inputs, layers.Dense(3, dtype="float32")(hidden))
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.SGD(0.1), loss, run_eagerly=run_eagerly)
        return model

    model = assert_alike(build, calls(X, Y), tolerance=BRAIN).compiled
    assert [layer.compute_dtype for layer in model.layers[1:]] == ["bfloat16", "float32"]
