"""What the TensorBoard callback writes: scalars, histograms, the graph, embeddings, profiles."""

import json

import keras
import numpy as np
import pytest
from keras import layers

from keras_triton.src import tensorboard as profiler

pytest.importorskip("tensorflow")  # Keras's callback writes through it
pytest.importorskip("tensorboard")

TOKENS = np.random.default_rng(0).integers(0, 9, (32, 5)).astype("int32")
Y = np.random.default_rng(1).normal(size=(32, 2)).astype("float32")


def fit(folder, epochs=2, **options):
    model = keras.Sequential(
        [
            keras.Input((5,), dtype="int32"),
            layers.Embedding(9, 3, name="words"),
            layers.Flatten(),
            layers.Dense(2, name="out"),
        ],
        name="net",
    )
    model.compile("adam", "mse")
    callback = keras.callbacks.TensorBoard(str(folder), **options)
    history = model.fit(
        TOKENS, Y, batch_size=8, epochs=epochs, verbose=0,
        validation_data=(TOKENS, Y), callbacks=[callback],
    )  # fmt: skip
    assert model.train_function.step.counts.op_by_op == 0
    return history.history


def summaries(folder):
    """(tag, step): the value, of every summary in the event files of a folder."""
    from tensorboard.backend.event_processing import event_file_loader
    from tensorboard.util import tensor_util

    found = {}
    for path in sorted(folder.glob("events*")):
        for event in event_file_loader.EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                found[value.tag, event.step] = tensor_util.make_ndarray(value.tensor)
    return found


def test_scalars_histograms_and_graph(tmp_path):
    history = fit(tmp_path, histogram_freq=1, write_images=True, write_steps_per_second=True)
    train, validation = summaries(tmp_path / "train"), summaries(tmp_path / "validation")
    for epoch in (0, 1):
        assert train["epoch_loss", epoch] == pytest.approx(history["loss"][epoch])
        assert validation["epoch_loss", epoch] == pytest.approx(history["val_loss"][epoch])
        assert train["epoch_learning_rate", epoch] == pytest.approx(0.001)
        assert train["epoch_steps_per_second", epoch] > 0
        buckets = train["net/out/kernel/histogram", epoch]  # left edge, right edge, count
        assert buckets[:, 2].sum() == 30
    assert json.loads(train["keras", 0].item())["class_name"] == "Sequential"


def test_batch_scalars(tmp_path):
    fit(tmp_path, update_freq="batch")
    train = summaries(tmp_path / "train")
    assert {step for tag, step in train if tag == "batch_loss"} == set(range(1, 9))


def test_embeddings(tmp_path):
    fit(tmp_path, embeddings_freq=1, embeddings_metadata={"words": "words.tsv"})
    assert "words.tsv" in (tmp_path / "projector_config.pbtxt").read_text()
    assert len(list((tmp_path / "train").glob("keras_embedding.ckpt-*.weights.h5"))) == 2


def test_profile_of_some_batches(tmp_path):
    fit(tmp_path, profile_batch=(2, 3))
    (path,) = (tmp_path / "train").glob("*.pt.trace.json")
    names = {event["name"] for event in json.loads(path.read_text())["traceEvents"]}
    # Keras counts batches from one here, and from zero there.
    assert {name for name in names if "ProfilerStep" in name} == {
        "ProfilerStep#1",
        "ProfilerStep#2",
    }
    # The kernels of the compiled step, by name and layer.
    assert any(name.startswith("out_matmul") and name.endswith("/out") for name in names)
    assert any(name.endswith("/out/grad") for name in names)


def test_a_profile_that_training_ends_is_written(tmp_path):
    fit(tmp_path, epochs=1, profile_batch=(4, 99))
    assert len(list((tmp_path / "train").glob("*.pt.trace.json"))) == 1


def test_no_profile_by_default(tmp_path):
    fit(tmp_path)
    assert list((tmp_path / "train").glob("*.trace.json")) == []


def test_profile_batch_is_checked_as_by_keras():
    with pytest.raises(ValueError, match="profile_batch must be a non-negative integer"):
        keras.callbacks.TensorBoard(profile_batch=-1)


def test_a_trace_that_is_not_wanted_leaves_no_file(tmp_path):
    profiler.start_trace(str(tmp_path))
    profiler.stop_trace(save=False)
    assert list(tmp_path.iterdir()) == []
