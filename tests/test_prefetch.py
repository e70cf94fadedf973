"""Reading one step ahead: the order of events, on the CPU, with a copy that only takes notes."""

import itertools

import keras
import numpy as np
import pytest
import torch
from keras import layers

from keras_triton.prefetch import Prefetcher
from keras_triton.src import epoch_iterator


class Notes(list):
    """A copy that leaves batches where they are, and notes when it begins and when it is used."""

    def __call__(self, batches):
        self.append(f"copy {batches}")

        def ready():
            self.append(f"use {batches}")
            return batches

        return ready


def steps(count, error=None):
    for number in range(count):
        yield number, number, [number]
    if error:
        raise error


def consume(prefetcher, notes):
    for begin, end, batches in prefetcher:
        assert [begin] == [end] == batches
        notes.append(f"launch {batches}")
        batches.launched()
        notes.append(f"callbacks {batches}")


def test_next_step_is_copied_once_this_one_is_launched():
    notes = Notes()
    consume(Prefetcher(steps(2), notes, lambda end: True), notes)
    assert notes == [
        "copy [0]",
        "use [0]",
        "launch [0]",
        "copy [1]",
        "callbacks [0]",
        "use [1]",
        "launch [1]",
        "callbacks [1]",
    ]


def test_an_error_of_the_source_waits_for_the_steps_before_it():
    notes = Notes()
    prefetcher = Prefetcher(steps(2, ValueError("bad row")), notes, lambda end: True)
    with pytest.raises(ValueError, match="bad row"):
        consume(prefetcher, notes)
    assert notes[-1] == "callbacks [1]"


def test_an_error_of_the_copy_waits_too():
    def fails_at_one(batches):
        if batches == [1]:
            raise MemoryError
        return lambda: batches

    notes = Notes()
    with pytest.raises(MemoryError):
        consume(Prefetcher(steps(3), fails_at_one, lambda end: True), notes)
    assert notes == ["launch [0]", "callbacks [0]"]


def test_nothing_is_read_past_the_last_step_of_an_epoch():
    source = steps(10)
    prefetcher = Prefetcher(source, Notes(), lambda end: end < 2)
    for _, end, batches in prefetcher:
        batches.launched()
        if end == 2:
            break
    assert next(source)[0] == 3


def test_steps_that_nobody_launches_are_read_when_asked_for():
    source = steps(10)
    prefetcher = Prefetcher(source, Notes(), lambda end: True)
    assert [next(prefetcher)[0] for _ in range(3)] == [0, 1, 2]
    assert next(source)[0] == 3


STEPS_PER_EXECUTION = 2


def model():
    keras.utils.set_random_seed(0)
    made = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
    made.compile("sgd", "mse", steps_per_execution=STEPS_PER_EXECUTION)
    return made


X = np.random.default_rng(0).normal(size=(22, 3))
Y = np.random.default_rng(1).normal(size=(22, 2)).astype("float32")


class Rows(keras.utils.PyDataset):
    """Batches that know where Keras's ops compute while they are made."""

    def __len__(self):
        return 6

    def __getitem__(self, i):
        assert str(keras.ops.ones(()).device) == str(epoch_iterator.get_device())
        return X[4 * i : 4 * i + 4], Y[4 * i : 4 * i + 4]


def loader():
    rows = torch.utils.data.TensorDataset(torch.from_numpy(X).float(), torch.from_numpy(Y))
    return torch.utils.data.DataLoader(rows, batch_size=4)


def generator(pulled):
    for i in itertools.count():
        pulled.append(i)
        at = 4 * (i % 5)
        yield X[at : at + 4], Y[at : at + 4]


SOURCES = {
    "arrays": lambda: {"x": X, "y": Y, "batch_size": 4, "shuffle": True},
    "tensors": lambda: {"x": torch.from_numpy(X), "y": torch.from_numpy(Y), "batch_size": 4},
    "py_dataset": lambda: {"x": Rows()},
    "py_dataset_workers": lambda: {"x": Rows(workers=2), "shuffle": False},
    "loader": lambda: {"x": loader(), "shuffle": False},
    "loader_in_parts": lambda: {"x": loader(), "steps_per_epoch": 3, "shuffle": False},
    "generator": lambda: {"x": generator([]), "steps_per_epoch": 6, "shuffle": False},
}


# Keras counts three steps of two batches an execution as one batch too many.
@pytest.mark.filterwarnings("ignore:Your input ran out of data")
@pytest.mark.parametrize("source", SOURCES)
def test_training_is_the_same_one_step_ahead(source, monkeypatch):
    plain = model().fit(**SOURCES[source](), epochs=2, verbose=0).history
    notes = []

    def copy(batches):
        leaves = keras.tree.flatten(batches)
        notes.extend(leaf.device.type for leaf in leaves)
        return lambda: batches

    monkeypatch.setattr(epoch_iterator, "copy_to_device", lambda: copy)
    ahead = model().fit(**SOURCES[source](), epochs=2, verbose=0).history
    assert ahead == plain
    assert set(notes) == {"cpu"}


def test_generators_are_read_as_far_as_asked(monkeypatch):
    pulled = {}
    for name, copy in {"plain": None, "ahead": lambda batches: lambda: batches}.items():
        monkeypatch.setattr(epoch_iterator, "copy_to_device", lambda copy=copy: copy)
        seen, at_batch = [], []
        note = keras.callbacks.LambdaCallback(
            on_train_batch_end=lambda batch, logs, seen=seen, to=at_batch: to.append(len(seen))
        )
        options = {"steps_per_epoch": 4, "epochs": 2, "verbose": 0, "callbacks": [note]}
        model().fit(generator(seen), shuffle=False, **options)
        pulled[name] = (len(seen), at_batch)
    assert pulled["ahead"] == pulled["plain"] == (8, [2, 4, 6, 8])


def test_an_early_stop_leaves_one_step_unused(monkeypatch):
    monkeypatch.setattr(epoch_iterator, "copy_to_device", lambda: lambda batches: lambda: batches)
    read = []

    class Counted(Rows):
        def __getitem__(self, i):
            read.append(i)
            return super().__getitem__(i)

    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.model.stop_training = True

    model().fit(Counted(), shuffle=False, verbose=0, callbacks=[Stop()], epochs=3)
    # One step of two batches to build by, the same again to train on, and one ahead.
    assert read == [0, 1, 0, 1, 2, 3]
