"""Recorded steps: what is copied, when launches are recorded, and what is never recorded.

A recorder of the CPU stands in for CUDA graphs: a replay makes the launches again over the memory that
they were bound to when they were recorded.
"""

import keras
import numpy as np
import pytest
import torch
from keras import layers

from keras_triton import replay, stats
from keras_triton.compile import compile_module
from keras_triton.lowering.mlir import parse
from keras_triton.replay import MOST, WARM, Replayed
from keras_triton.targets.choice import choose

CPU = torch.device("cpu")
STEP = """module attributes {keras.stage = "keras"} {
  func.func @main(
    %x: tensor<4xf32> {keras.name = "x"},
    %s: tensor<4xf32> {keras.name = "s", keras.donated = 1 : i64}
  ) -> (tensor<4xf32>, tensor<4xf32>, tensor<i64>) {
    %0 = "keras.mul"(%x, %s) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
    %1 = "keras.add"(%x, %s) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
    %2 = "keras.argmax"(%x) {axis = 0 : i64} : (tensor<4xf32>) -> tensor<i64>
    return %0, %1, %2 : tensor<4xf32>, tensor<4xf32>, tensor<i64>
  }
}"""


class Again:
    """Records by remembering what to run; counts recordings and replays."""

    def __init__(self):
        self.recorded = self.replayed = 0

    def record(self, run):
        self.recorded += 1

        def replayed():
            self.replayed += 1
            run()

        return replayed


class Impossible:
    def record(self, run):
        raise RuntimeError("operation not permitted when stream is capturing\nmore of it")


def step():
    return compile_module(parse(STEP), choose("reference", CPU), CPU, name="step").program


def test_results_and_states_are_those_of_single_launches():
    before = stats().unrecorded
    replayed, single = Replayed(step(), [0], Again()), step()
    state, twin = torch.ones(4), torch.ones(4)
    kept = []
    for number in range(WARM + 4):
        x = torch.full((4,), float(number))
        got, wanted = replayed([x, state]), single([x, twin])
        assert got[1] is state
        kept.append((got, [value.clone() for value in wanted]))
    for got, wanted in kept:  # a later call leaves alone what an earlier one gave
        assert torch.equal(got[0], wanted[0])
        assert torch.equal(got[2], wanted[2])
    assert torch.equal(state, twin)
    assert (replayed.recorder.recorded, replayed.recorder.replayed) == (1, 3)
    assert stats().unrecorded == before


def test_a_state_that_moved_is_recorded_anew_but_not_for_ever():
    replayed = Replayed(step(), [0], Again())
    x, states = torch.ones(4), [torch.ones(4) for _ in range(MOST + 3)]
    for state in states:
        for count in range(1, WARM + 3):
            replayed([x, state])
            assert torch.equal(state, torch.full((4,), 1.0 + count))
    assert replayed.recorder.recorded == MOST
    assert stats().unrecorded[-1] == "its variables lie elsewhere again and again"


def test_what_cannot_be_recorded_is_said_once_and_runs():
    replayed = Replayed(step(), [0], Impossible())
    before, state = len(stats().unrecorded), torch.ones(4)
    for _ in range(WARM + 3):
        replayed([torch.ones(4), state])
    assert stats().unrecorded[before:] == ("operation not permitted when stream is capturing",)
    assert torch.equal(state, torch.full((4,), 1.0 + WARM + 3))


def test_launches_show_in_a_profile_one_by_one():
    replayed = Replayed(step(), [0], Again())
    with torch.profiler.profile():
        for _ in range(WARM + 2):
            replayed([torch.ones(4), torch.ones(4)])
    assert replayed.recorder.recorded == 0


def trained(steps_per_execution=1):
    """Losses and predictions of a model whose last batch is smaller than the others."""
    keras.utils.set_random_seed(3)
    inputs = keras.Input((6,))
    x = layers.Dropout(0.3)(layers.Dense(8, "relu")(inputs))
    model = keras.Model(inputs, layers.Dense(3)(layers.BatchNormalization()(x)))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=["accuracy"], steps_per_execution=steps_per_execution)
    random = np.random.default_rng(0)
    x, y = random.normal(size=(44, 6)).astype("float32"), random.integers(0, 3, 44)
    history = model.fit(x, y, batch_size=8, epochs=5, verbose=0).history
    return [*history["loss"], *history["accuracy"]], model.predict(x, batch_size=8, verbose=0)


@pytest.mark.parametrize("steps", [1, 2])
def test_a_model_trains_alike_when_its_steps_are_replayed(steps, monkeypatch):
    expected, made = trained(steps), []

    def recorder_of(device):
        made.append(Again())
        return made[-1]

    monkeypatch.setattr(replay, "recorder_of", recorder_of)
    found = trained(steps)
    assert found[0] == expected[0]
    np.testing.assert_array_equal(found[1], expected[1])
    assert any(recorder.recorded > 1 for recorder in made)  # for each size
    assert sum(recorder.replayed for recorder in made) > 5


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("steps", [1, 2])
def test_a_model_trains_alike_in_cuda_graphs(steps, monkeypatch):
    before = stats().unrecorded
    found = trained(steps)
    assert stats().unrecorded == before
    monkeypatch.setattr(replay, "recorder_of", lambda device: None)
    expected = trained(steps)
    assert found[0] == expected[0]
    np.testing.assert_array_equal(found[1], expected[1])
