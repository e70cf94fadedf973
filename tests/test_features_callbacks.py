"""Callbacks that change the learning rate, stop in the middle, or save and restore."""

import keras
import numpy as np
import pytest
from keras import callbacks, layers
from numerics import float64
from twins import assert_alike

RANDOM = np.random.default_rng(0)
X, Y = RANDOM.normal(size=(24, 6)), RANDOM.integers(0, 3, 24)


@pytest.fixture(autouse=True)
def _double_precision():
    with float64():
        yield


def classifier(run_eagerly):
    model = keras.Sequential([keras.Input((6,)), layers.Dense(8, "gelu"), layers.Dense(3)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.05), loss, metrics=["accuracy"], run_eagerly=run_eagerly)
    return model


def alike(*make, epochs=4, x=X):
    """Training with the callbacks that each of `make` gives; the compiled model."""

    def run(model):
        logs = model.fit(
            x,
            Y,
            batch_size=8,
            epochs=epochs,
            shuffle=False,
            verbose=0,
            validation_data=(X, Y),
            callbacks=[callback() for callback in make],
        ).history
        return {**logs, "rate": float(model.optimizer.learning_rate)}

    return assert_alike(classifier, run).compiled


RATES = {
    "LearningRateScheduler": lambda: callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2),
    "ReduceLROnPlateau": lambda: callbacks.ReduceLROnPlateau("loss", 0.5, 0, min_delta=10.0),
}


@pytest.mark.parametrize("name", RATES)
def test_the_learning_rate_changes_without_another_capture(name):
    model = alike(RATES[name])
    assert float(model.optimizer.learning_rate) < 0.05
    assert model.train_function.step.counts.captures == 1


class StopAt(callbacks.Callback):
    def __init__(self, batch):
        super().__init__()
        self.batch = batch

    def on_train_batch_end(self, batch, logs=None):
        if batch == self.batch:
            self.model.stop_training = True


def test_training_stops_in_the_middle_of_an_epoch():
    model = alike(lambda: StopAt(1))
    assert model.train_function.step.counts.compiled == 2
    assert model.optimizer.iterations == 2


def test_a_function_of_the_logs_stops_training():
    def make():
        return callbacks.LambdaCallback(
            on_train_batch_end=lambda batch, logs: seen.append(float(logs["loss"]))
        )

    seen = []
    alike(make)
    count = len(seen) // 2
    np.testing.assert_allclose(seen[:count], seen[count:], rtol=1e-9)


def test_early_stopping_restores_the_best_weights():
    model = alike(
        lambda: callbacks.EarlyStopping(
            "val_loss", min_delta=0.2, patience=1, restore_best_weights=True
        ),
        epochs=8,
    )
    assert model.train_function.step.counts.compiled < 8 * 3


def test_training_ends_at_a_loss_that_is_not_a_number():
    broken = X.copy()
    broken[12] = np.nan
    model = alike(callbacks.TerminateOnNaN, x=broken)
    assert model.train_function.step.counts.compiled == 2


def test_checkpoints_predict_as_the_model_did(tmp_path):
    path = tmp_path / "best.keras"

    def run(model):
        model.fit(
            X, Y, batch_size=8, epochs=2, shuffle=False, verbose=0,
            callbacks=[callbacks.ModelCheckpoint(path, monitor="loss", save_best_only=True)],
        )  # fmt: skip
        restored = keras.models.load_model(path)
        return {"restored": restored.predict(X, verbose=0), "own": model.predict(X, verbose=0)}

    found = assert_alike(classifier, run).compiled
    np.testing.assert_array_equal(
        keras.models.load_model(path).get_weights()[0].shape, found.get_weights()[0].shape
    )


class Interrupt(callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 2:
            raise KeyboardInterrupt


def test_an_interrupted_training_is_taken_up_again(tmp_path):
    def run(model):
        folder = tmp_path / ("eager" if model.run_eagerly else "compiled")
        options = {"batch_size": 8, "epochs": 4, "shuffle": False, "verbose": 0}
        backup = callbacks.BackupAndRestore(folder)
        with pytest.raises(KeyboardInterrupt):
            model.fit(X, Y, callbacks=[backup, Interrupt()], **options)
        model.set_weights([np.zeros_like(weight) for weight in model.get_weights()])
        resumed = callbacks.BackupAndRestore(folder)
        history = model.fit(X, Y, callbacks=[resumed], **options)
        assert history.epoch == [2, 3]
        return history.history

    assert_alike(classifier, run)
