"""`keras.remat` and `RematScope`: less memory, the same numbers."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from numerics import float64
from twins import assert_alike, assert_equal, calls

from keras_triton.compile import import_captured
from keras_triton.explanation import capture_example
from keras_triton.journal import stats
from keras_triton.lowering.lifetimes import lifetimes, live_bytes
from keras_triton.lowering.pipeline import lower
from keras_triton.lowering.plan import walk
from keras_triton.lowering.plan_reader import read_plan
from keras_triton.targets.base import asked_by
from keras_triton.targets.cpu import CpuTarget
from keras_triton.targets.triton import TritonTarget

RANDOM = np.random.default_rng(0)
X, Y = RANDOM.normal(size=(16, 6)), RANDOM.normal(size=(16, 2))


@pytest.fixture(autouse=True)
def _double_precision():
    with float64():
        yield


class Block(layers.Layer):
    """Wide, random and with state: a product, batch normalization, dropout, and a count of calls."""

    def __init__(self, units, recompute):
        super().__init__()
        self.wide, self.narrow = layers.Dense(units, activation="gelu"), layers.Dense(6)
        self.normalize, self.drop = layers.BatchNormalization(), layers.Dropout(0.5, seed=3)
        self.run = keras.remat(self.compute) if recompute else self.compute

    def build(self, input_shape):
        self.wide.build(input_shape)
        self.normalize.build((None, self.wide.units))
        self.narrow.build((None, self.wide.units))
        self.count = self.add_weight(shape=(), initializer="zeros", trainable=False)

    def compute(self, x, training=False):
        self.count.assign_add(1.0)
        hidden = self.normalize(self.wide(x), training=training)
        return x + self.narrow(self.drop(hidden, training=training)) / (1 + self.count)

    def call(self, x, training=False):
        return self.run(x, training=training)


def blocks(run_eagerly, recompute=True, units=8, depth=2):
    model = keras.Sequential([keras.Input((6,))])
    for _ in range(depth):
        model.add(Block(units, recompute))
    model.add(layers.Dense(2))
    model.compile(keras.optimizers.SGD(0.1), "mse", run_eagerly=run_eagerly)
    return model


def test_remat_compiled_equals_eager():
    assert_alike(blocks, calls(X, Y))


@pytest.mark.parametrize("run_eagerly", [False, True], ids=["compiled", "eager"])
def test_the_second_run_repeats_the_first_and_leaves_no_traces(run_eagerly):
    """As if nothing were computed twice: the same dropout, averages, counts and seeds."""
    weights = []
    for recompute in (False, True):
        keras.utils.set_random_seed(7)
        model = blocks(run_eagerly, recompute)
        model.fit(X, Y, batch_size=8, epochs=2, shuffle=False, verbose=0)
        weights.append(model.variables)
    found, wanted = (
        {str(i): ops.convert_to_numpy(v) for i, v in enumerate(each)} for each in weights
    )
    assert_equal(found, wanted, 1e-9)


def test_compiled_steps_need_less_memory():
    needed = []
    for recompute in (False, True):
        blocks(False, recompute, units=256, depth=4).train_on_batch(X, Y)
        needed.append(stats().reports[-1].arena_bytes)
    assert needed[1] < 0.7 * needed[0]


@pytest.mark.parametrize("target", [CpuTarget, TritonTarget], ids=["cpu", "triton"])
def test_plans_keep_less_for_the_backward_pass(target):
    """Nothing that makes one op of equal ones, or computes cheap values again, undoes it."""
    arena, kept = [], []
    for recompute in (False, True):
        model = blocks(False, recompute, units=256, depth=4)
        module = import_captured(capture_example(model, X, Y))
        plan = read_plan(lower(module, **asked_by(target)))
        arena.append(plan.arena_bytes)
        kept.append(_kept_bytes(plan))
    assert arena[1] < 0.7 * arena[0]
    assert kept[1] < 0.5 * kept[0]


def _kept_bytes(plan):
    """What waits in the arena when the first launch of the backward pass begins."""
    launches = [item for item, _ in walk(plan.steps)]
    first = next(n for n, item in enumerate(launches) if item.layer.endswith("/grad"))
    return live_bytes(lifetimes(plan), len(launches))[first]


@pytest.mark.parametrize(
    "scope",
    [
        {"mode": "full"},
        {"mode": "activations"},
        {"mode": "larger_than", "output_size_threshold": 64},
        {"mode": "list_of_layers", "layer_names": ["first"]},
    ],
    ids=lambda scope: scope["mode"],
)
def test_scopes(scope):
    def build(run_eagerly):
        with keras.RematScope(**scope):
            model = keras.Sequential(
                [
                    keras.Input((6,)),
                    layers.Dense(8, activation="gelu", name="first"),
                    layers.Dropout(0.3, seed=1),
                    layers.Dense(2, name="second"),
                ]
            )
        model.compile(keras.optimizers.SGD(0.1), "mse", run_eagerly=run_eagerly)
        return model

    assert_alike(build, calls(X, Y))
