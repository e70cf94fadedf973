"""The bench's arithmetic, with timings that are given; nothing here runs a clock."""

import keras
import numpy as np

from keras_triton.bench import blocks, native, run
from keras_triton.lowering.emit_llvm.driver import driver


class FakeWorker:
    """A backend whose every step takes a known time."""

    SECONDS = {"triton": 0.002, "torch": 0.005}  # noqa: RUF012

    def __init__(self, backend, model, batch, cache):
        self.backend = backend

    def run(self, mode, steps):
        return [self.SECONDS[self.backend]] * steps, 100.0

    def close(self):
        pass


def test_ratios_are_of_the_peer_to_ours(monkeypatch, capsys):
    monkeypatch.setattr(run, "Worker", FakeWorker)
    rows = run.compare("digits", 64, ["torch"], rounds=4, steps=3)
    assert [(row["mode"], row["peer"]) for row in rows] == [
        ("train", "torch"),
        ("predict", "torch"),
    ]
    for row in rows:
        assert row["ratio_median"] == 2.5
        assert row["ratio_quartiles"] == [2.5, 2.5]
        assert (row["ours_ms"], row["peer_ms"]) == (2.0, 5.0)
        assert row["ours_first_again_s"] == 0.0
    run._print(rows)
    assert "2.50" in capsys.readouterr().out


def test_machine_names_what_was_measured_on():
    found = run.machine()
    assert set(found) == {"commit", "cpu", "gpu", "versions"}
    assert set(found["versions"]) == {"keras", "torch", "triton", "numpy"}


def test_native_measures_both_ways(monkeypatch):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    model.compile("adam", "mse")
    batch = model, np.zeros((2, 4), "float32"), np.zeros((2, 3), "float32")
    monkeypatch.setattr(blocks, "example", lambda name, policy: batch)
    times = native.measure("mlp", "float32", rounds=2)
    assert times.calls == "1 native call a step"
    assert times.launches > 1
    assert min(times.native, times.one_by_one, times.ratio, times.python, times.idle) > 0
    assert "run" not in vars(driver()), "as it was"
    native._print([times], "")
