"""Passes from Python: listed, left out, replaced and added, in all that compiles, and never mixed up."""

from dataclasses import dataclass
from typing import ClassVar

import keras
import numpy as np
import pytest
import torch
from keras import layers

import keras_triton
from keras_triton import pipeline
from keras_triton.lowering import mlir
from keras_triton.lowering.errors import LoweringError
from keras_triton.lowering.passes.group_instances import GroupInstances
from keras_triton.lowering.pipeline import lower


@dataclass(frozen=True)
class Noted(pipeline.Pass):
    """Changes nothing; notes that it ran."""

    name: ClassVar[str] = "noted"
    takes: ClassVar[str] = "keras"
    gives: ClassVar[str] = "keras"
    ran: ClassVar[list[str]] = []

    word: str = "ran"

    def run(self, module):
        self.check_stage(module)
        self.ran.append(self.word)
        return module


@pytest.fixture(autouse=True)
def notes():
    Noted.ran.clear()
    return Noted.ran


def names():
    return [step.name for step in pipeline.passes()]


def classifier():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((6,)), layers.Dense(8, "relu"), layers.Dense(3)])
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


X, Y = np.ones((4, 6), "float32"), np.array([0, 1, 2, 0])
PLAIN = names()


def test_passes_are_listed_with_stages_and_what_they_do():
    stages = [step.takes for step in pipeline.passes()] + ["plan"]
    assert stages == sorted(stages, key=["keras", "linalg", "regions", "plan"].index)
    assert all(step.summary for step in pipeline.passes())
    assert keras_triton.pipeline is pipeline


def test_changes_hold_within_their_block_and_the_outer_one_counts_first():
    with pipeline.without("group-instances"):
        assert names() == [name for name in PLAIN if name != "group-instances"]
        with pipeline.inserted(Noted(), after="canonicalize-keras"):
            assert names()[:2] == ["canonicalize-keras", "noted"]
            with pipeline.replaced("noted", Noted("again")):
                assert pipeline.passes()[1] == Noted("again")
            assert pipeline.passes()[1] == Noted()
        with pipeline.inserted(Noted(), before="canonicalize-keras"):
            assert names()[:2] == ["noted", "canonicalize-keras"]
        with pipeline.using(lambda passes: [Noted(), *passes]):
            assert "group-instances" not in names()
    assert names() == PLAIN


def test_a_block_that_fails_leaves_the_pipeline_as_it_was():
    with pytest.raises(ZeroDivisionError), pipeline.without("hoist-sums"):
        raise ZeroDivisionError
    assert names() == PLAIN


REFUSED = {
    "no such pass": (lambda: pipeline.without("fuse"), "there is no pass 'fuse'; there are "),
    "no such place": (lambda: pipeline.inserted(Noted(), after="fuse"), "there is no pass 'fuse'"),
    "a stage that nothing leads to": (
        lambda: pipeline.without("lower-to-linalg"),
        "fuse-regions takes stage 'linalg', but what runs before it gives 'keras'",
    ),
    "a pass after its stage": (
        lambda: pipeline.inserted(Noted(), after="fuse-regions"),
        "noted takes stage 'keras', but what runs before it gives 'regions'",
    ),
    "no plan": (lambda: pipeline.without("plan-buffers"), "end at stage 'regions', not at a plan"),
}


@pytest.mark.parametrize(("change", "sentence"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_is_refused_at_once(change, sentence):
    with pytest.raises(LoweringError, match=sentence), change():
        pytest.fail("the block ran")
    assert names() == PLAIN


def test_inserted_takes_one_place():
    with pytest.raises(ValueError, match="either after= or before="):
        pipeline.inserted(Noted())


def test_lowering_runs_what_the_block_says(notes):
    text = """module attributes {keras.stage = "keras"} {
      func.func @main(%x: tensor<4xf32> {keras.name = "x"}) -> tensor<4xf32> {
        %0 = "keras.tanh"(%x) : (tensor<4xf32>) -> tensor<4xf32>
        return %0 : tensor<4xf32> } }"""
    with pipeline.inserted(Noted(), after="raise-linear"):
        lower(mlir.parse(text))
    assert notes == ["ran"]


def test_fit_compiles_by_the_pipeline_in_force_and_keeps_its_programs_apart(notes):
    """Each pipeline has a program of its own, and finds it again."""
    model = classifier()
    losses = [float(model.train_on_batch(X, Y))]
    for _ in range(2):
        with pipeline.inserted(Noted(), after="canonicalize-keras"):
            losses.append(float(model.train_on_batch(X, Y)))
        losses.append(float(model.train_on_batch(X, Y)))
    assert notes == ["ran"]
    assert losses == sorted(losses, reverse=True)
    again = classifier()
    # The passes may only change how it is computed, and here not even that.
    assert losses == [float(again.train_on_batch(X, Y)) for _ in range(5)]


def test_explain_shows_what_the_pipeline_in_force_makes():
    model = classifier()
    grouped = keras_triton.explain(model, X, Y)
    with pipeline.without("group-instances"):
        apart = keras_triton.explain(model, X, Y)
    with pipeline.replaced("group-instances", GroupInstances(least=99)):
        assert len(keras_triton.explain(model, X, Y).rows) == len(apart.rows)
    assert len(apart.rows) > len(grouped.rows)
    assert len(keras_triton.explain(model, X, Y).rows) == len(grouped.rows)


def test_both_passes_of_a_jitted_function_are_compiled_by_one_pipeline(notes):
    """The backward pass is compiled when it is first asked for, here after the block has ended."""
    square = keras_triton.jit(lambda x: keras.ops.sum(x * x))
    x = torch.ones(4, requires_grad=True)
    with pipeline.inserted(Noted(), after="canonicalize-keras"):
        y = square(x)
    assert notes == ["ran"]
    y.backward()
    assert notes == ["ran", "ran"]
    assert x.grad.tolist() == [2.0] * 4
    square(x)
    assert notes == ["ran", "ran"]
