"""fit, evaluate and predict through compiled steps equal the same calls op by op."""

import logging
import warnings

import keras
import numpy as np
import pytest
import torch
from keras import layers, ops

from keras_triton.capture_errors import VALUE_READ
from keras_triton.compiled_step import CompiledStep
from keras_triton.src import trainer as trainer_module

# Both run the same kernels; only the order of roundings differs.
TOLERANCE = 1e-5


@pytest.fixture(autouse=True)
def graphs_run_as_captured(monkeypatch):
    """The trainer alone is tested: a captured graph runs on torch, uncompiled."""
    run = lambda captured: lambda tensors: captured.graph(*tensors)  # noqa: E731
    monkeypatch.setattr("keras_triton.compiled_function.default_compile", run)


def classifier(**compile_options) -> keras.Model:
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(8, activation="relu", name="hidden"),
            layers.BatchNormalization(),
            layers.Dropout(0.2, seed=3),
            layers.Dense(3),
        ]
    )
    model.compile(
        keras.optimizers.SGD(0.05, momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        **compile_options,
    )
    return model


def samples(count: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    x = generator.normal(size=(count, 6)).astype("float32")
    return x, generator.integers(0, 3, count)


def train(model: keras.Model, count: int = 20, **options):
    x, y = samples(count)
    return model.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0, **options)


def counts(function) -> tuple[int, int, int]:
    return tuple(vars(function.step.counts).values())


def assert_same_weights(a: keras.Model, b: keras.Model) -> None:
    for one, other in zip(a.get_weights(), b.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=TOLERANCE, atol=1e-6)


def test_fit_evaluate_predict_equal_op_by_op():
    compiled, eager = classifier(), classifier(jit_compile=False)
    x, y = samples(20)
    weights = np.linspace(0.1, 1.0, 20).astype("float32")
    options = {"sample_weight": weights, "validation_data": (x, y)}
    histories = [train(model, **options).history for model in (compiled, eager)]
    for name, values in histories[0].items():
        np.testing.assert_allclose(values, histories[1][name], rtol=TOLERANCE, err_msg=name)
    assert_same_weights(compiled, eager)
    np.testing.assert_allclose(
        compiled.predict(x, batch_size=8, verbose=0),
        eager.predict(x, batch_size=8, verbose=0),
        rtol=TOLERANCE,
        atol=1e-6,
    )
    results = [model.evaluate(x, y, batch_size=8, verbose=0) for model in (compiled, eager)]
    np.testing.assert_allclose(*results, rtol=TOLERANCE)


def test_a_ragged_last_batch_is_captured_with_the_others():
    model = classifier()
    train(model, 20)  # batches of 8, 8, 4 in each of two epochs
    assert counts(model.train_function) == (1, 6, 0)


@pytest.mark.parametrize("options", [{"jit_compile": False}, {"run_eagerly": True}])
def test_op_by_op_on_request(options):
    model = classifier(**options)
    train(model)
    assert not isinstance(model.train_function.step, CompiledStep)


def test_jit_is_on_by_default():
    model = classifier()
    model.make_train_function()
    assert model.jit_compile is None, "as asked: Keras takes True for the wish to use torch.compile"
    assert model.compiles_steps
    assert isinstance(model.train_function.step, CompiledStep)


def test_on_batch_methods():
    compiled, eager = classifier(), classifier(jit_compile=False)
    x, y = samples(8)
    for _ in range(3):
        logs = [model.train_on_batch(x, y, return_dict=True) for model in (compiled, eager)]
        np.testing.assert_allclose(list(logs[0].values()), list(logs[1].values()), rtol=TOLERANCE)
    np.testing.assert_allclose(
        compiled.test_on_batch(x, y), eager.test_on_batch(x, y), rtol=TOLERANCE
    )
    np.testing.assert_allclose(
        compiled.predict_on_batch(x), eager.predict_on_batch(x), rtol=TOLERANCE, atol=1e-6
    )
    assert counts(compiled.train_function) == (1, 3, 0)


def test_class_weights_in_train_on_batch():
    compiled, eager = classifier(), classifier(jit_compile=False)
    x, y = samples(8)
    logs = [
        m.train_on_batch(x, y, class_weight={0: 1.0, 1: 2.0, 2: 0.5}) for m in (compiled, eager)
    ]
    np.testing.assert_allclose(*logs, rtol=TOLERANCE)


def test_several_steps_in_one_call():
    calls = []
    stepwise = classifier()
    grouped = classifier(steps_per_execution=2)
    callback = keras.callbacks.LambdaCallback(on_train_batch_end=lambda b, logs: calls.append(b))
    histories = [train(stepwise, 32).history, train(grouped, 32, callbacks=[callback]).history]
    assert len(calls) == 4  # 4 batches in 2 calls, 2 epochs
    np.testing.assert_allclose(histories[0]["loss"], histories[1]["loss"], rtol=TOLERANCE)
    x, _ = samples(20)
    np.testing.assert_allclose(
        stepwise.predict(x, batch_size=8, verbose=0),
        grouped.predict(x, batch_size=8, verbose=0),
        rtol=TOLERANCE,
    )


def test_trainable_change_captures_anew():
    model = classifier()
    x, y = samples(8)
    model.train_on_batch(x, y)
    hidden = model.get_layer("hidden")
    hidden.trainable = False
    frozen = hidden.get_weights()
    model.train_on_batch(x, y)
    assert counts(model.train_function) == (2, 2, 0)
    for one, other in zip(frozen, hidden.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_frozen_layer_without_trainable_variables_captures_anew():
    layer = layers.BatchNormalization(center=False, scale=False)
    model = keras.Sequential([keras.Input((6,)), layer, layers.Dense(3)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x, y = samples(8)
    model.train_on_batch(x, y)
    layer.trainable = False
    moving_mean = layer.moving_mean.numpy().copy()
    model.train_on_batch(x, y)
    np.testing.assert_array_equal(layer.moving_mean.numpy(), moving_mean)
    assert counts(model.train_function) == (2, 2, 0)


def test_recompiled_model_uses_its_new_optimizer():
    model = classifier()
    x, y = samples(8)
    model.train_on_batch(x, y)
    model.compile(keras.optimizers.SGD(0.0), "sparse_categorical_crossentropy")
    before = model.get_layer("hidden").get_weights()
    model.train_on_batch(x, y)
    for one, other in zip(before, model.get_layer("hidden").get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_learning_rate_is_an_input():
    model = classifier()
    x, y = samples(8)
    model.train_on_batch(x, y)
    model.optimizer.learning_rate = 0.0
    model.optimizer.momentum = 0.0  # frozen in the graph, as hyperparameters are
    before = model.get_layer("hidden").get_weights()
    for variable in model.optimizer.variables:
        if "momentum" in variable.path:
            variable.assign(ops.zeros_like(variable))
    model.train_on_batch(x, y)
    assert counts(model.train_function) == (1, 2, 0)
    for one, other in zip(before, model.get_layer("hidden").get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


class Chooses(layers.Layer):
    def call(self, x):
        return x if ops.sum(x) > 0 else -x


def test_data_dependent_layer_warns_once_and_trains():
    models = []
    for options in ({}, {"jit_compile": False}):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([layers.Dense(4), Chooses(name="chooser"), layers.Dense(3)])
        model.build((None, 6))
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile("sgd", loss, **options)
        models.append(model)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        train(models[0])
    messages = [str(w.message) for w in caught if "captured" in str(w.message)]
    assert len(messages) == 1
    assert "chooser" in messages[0]
    assert VALUE_READ in messages[0]
    assert counts(models[0].train_function) == (0, 0, 6)
    train(models[1])
    assert_same_weights(*models)


def test_keras_own_errors_surface():
    model = classifier()
    with pytest.raises(ValueError, match="incompatible with the layer"):
        model.train_on_batch(np.zeros((4, 5), "float32"), np.zeros(4, "int32"))


def test_a_mistake_in_a_layer_raises_once_and_warns_of_nothing(recwarn, caplog):
    class Mistaken(layers.Layer):
        def call(self, x):
            return x if x.device.type == "meta" else x + torch.ones(2)

    model = keras.Sequential([keras.Input((6,)), Mistaken()])
    with pytest.raises(RuntimeError, match="must match the size"):
        model.predict(samples(4)[0], verbose=0)
    assert not [w for w in recwarn if "captured" in str(w.message)]
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_unbuilt_model_predicts():
    model = keras.Sequential([layers.Dense(4), layers.Dense(3)])
    x, _ = samples(16)
    first = model.predict(x, batch_size=8, verbose=0)
    np.testing.assert_allclose(
        model.predict(x, batch_size=8, verbose=0), first, rtol=TOLERANCE, atol=1e-6
    )
    assert model.predict_function.step.counts.compiled == 3


def test_layer_that_no_step_calls():
    class Partial(keras.Model):
        def __init__(self):
            super().__init__()
            self.used, self.unused = layers.Dense(3), layers.Dense(4)

        def call(self, x):
            return self.used(x)

        def build(self, shape):
            self.used.build(shape)

    model = Partial()
    model.predict(samples(16)[0], batch_size=8, verbose=0)
    # The first call may have created variables, so it ran op by op.
    assert vars(model.predict_function.step.counts) == {"captures": 1, "compiled": 1, "op_by_op": 1}


def test_nested_inputs_and_missing_parts():
    a, b = keras.Input((6,), name="a"), keras.Input((6,), name="b")
    model = keras.Model({"a": a, "b": b}, layers.Dense(1)(layers.add([a, b])))
    model.compile("sgd", "mse")
    x, y = samples(8)
    inputs = {"a": x, "b": x}
    model.train_on_batch(inputs, y.astype("float32"))
    model.train_on_batch(inputs, y.astype("float32"), sample_weight=np.ones(8, "float32"))
    assert counts(model.train_function) == (2, 2, 0)


def test_results_are_tensors_until_asked():
    model = classifier()
    x, y = samples(8)
    model.train_on_batch(x, y)
    logs = model.train_function([(torch.as_tensor(x), torch.as_tensor(y), None)])
    assert all(isinstance(value, torch.Tensor) for value in logs.values())


def test_trainer_is_the_backend_trainer():
    assert issubclass(keras.Model, trainer_module.Trainer)
