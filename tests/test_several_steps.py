"""`steps_per_execution`: several steps in one call are one program, and equal to single steps."""

import warnings

import keras
import numpy as np
import pytest
from keras import layers, ops
from numerics import float64
from twins import assert_alike, assert_equal

from keras_triton.compiled_steps import CompiledSteps
from keras_triton.journal import stats

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(32, 6))
Y = RANDOM.integers(0, 3, 32)


@pytest.fixture(autouse=True)
def _double_precision():
    with float64():
        yield


def classifier(run_eagerly=False, steps=1, inner=()):
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(8, activation="relu"),
            *inner,
            layers.BatchNormalization(),
            layers.Dropout(0.3, seed=1),
            layers.Dense(3),
        ]
    )
    model.compile(
        keras.optimizers.Adam(0.01),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy", keras.metrics.SparseCategoricalCrossentropy(from_logits=True)],
        steps_per_execution=steps,
        run_eagerly=run_eagerly,
    )
    return model


def calls(model, count=32):
    x, y, options = X[:count], Y[:count], {"batch_size": 4, "verbose": 0}
    logs = model.fit(x, y, epochs=2, shuffle=False, **options).history
    logs |= model.evaluate(x, y, return_dict=True, **options)
    return {**logs, "predictions": model.predict(x, **options)}


def twins(steps, run=calls, inner=lambda: ()):
    """Compiled with several steps a call, eager with one."""
    return assert_alike(
        lambda run_eagerly: classifier(run_eagerly, 1 if run_eagerly else steps, inner()), run
    )


def counts(function):
    """Captures and compiled calls, of several steps at once and of single ones."""
    parts = (function.steps.counts, function.step.counts)
    return [(part.captures, part.compiled) for part in parts]


def test_several_steps_are_one_program_and_equal_eager_single_steps():
    before = len(stats().reports)
    model = twins(4).compiled
    for name in ("train", "test", "predict"):
        function = getattr(model, f"{name}_function")
        assert isinstance(function.steps, CompiledSteps)
        calls_of_four = 4 if name == "train" else 2
        assert counts(function) == [(1, calls_of_four), (0, 0)]
    reports = stats().reports[before:]
    assert [report.step for report in reports] == [
        f"{name}_step times 4" for name in ("train", "test", "predict")
    ]
    assert {row.times for row in reports[0].rows} == {1, 4}
    assert not any(report.fallbacks for report in reports)


def test_a_remainder_is_a_program_of_fewer_steps():
    # Batches of 4: 3, 3 and 2 of them.
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # Keras would say that data ran out
        model = twins(3).compiled
    assert counts(model.train_function) == [(2, 6), (0, 0)]


def test_a_smaller_last_batch_is_a_single_step():
    # Batches 4, 4, 4 and then 4, 4, 2.
    model = twins(3, lambda model: calls(model, 22)).compiled
    assert counts(model.train_function) == [(2, 4), (1, 2)]
    assert len(model.predict(X[:22], batch_size=4, verbose=0)) == 22


def test_callbacks_are_called_once_a_program_with_the_logs_of_its_last_step():
    seen = []
    callback = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: seen.append((batch, logs))
    )
    model, single = classifier(steps=4), classifier()
    single.set_weights(model.get_weights())
    model.fit(X, Y, batch_size=4, shuffle=False, verbose=0, callbacks=[callback])
    several = list(seen)
    seen.clear()
    single.fit(X, Y, batch_size=4, shuffle=False, verbose=0, callbacks=[callback])
    assert [batch for batch, _ in several] == [3, 7]
    for (_, logs), (_, wanted) in zip(several, [seen[3], seen[7]], strict=True):
        assert_equal(logs, wanted, 1e-9)


def test_compile_cost_does_not_grow_with_the_steps():
    before = len(stats().reports)
    for steps in (2, 8):
        keras.utils.set_random_seed(0)
        classifier(steps=steps).fit(X, Y, batch_size=4, verbose=0)
    two, eight = (len(report.rows) for report in stats().reports[before:])
    assert two == eight


def test_predictions_of_several_outputs_are_joined():
    inputs = keras.Input((6,))
    outputs = {"a": layers.Dense(2)(inputs), "b": layers.Dense(1)(inputs)}
    model = keras.Model(inputs, outputs)
    model.compile(steps_per_execution=3)
    single = keras.Model(inputs, outputs)
    found = model.predict(X, batch_size=4, verbose=0)
    assert found["a"].shape == (32, 2)
    assert_equal(found, single.predict(X, batch_size=4, verbose=0), 1e-9)


def test_stateful_layers_and_accumulated_gradients_carry_over():
    def build(run_eagerly):
        model = keras.Sequential(
            [
                keras.Input(batch_shape=(4, 6)),
                layers.Reshape((3, 2)),
                layers.SimpleRNN(4, stateful=True),
                layers.Dense(3),
            ]
        )
        model.compile(
            keras.optimizers.SGD(0.1, gradient_accumulation_steps=3, use_ema=True),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            steps_per_execution=1 if run_eagerly else 4,
            run_eagerly=run_eagerly,
        )
        return model

    assert_alike(build, calls)


def test_unbuilt_models_and_optimizers_create_their_variables_in_a_first_single_step():
    class Late(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense, self.rate = layers.Dense(3), keras.optimizers.Adam(0.1)

        def call(self, x):
            return self.dense(x)

        def train_step(self, data):
            self.rate.iterations.assign_add(1)
            return super().train_step(data)

    def build(run_eagerly):
        model = Late()
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        steps = 1 if run_eagerly else 4
        model.compile("sgd", loss, steps_per_execution=steps, run_eagerly=run_eagerly)
        return model

    assert_alike(build, calls, op_by_op=1)


def test_learning_rates_change_between_programs_without_another_capture():
    halve = keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2)

    def run(model):
        return model.fit(
            X, Y, batch_size=4, epochs=3, shuffle=False, verbose=0, callbacks=[halve]
        ).history

    assert counts(twins(4, run).compiled.train_function) == [(1, 6), (0, 0)]


class Reads(layers.Layer):
    def call(self, x):
        return x * float(ops.max(x))


def test_steps_that_cannot_be_captured_run_one_by_one_after_one_warning():
    keras.utils.set_random_seed(7)
    model = classifier(steps=4, inner=[Reads(name="reader")])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        logs = model.fit(X, Y, batch_size=4, shuffle=False, verbose=0).history
    (said,) = {str(w.message) for w in caught if "captured" in str(w.message)}
    assert said.startswith("train_step cannot be captured: in ")
    assert "reader" in said
    assert model.train_function.step.counts.op_by_op == 8
    keras.utils.set_random_seed(7)
    eager = classifier(run_eagerly=True, inner=[Reads()])
    wanted = eager.fit(X, Y, batch_size=4, shuffle=False, verbose=0).history
    assert_equal(logs, wanted, 1e-9)
