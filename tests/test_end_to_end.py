"""Whole training runs: compiled against op by op, against Keras on torch, and on every target."""

import contextlib
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
from numerics import float64

from keras_triton import samples
from keras_triton.compile import import_captured
from keras_triton.explanation import capture_example
from keras_triton.journal import stats
from keras_triton.lowering import mlir
from keras_triton.tools import compare_targets

STEPS = 100
BATCH = 64
INTERPRETED_BATCH = 8  # a step takes seconds in Triton's interpreter
# Losses of two runs whose sums are taken in other orders drift apart by rounding, step by step.
TOLERANCE = 1e-4


def data(name):
    images, labels = samples.digits()
    return (images if name == "digits" else images.reshape(len(images), 64)), labels


def batches(name, steps, batch):
    x, y = data(name)
    x = x.astype(keras.config.floatx())
    for step in range(steps):
        rows = np.arange(step * batch, (step + 1) * batch) % len(x)
        yield x[rows], y[rows]


def build(name, optimizer="adam", **compile_options):
    keras.utils.set_random_seed(11)
    model = (samples.digits_cnn if name == "digits" else samples.mlp)()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    if optimizer == "sgd":
        optimizer = keras.optimizers.SGD(0.02)
    model.compile(optimizer=optimizer, loss=loss, metrics=["accuracy"], **compile_options)
    return model


def _compute_in(floatx):
    return float64() if floatx == "float64" else contextlib.nullcontext()


def losses(model, name, steps, batch=BATCH):
    """The loss of each step; metrics are reset, so each is its own batch's."""
    found = []
    for x, y in batches(name, steps, batch):
        model.reset_metrics()
        found.append(float(model.train_on_batch(x, y)[0]))
    return found


# ReLU and max pooling decide: once a rounding changes which element of a window is the largest (in
# float32 this happens some time in 100 steps of 64 images), Adam and momentum lead two runs apart to
# 1e-3, though steps from equal states agree to 1e-5 wherever nothing flips. So the digits model is
# compared under Adam in float64, where roundings hardly come near a decision, and in float32 under
# SGD, over the steps before the first such decision (36 to 60, as the order of sums has it).
COMPARISONS = pytest.mark.parametrize(
    ("name", "optimizer", "floatx", "tolerance", "steps"),
    [
        ("digits", "sgd", "float32", TOLERANCE, 30),
        ("digits", "adam", "float64", 1e-9, 60),
        ("mlp", "adam", "float32", TOLERANCE, STEPS),
    ],
)


@COMPARISONS
def test_compiled_losses_equal_the_eager_ones_of_the_same_seeds(
    name, optimizer, floatx, tolerance, steps
):
    before = len(stats().reports)
    with _compute_in(floatx):
        compiled = losses(build(name, optimizer), name, steps)
        eager = losses(build(name, optimizer, run_eagerly=True), name, steps)
    report = stats().reports[before]
    assert (report.step, report.target, report.fallbacks) == ("train_step", "cpu", ())
    assert len(stats().reports) == before + 1
    np.testing.assert_allclose(compiled, eager, rtol=tolerance)
    assert compiled[-1] < 0.5 * compiled[0]


ON_TORCH = """
import json, sys
sys.path.insert(0, sys.argv[4])
from train_from_given_weights import run
print(json.dumps(run(*sys.argv[1:4], int(sys.argv[5]))))
"""


@COMPARISONS
def test_losses_equal_those_of_keras_on_torch_where_nothing_is_drawn(
    name, optimizer, floatx, tolerance, steps
):
    """Weights are given and dropout is left out: the backends draw different random numbers."""
    from train_from_given_weights import run

    ours = run(name, optimizer, floatx, steps)
    environment = {**os.environ, "KERAS_BACKEND": "torch"}
    arguments = [name, optimizer, floatx, os.path.dirname(__file__), str(steps)]
    command = [sys.executable, "-c", ON_TORCH, *arguments]
    torch = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    theirs = json.loads(torch.stdout.splitlines()[-1])
    np.testing.assert_allclose(ours, theirs, rtol=tolerance)


@pytest.mark.parametrize("name", ["digits", "mlp"])
def test_one_plan_holds_forward_backward_update_and_metrics(name):
    before = len(stats().reports)
    losses(build(name), name, 1)
    (report,) = stats().reports[before:]
    layers = {layer for row in report.rows for layer in row.layers}
    assert any(layer.endswith("/grad") for layer in layers)
    assert {"loss", "metrics", "optimizer"} <= layers
    updates = [row for row in report.rows if row.kernel.startswith("optimizer_x")]
    assert len(updates) == 1, "the update of all parameters is one kernel"
    assert updates[0].how == "native multi"


def test_the_interpreted_triton_kernels_train_alike(forced):
    expected = losses(build("digits"), "digits", 5, INTERPRETED_BATCH)
    forced("interpret")
    before = len(stats().reports)
    found = losses(build("digits"), "digits", 5, INTERPRETED_BATCH)
    report = stats().reports[before]
    assert report.target == "interpret"
    assert report.fallbacks == ()
    assert all(row.how.startswith(("Triton", "torch copy")) for row in report.rows)
    np.testing.assert_allclose(found, expected, rtol=TOLERANCE)


@pytest.mark.parametrize("name", ["digits", "mlp"])
def test_one_module_means_the_same_on_every_target(name, tmp_path, capsys):
    model, x, y = samples.example(name, 8)
    path = tmp_path / f"{name}.mlir"
    path.write_text(mlir.text(import_captured(capture_example(model, x, y))))
    assert compare_targets(path, seed=3, as_json=True) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["target"] for row in rows][:3] == ["reference", "cpu", "interpret"]


@pytest.mark.parametrize("file", ["model.keras", "model.h5"])
def test_a_saved_model_predicts_the_same(tmp_path, file):
    model = build("digits")
    losses(model, "digits", 3)
    x, _ = data("digits")
    model.save(tmp_path / file)
    reloaded = keras.models.load_model(tmp_path / file)
    np.testing.assert_array_equal(
        model.predict(x[:50], verbose=0), reloaded.predict(x[:50], verbose=0)
    )


@pytest.mark.parametrize("metric", [keras.metrics.AUC, lambda: keras.metrics.MeanIoU(3)])
def test_metrics_that_count_in_tables_compile(metric):
    x = np.random.default_rng(0).random((32, 4), dtype="float32")
    y = (x[:, :3] > 0.5).astype("float32")
    results = []
    for jit_compile in (True, False):
        keras.utils.set_random_seed(3)
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation="sigmoid")])
        model.compile("sgd", "mse", metrics=[metric()], jit_compile=jit_compile)
        results.append(model.evaluate(x, y, verbose=0))
        if jit_compile:
            assert model.test_function.step.counts.op_by_op == 0
    assert results[0] == pytest.approx(results[1], rel=1e-6)


def test_nan_and_infinity_flow_as_in_torch():
    model = build("mlp")
    x, _ = data("mlp")
    x = x[:4].copy()
    x[0, 0], x[1, 1] = np.nan, np.inf
    compiled = model.predict_on_batch(x)
    model.run_eagerly = True
    model.predict_function = None
    eager = model.predict_on_batch(x)
    np.testing.assert_array_equal(np.isnan(compiled), np.isnan(eager))
    np.testing.assert_allclose(compiled[2:], eager[2:], rtol=1e-4, atol=1e-5)


def test_a_shape_that_keras_rejects_is_rejected_by_keras():
    model = build("mlp")
    with pytest.raises(ValueError, match="expected axis -1 of input shape to have value 64"):
        model.predict_on_batch(np.zeros((4, 63), "float32"))


def test_threads_that_predict_at_once_do_not_share_memory():
    model = build("mlp")
    x, _ = data("mlp")
    parts = [x[i * 32 : (i + 1) * 32] for i in range(8)]
    expected = [model.predict_on_batch(part) for part in parts]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            found = list(pool.map(model.predict_on_batch, parts))
            for got, want in zip(found, expected, strict=True):
                np.testing.assert_array_equal(got, want)
