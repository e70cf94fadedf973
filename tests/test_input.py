"""Every kind of data trains alike: compiled, op by op, and under Keras's own torch backend."""

import json
import os
import subprocess
import sys

import input_sources
import keras
import numpy as np
import pytest
from input_sources import SOURCES
from keras import layers

# Sums are taken in another order, over six steps.
TOLERANCE = 1e-5


def installed(package):
    try:
        pytest.importorskip(package)
    except pytest.skip.Exception:
        return False
    return True


@pytest.fixture(scope="module")
def under_torch():
    """What `train` gives under Keras's torch backend, for every source that is possible here."""
    names = [name for name, (package, *_) in SOURCES.items() if not package or installed(package)]
    done = subprocess.run(
        [sys.executable, input_sources.__file__, *names],
        env=os.environ | {"KERAS_BACKEND": "torch"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def assert_equal(one, other):
    keras.tree.assert_same_structure(one, other)
    for a, b in zip(keras.tree.flatten(one), keras.tree.flatten(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=TOLERANCE, atol=1e-6)


@pytest.mark.filterwarnings(
    "ignore:Your input ran out of data",  # said of every generator, at its end
    "ignore:os.fork",  # the workers only slice NumPy arrays
)
@pytest.mark.parametrize("name", SOURCES)
def test_source_trains_as_op_by_op_and_as_torch(name, under_torch):
    if package := SOURCES[name][0]:
        pytest.importorskip(package)
    model, compiled = input_sources.train(name)
    counts = model.train_function.step.counts
    assert counts.op_by_op == 0
    # Whole batches and a ragged last one: one program, where the source says beforehand that it comes.
    assert counts.captures == 1 if name in ("arrays", "tensors", "loader") else counts.captures <= 2
    _, op_by_op = input_sources.train(name, run_eagerly=True)
    assert_equal(compiled, op_by_op)
    assert_equal(compiled, under_torch[name])


def test_strings_are_refused_as_by_torch():
    pytest.importorskip("tensorflow")  # StringLookup is made of it
    look_up = layers.StringLookup(vocabulary=["a", "b"])
    model = keras.Sequential([keras.Input((1,), dtype="string"), look_up])
    with pytest.raises(ValueError, match="Invalid dtype: str"):
        model.predict(np.array([["a"], ["b"]]), verbose=0)
    assert look_up(["a", "z"]).tolist() == [1, 0]
