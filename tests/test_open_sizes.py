"""One program for calls that differ in a size: when there is one, and that it computes the same."""

import os
import subprocess
import sys
import textwrap
from collections import defaultdict

import keras
import model_zoo
import numerics
import numpy as np
import pytest
import torch
from keras import layers, ops

import keras_triton
from keras_triton import sized_program
from keras_triton.families import batches_of, family_with, reopened
from keras_triton.targets.triton import TritonTarget

SIZES = [7, 2, 64, 65, 33, 16, 130]
"""Whole tiles, ragged ones and less than one, of the widths that loops have."""


def shapes(*found):
    return tuple(map(torch.Size, found))


def test_families():
    first, second = shapes((32, 5), (32,)), shapes((7, 5), (7,))
    family = family_with(second, [shapes((32, 6), (32,)), first])
    assert family.axes == {0: (0,), 1: (0,)}
    assert (family.size_of(first), family.size_of(second)) == (32, 7)
    assert family.size_of(shapes((9, 5), (8,))) is None, "one batch has one size"
    assert family.size_of(shapes((9, 6), (9,))) is None
    assert family.size_of(shapes((1, 5), (1,))) is None, "an axis of extent 1 is another program"
    assert family_with(second, [shapes((32, 6), (32,))]) is None, "two sizes differ"
    assert family_with(first, [first]) is None
    assert batches_of(first).axes == family.axes
    assert batches_of(shapes((), (1, 4))) is None
    other = reopened(
        shapes((3, 8), (3,)), [family_with(shapes((2, 5), (9,)), [shapes((2, 6), (9,))])]
    )
    assert other.axes == {0: (1,)}, "lengths vary in a smaller batch, too"
    assert reopened(shapes((3, 1), (3,)), [other]) is None
    assert reopened(shapes((3, 8, 1), (3,)), [other]) is None


def classifier(**options):
    keras.utils.set_random_seed(3)
    parts = [
        layers.Dense(24, activation="gelu"),
        layers.LayerNormalization(),
        layers.Dropout(0.2),
        layers.Dense(5),
    ]
    made = keras.Sequential([keras.Input((6,)), *parts])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    made.compile(keras.optimizers.SGD(0.1, momentum=0.9), loss, metrics=["accuracy"], **options)
    return made


def data(count):
    random = np.random.default_rng(0)
    return random.normal(size=(count, 6)).astype("float32"), random.integers(0, 5, count)


def test_epochs_with_a_ragged_batch_compile_once():
    x, y = data(100)
    found = []
    for options in ({}, {"run_eagerly": True}):
        model = classifier(**options)
        before = len(keras_triton.stats().reports)
        history = model.fit(x, y, batch_size=32, epochs=3, shuffle=False, verbose=0).history
        scores = model.evaluate(x, y, batch_size=32, verbose=0)
        outputs = model.predict(x, batch_size=32, verbose=0)
        found.append([*history["loss"], *history["accuracy"], *scores, *outputs.ravel()])
        if not options:
            functions = model.train_function, model.test_function, model.predict_function
            counts = [function.step.counts for function in functions]
            assert [count.captures for count in counts] == [1, 1, 1]
            assert [count.op_by_op for count in counts] == [0, 0, 0]
            assert len(keras_triton.stats().reports) - before == 3
    np.testing.assert_allclose(*found, rtol=2e-5, atol=2e-6)


def test_batches_of_one_size_leave_nothing_open():
    model = classifier()
    model.fit(*data(96), batch_size=32, epochs=2, verbose=0)
    (captured,) = model.train_function.step.captured
    assert captured.size is None


# Models of every kind: convolutions, attention, recurrences, random numbers, padding, loops.
@pytest.mark.parametrize("name", ["unet", "encoder", "lstm", "vae", "control_flow", "adafactor"])
def test_training_on_ragged_batches(name):
    before = len(keras_triton.stats().closed)
    with numerics.float64():
        compiled, eager = (model_zoo.train(name, 6, e, ragged=True) for e in (False, True))
    assert not keras_triton.stats().closed[before:]
    assert numerics.distance([compiled[0]], [eager[0]]) < 1e-9
    assert numerics.distance(compiled[1], eager[1]) < 1e-9


class Positions(layers.Layer):
    """Adds learned vectors, as many as there are places."""

    def build(self, shape):
        self.table = self.add_weight(shape=(64, shape[-1]))

    def compute_output_spec(self, x):
        return keras.KerasTensor(x.shape, x.dtype)

    def call(self, x):
        count = ops.shape(x)[1]
        return x + ops.take(self.table, ops.arange(count), axis=0) + self.table[:count]


def attention(x):
    x = Positions()(x)
    attended = layers.MultiHeadAttention(2, 4)(x, x, use_causal_mask=True)
    return layers.LayerNormalization()(layers.Add()([x, attended]))


def recurrence(x):
    return layers.Bidirectional(layers.GRU(4, return_sequences=True))(x)


def convolution(x):
    x = layers.Conv1D(8, 3, padding="causal", activation="relu")(x)
    return layers.BatchNormalization()(x)


def tagger(part, **options):
    keras.utils.set_random_seed(5)
    tokens = keras.Input((None,), dtype="int32")
    embedded = layers.Embedding(30, 8, mask_zero=part is recurrence)(tokens)
    made = keras.Model(tokens, layers.Dense(30)(part(embedded)))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    made.compile(keras.optimizers.SGD(0.2, momentum=0.9), loss, **options)
    return made


@pytest.mark.parametrize("part", [attention, recurrence, convolution])
def test_twenty_lengths_compile_at_most_three_times(part):
    random = np.random.default_rng(1)
    batches = [random.integers(1, 30, (4, 4 + step * 7 % 20)) for step in range(20)]
    losses, before = [], len(keras_triton.stats().closed)
    for options in ({}, {"run_eagerly": True}):
        model = tagger(part, **options)
        losses.append([model.train_on_batch(x, np.roll(x, 1, 1)) for x in batches])
        if not options:
            counts = model.train_function.step.counts
            assert not keras_triton.stats().closed[before:]
            assert (counts.compiled, counts.op_by_op) == (20, 0)
            assert counts.captures <= 3
    np.testing.assert_allclose(*losses, rtol=1e-5)


def test_lengths_of_whole_and_of_ragged_batches_compile_three_times():
    random = np.random.default_rng(1)
    sizes = [(3 if step % 5 == 4 else 4, 4 + step * 7 % 20) for step in range(20)]
    model = tagger(attention)
    for size in sizes:
        x = random.integers(1, 30, size)
        model.train_on_batch(x, np.roll(x, 1, 1))
    counts = model.train_function.step.counts
    assert (counts.captures, counts.compiled, counts.op_by_op) == (3, 20, 0)


@pytest.mark.parametrize("part", [attention, recurrence, convolution])
def test_twenty_lengths_take_few_kernels_on_a_gpu(part, forced, monkeypatch):
    forced("interpret")
    codes, compiled = defaultdict(set), TritonTarget._compiled

    def counted(self, loaded):
        codes[loaded.generated.name].add(tuple(launch.code for launch in loaded.program.launches))
        return compiled(self, loaded)

    monkeypatch.setattr(TritonTarget, "_compiled", counted)
    programs = []
    plan = sized_program.SizedProgram.plan
    monkeypatch.setattr(
        sized_program.SizedProgram, "plan", lambda self, n: programs.append(self) or plan(self, n)
    )
    random = np.random.default_rng(1)
    batches = [random.integers(1, 30, (4, count)) for count in (5, 4, 8)]
    compiled_model, eager = tagger(part), tagger(part, run_eagerly=True)
    for x in batches:
        found, wanted = (m.train_on_batch(x, np.roll(x, 1, 1)) for m in (compiled_model, eager))
        np.testing.assert_allclose(found, wanted, rtol=1e-5)
    program = programs[-1]
    assert {id(found) for found in programs} == {id(program)}
    codes.clear()
    for size in range(4, 24):
        planned = program.kernels.at(size)
    assert not program.kernels.closed
    generated = {name for name, made in planned.kernels.items() if made.how.startswith("Triton")}
    assert set(codes) <= generated == program.kernels.any_size, "others have no open size at all"
    assert max(map(len, codes.values())) <= 3


def rows(x):
    """Row and column reductions, narrow and wide, and an index."""
    wide = x @ ops.ones((x.shape[1], 700))
    return [ops.sum(x, 0), ops.max(wide, 0), ops.mean(wide, 1), ops.argmax(x, 0), ops.std(x)]


def transposed(x):
    return ops.transpose(ops.exp(ops.repeat(x, 13, 1)))


def several(x):
    """Equal kernels on tensors of several shapes, which become one."""
    return [ops.tanh(x) * 2, ops.tanh(x[:, :1]) * 2, ops.tanh(ops.concatenate([x, x], 1)) * 2]


def looked_up(x):
    order = ops.argsort(x[:, 0])
    return [ops.take(x, order, 0), ops.segment_sum(x, order % 3, 3), x[1:], x[-2:], ops.flip(x, 0)]


def sized(x):
    """Numbers made of the size."""
    count = ops.shape(x)[0]
    squares = ops.cast(count * count + 1, "float32")
    mask = ops.tril(ops.ones((count, count)))
    return [x / squares, ops.arange(count) * 2, mask @ x, ops.zeros((count + 3, 2))]


@pytest.mark.parametrize("target", ["cpu", "interpret"])
@pytest.mark.parametrize("function", [rows, transposed, several, looked_up, sized])
def test_functions_of_any_size(function, target, forced):
    forced(target)
    fast, random = keras_triton.jit(function), np.random.default_rng(2)
    before, seen = len(keras_triton.stats().closed), len(keras_triton.stats().reports)
    with torch.no_grad():
        for size in SIZES if target == "cpu" else SIZES[:4]:
            x = torch.tensor(random.normal(size=(size, 3)).astype("float32"))
            wanted, found = function(x), fast(x)
            for want, got in zip(
                keras.tree.flatten(wanted), keras.tree.flatten(found), strict=True
            ):
                torch.testing.assert_close(got, want, rtol=2e-5, atol=2e-5)
    assert not any(report.is_whole_step_on_torch for report in keras_triton.stats().reports[seen:])
    assert not keras_triton.stats().closed[before:]
    # One for the first call, one for all others; a part of two rows has axes of extent 1.
    assert fast.counts.captures <= 2 + (function is looked_up)


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda x: x[: x.shape[0] // 2] + 1, "no sum of products"),
        (lambda x: x * float(x.shape[0]), "a number is made of the size"),
    ],
)
def test_what_needs_the_number_is_compiled_for_each_size(function, reason):
    fast, before = keras_triton.jit(function), len(keras_triton.stats().closed)
    with torch.no_grad():
        for size in (4, 6, 8):
            torch.testing.assert_close(fast(torch.ones(size, 2)), function(torch.ones(size, 2)))
    (closed,) = keras_triton.stats().closed[before:]
    assert reason in closed
    assert fast.counts.captures == 3


def test_a_question_about_the_size_is_a_program_for_each_answer():
    def step(x):
        return x * 2 if x.shape[0] > 8 else x + 1

    fast = keras_triton.jit(step)
    with torch.no_grad():
        for size in (4, 5, 6, 20, 21, 7, 22):
            x = torch.full((size, 2), 3.0)
            torch.testing.assert_close(fast(x), step(x))
    assert fast.counts.captures == 3
    assert fast.counts.op_by_op == 0


def test_many_sizes_share_one_arena(monkeypatch):
    monkeypatch.setattr(sized_program, "BOUND", 4)
    fast = keras_triton.jit(lambda x: ops.softmax(ops.exp(x) @ ops.transpose(x)))
    with torch.no_grad():
        for size in (3, 9, 5, 30, 8, 4, 6, 7, 30, 9):
            x = torch.linspace(0, 1, size * 2).reshape(size, 2)
            torch.testing.assert_close(fast(x), ops.softmax(ops.exp(x) @ ops.transpose(x)))
    program = fast.captured[-1]
    assert program.size is not None
    (sized_one,) = [
        p._program.program
        for found in fast._programs.values()
        for p in found
        if p.captured is program
    ]
    assert len(sized_one.known) <= 4
    assert len({made.arena.data_ptr() for made, _ in sized_one.known.values()}) == 1


def test_a_size_that_cannot_be_planned_runs_on_torch(monkeypatch):
    fast = keras_triton.jit(lambda x: ops.exp(x) * 2)
    with torch.no_grad():
        fast(torch.ones(3, 2))
        fast(torch.ones(4, 2))

        def fail(self, size):
            raise RuntimeError("no room")

        monkeypatch.setattr(sized_program.SizedKernels, "at", fail)
        with pytest.warns(RuntimeWarning, match="no room"):
            found = fast(torch.ones(5, 2))
    torch.testing.assert_close(found, torch.exp(torch.ones(5, 2)) * 2)


def test_a_target_that_compiles_for_each_size_does_so_for_few(monkeypatch, forced):
    forced("interpret")
    monkeypatch.setattr(sized_program, "PATIENCE", 2)
    compiled = []
    at = sized_program.SizedKernels.at
    monkeypatch.setattr(
        sized_program.SizedKernels, "at", lambda self, size: compiled.append(size) or at(self, size)
    )
    fast = keras_triton.jit(lambda x: ops.exp(x) * 2)
    with torch.no_grad():
        for size in (3, 4, 5, 6, 7, 6, 7):
            x = torch.full((size, 2), 0.5)
            torch.testing.assert_close(fast(x), torch.exp(x) * 2)
    assert compiled == [4, 5, 6, 7], "6 and 7 when they came again"
    assert fast.counts.captures == 2


SCRIPT = """
import torch, keras_triton
from keras import ops
from keras_triton.lowering import pipeline
from keras_triton.lowering.emit_llvm import jit

fast = keras_triton.jit(lambda x: ops.softmax(ops.tanh(x) + ops.sum(x, 0)))
made = []
for module, name in ((pipeline, "PlanBuffers"), (jit, "compile_objects")):
    original = getattr(module, name)
    def counted(*args, original=original, name=name, **kwargs):
        made.append(name)
        return original(*args, **kwargs)
    setattr(module, name, counted)
with torch.no_grad():
    for size in (3, 4, 5):
        x = torch.ones(size, 7)
        torch.testing.assert_close(fast(x), torch.softmax(torch.tanh(x) + x.sum(0), -1))
print(fast.counts.captures, made.count("compile_objects"), keras_triton.stats().kept)
"""


def test_a_second_process_compiles_nothing(tmp_path):
    environment = {"KERAS_BACKEND": "triton", "KERAS_TRITON_CACHE": str(tmp_path)}
    found = [
        subprocess.run(
            [sys.executable, "-c", textwrap.dedent(SCRIPT)],
            env={**os.environ, **environment, "KERAS_TRITON_CACHE_SIZE": "50"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
        for _ in range(2)
    ]
    # Two programs and what drives them.
    assert found == [["2", "3", "0"], ["2", "0", "2"]]
