"""fit, evaluate, predict and the *_on_batch methods, with weights, masks and nested data."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from numerics import float64
from twins import assert_alike, calls

RANDOM = np.random.default_rng(0)
X, Y = RANDOM.normal(size=(24, 6)), RANDOM.integers(0, 3, 24)
TOKENS = RANDOM.integers(0, 5, (24, 7))
TARGETS = RANDOM.normal(size=(24, 1))


@pytest.fixture(autouse=True)
def _double_precision():
    with float64():
        yield


def crossentropy():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def compiled(model, run_eagerly, loss=None, **options):
    model.compile(
        keras.optimizers.SGD(0.1, momentum=0.9),
        crossentropy() if loss is None else loss,
        run_eagerly=run_eagerly,
        **options,
    )
    return model


def mlp(run_eagerly, **options):
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(8, activation="gelu"),
            layers.BatchNormalization(),
            layers.Dropout(0.3, seed=1),
            layers.Dense(3),
        ]
    )
    return compiled(model, run_eagerly, **options)


def test_fit_evaluate_predict():
    outcome = assert_alike(lambda eager: mlp(eager, metrics=["accuracy"]), calls(X, Y))
    assert not outcome.fallbacks


def test_a_smaller_last_batch_and_validation_data():
    run = calls(X[:20], Y[:20], validation_data=(X[20:], Y[20:]))
    model = assert_alike(lambda eager: mlp(eager, metrics=["accuracy"]), run).compiled
    assert model.train_function.step.counts.captures == 1
    assert model.train_function.step.counts.compiled == 6


def test_shuffled_batches():
    def run(model):
        return model.fit(X, Y, batch_size=8, epochs=2, verbose=0).history

    assert_alike(mlp, run)


def test_train_test_and_predict_on_batch():
    def run(model):
        logs = [model.train_on_batch(X[:8], Y[:8]) for _ in range(3)]
        logs.append(model.train_on_batch(X[:8], Y[:8], sample_weight=np.linspace(0, 1, 8)))
        logs.append(model.train_on_batch(X[:8], Y[:8], class_weight={0: 1.0, 1: 3.0, 2: 0.5}))
        tested = model.test_on_batch(X[8:], Y[8:])
        return {"train": logs, "test": tested, "predict": model.predict_on_batch(X)}

    assert_alike(lambda eager: mlp(eager, metrics=["accuracy"]), run)


@pytest.mark.parametrize(
    "weights",
    [{"sample_weight": np.linspace(0.1, 1, 24)}, {"class_weight": {0: 1.0, 1: 2.0, 2: 0.5}}],
    ids=["sample_weight", "class_weight"],
)
def test_weights(weights):
    assert_alike(
        lambda eager: mlp(eager, metrics=["accuracy"], weighted_metrics=["accuracy"]),
        calls(X, Y, **weights),
    )


def embedded(run_eagerly):
    inputs = keras.Input((7,), dtype="int32")
    hidden = layers.Embedding(5, 4, mask_zero=True)(inputs)
    hidden = layers.MultiHeadAttention(2, 4)(hidden, hidden, use_causal_mask=True)
    outputs = layers.Dense(3)(layers.GlobalAveragePooling1D()(hidden))
    return compiled(keras.Model(inputs, outputs), run_eagerly, weighted_metrics=["accuracy"])


def test_mask_of_an_embedding():
    assert_alike(embedded, calls(TOKENS, Y))


def test_masking_of_a_sequence_up_to_the_loss():
    x = RANDOM.normal(size=(24, 5, 4))
    x[:, 3:] = 0.0
    y = RANDOM.normal(size=(24, 5, 2))

    def build(run_eagerly):
        model = keras.Sequential(
            [keras.Input((5, 4)), layers.Masking(), layers.LSTM(4, return_sequences=True)]
        )
        model.add(layers.TimeDistributed(layers.Dense(2)))
        return compiled(model, run_eagerly, "mse", weighted_metrics=["mae"])

    assert_alike(build, calls(x, y))


def test_dictionaries_of_inputs_and_outputs():
    inputs = {"a": X, "b": 2 * X[:, :4]}
    targets = {"class": Y, "value": TARGETS}

    def build(run_eagerly):
        a, b = keras.Input((6,), name="a"), keras.Input((4,), name="b")
        hidden = layers.Dense(4)(layers.Concatenate()([a, b]))
        outputs = {"class": layers.Dense(3)(hidden), "value": layers.Dense(1)(hidden)}
        return compiled(
            keras.Model({"a": a, "b": b}, outputs),
            run_eagerly,
            {"class": crossentropy(), "value": "mse"},
            loss_weights={"class": 1.0, "value": 0.5},
            metrics={"class": ["accuracy"], "value": ["mae"]},
        )

    weights = {"class": np.linspace(0, 1, 24), "value": np.linspace(1, 2, 24)}
    assert_alike(build, calls(inputs, targets))
    assert_alike(build, calls(inputs, targets, sample_weight=weights))


def test_lists_of_inputs_and_outputs():
    def build(run_eagerly):
        a, b = keras.Input((6,)), keras.Input((6,))
        shared = layers.Dense(4)
        both = layers.Multiply()([shared(a), shared(b)])
        model = keras.Model([a, b], [layers.Dense(3)(both), [layers.Dense(1)(both)]])
        return compiled(model, run_eagerly, [crossentropy(), ["mse"]])

    assert_alike(build, calls([X, X + 1], [Y, [TARGETS]]))


class Running(keras.metrics.Metric):
    """A metric of one's own with states of several shapes."""

    def __init__(self, name="running"):
        super().__init__(name=name)
        self.largest = self.add_variable((3,), "zeros", name="largest")
        self.seen = self.add_variable((), "zeros", name="seen")

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.largest.assign(ops.maximum(self.largest, ops.max(ops.abs(y_pred), 0)))
        self.seen.assign_add(ops.cast(ops.shape(y_pred)[0], self.seen.dtype))

    def result(self):
        return {"largest": ops.mean(self.largest), "seen": self.seen}


def test_stateful_metrics_of_ones_own():
    model = assert_alike(lambda eager: mlp(eager, metrics=[Running()]), calls(X, Y)).compiled
    assert model.evaluate(X, Y, batch_size=8, verbose=0, return_dict=True)["seen"] == 24


def test_results_stay_on_the_device_until_they_are_asked_for():
    model = mlp(False)
    model.train_on_batch(X[:8], Y[:8])
    logs = model.train_function(
        [(ops.convert_to_tensor(X[:8]), ops.convert_to_tensor(Y[:8]), None)]
    )
    assert all(ops.is_tensor(value) for value in logs.values())
