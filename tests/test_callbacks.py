"""Callbacks that write files or restore models, around compiled steps."""

import csv

import keras
import numpy as np
import pytest
from keras import layers

X = np.random.default_rng(0).normal(size=(32, 4)).astype("float32")
Y = np.random.default_rng(1).normal(size=(32, 2)).astype("float32")


def model(**options):
    keras.utils.set_random_seed(0)
    made = keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(8, activation="relu"),
            # Nothing random: Keras saves no state of seeds.
            layers.BatchNormalization(),
            layers.Dense(2),
        ]
    )
    made.compile(keras.optimizers.Adam(0.01), "mse", metrics=["mae"], **options)
    return made


def fit(trained, epochs, *callbacks, **options):
    return trained.fit(
        X, Y, batch_size=8, epochs=epochs, shuffle=False, verbose=0, callbacks=list(callbacks),
        **options,
    ).history  # fmt: skip


def test_csv_logger_writes_the_history(tmp_path):
    path = tmp_path / "log.csv"
    history = fit(model(), 3, keras.callbacks.CSVLogger(path), validation_split=0.25)
    with path.open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["epoch"]) for row in rows] == [0, 1, 2]
    for name, values in history.items():
        assert [float(row[name]) for row in rows] == values


class Spoil(keras.callbacks.Callback):
    """Makes the model worse at the end of an epoch, before it is validated there."""

    def __init__(self, at):
        super().__init__()
        self.at = at

    def on_test_begin(self, logs=None):
        if self.model.optimizer.iterations == 4 * (self.at + 1):
            self.model.layers[-1].bias.assign_add([9.0, 9.0])


def test_checkpoint_keeps_the_best_of_compiled_epochs(tmp_path):
    path = tmp_path / "best.keras"
    trained = model()
    best = keras.callbacks.ModelCheckpoint(path, monitor="val_loss", save_best_only=True)
    history = fit(trained, 4, Spoil(at=2), best, validation_data=(X, Y))
    kept = int(np.argmin(history["val_loss"]))
    assert kept < 2  # the third epoch was spoiled, and the fourth did not mend it
    loaded = keras.saving.load_model(path)
    assert int(loaded.optimizer.iterations) == 4 * (kept + 1)
    assert loaded.evaluate(X, Y, batch_size=8, verbose=0)[0] == history["val_loss"][kept]


class Interrupt(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 2:
            raise KeyboardInterrupt


def test_backup_resumes_as_if_never_interrupted(tmp_path):
    whole = model()
    history = fit(whole, 4)
    stopped = model()
    with pytest.raises(KeyboardInterrupt):
        fit(stopped, 4, keras.callbacks.BackupAndRestore(tmp_path), Interrupt())
    resumed = model()
    rest = fit(resumed, 4, keras.callbacks.BackupAndRestore(tmp_path))
    assert rest["loss"] == history["loss"][2:]
    for one, other in zip(resumed.variables, whole.variables, strict=True):
        np.testing.assert_array_equal(one, other, err_msg=one.path)


def test_early_stopping_restores_compiled_weights():
    trained = model()
    stop = keras.callbacks.EarlyStopping("val_loss", patience=0, restore_best_weights=True)
    history = fit(trained, 5, Spoil(at=2), stop, validation_data=(X, Y))
    assert len(history["val_loss"]) == 3
    assert trained.evaluate(X, Y, batch_size=8, verbose=0)[0] == min(history["val_loss"])
