"""`explain` and its report, and what a process says at exit about what it compiled."""

import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import torch
from keras import layers, ops
from rich.console import Console

import keras_triton
from keras_triton.capture_errors import CaptureError
from keras_triton.journal import stats


class Best(layers.Layer):
    """An op that the dialect has no word for."""

    def call(self, x):
        return torch.logcumsumexp(x, -1)


def functional():
    inputs = keras.Input((6,))
    hidden = layers.Dense(8, activation="relu", name="hidden")(inputs)
    model = keras.Model(inputs, layers.Dense(3, name="top")(Best(name="best")(hidden)), name="net")
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


X, Y = np.ones((4, 6), "float32"), np.array([0, 1, 2, 0])


def test_a_model_and_x_explain_its_predict_step():
    report = keras_triton.explain(functional(), X)
    assert (report.step, report.target) == ("predict_step", "cpu")
    ran = {row.how for row in report.rows}
    assert ran == {"torch.mm", "native loop", "torch aten.logcumsumexp.default"}
    assert {layer for row in report.rows for layer in row.layers} == {
        "hidden",
        "best",
        "top",
    }
    product = next(row for row in report.rows if row.ops == ("matmul",))
    assert product.bytes == 4 * (4 * 6 + 6 * 8 + 4 * 8)
    assert report.bytes == sum(row.bytes for row in report.rows)


def test_an_op_without_a_rule_is_a_fallback_with_layer_and_reason():
    report = keras_triton.explain(functional(), X)
    (row,) = report.fallbacks
    assert row.layers == ("best",)
    assert row.ops == ("aten.logcumsumexp.default",)
    assert row.fallback == "no dialect op for aten.logcumsumexp.default"
    assert "1 fallbacks" in report.summary()


def test_a_model_with_targets_explains_its_train_step():
    report = keras_triton.explain(functional(), X, Y)
    assert report.step == "train_step"
    found = {layer for row in report.rows for layer in row.layers}
    assert {"hidden/grad", "optimizer", "metrics"} <= found
    weighted = keras_triton.explain(functional(), X, Y, np.ones(4, "float32"))
    assert weighted.step == "train_step"


def test_a_function_of_tensors_is_explained():
    def scaled(a, b):
        return ops.tanh(ops.matmul(a, b)) * 2.0

    report = keras_triton.explain(scaled, torch.ones(3, 4), np.ones((4, 5), "float32"))
    assert report.step == "scaled"
    assert [row.how for row in report.rows] == ["torch.mm", "native loop"]
    assert report.rows[1].ops == ("tanh", "mulf")


def test_several_inputs_are_one_structure():
    a, b = keras.Input((6,), name="a"), keras.Input((6,), name="b")
    model = keras.Model({"a": a, "b": b}, layers.Add()([a, b]))
    report = keras_triton.explain(model, {"a": X, "b": X})
    assert [row.ops for row in report.rows] == [("addf",)]


def test_explain_changes_nothing():
    model, before = functional(), len(stats().reports)
    weights = [value.copy() for value in model.get_weights()]
    keras_triton.explain(model, X, Y)
    for old, new in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert int(model.optimizer.iterations) == 0
    assert all(not np.any(v.numpy()) for v in model.optimizer.variables if "velocity" in v.path)
    assert model.get_metrics_result()["loss"] == 0
    assert len(stats().reports) == before, "only what runs is recorded"


def test_explain_needs_a_loss_for_targets():
    model = keras.Sequential([keras.Input((6,)), layers.Dense(3)], name="bare")
    with pytest.raises(ValueError, match=r"bare has no loss .* model\.compile"):
        keras_triton.explain(model, X, Y)


def test_what_cannot_be_captured_is_named():
    class Chooses(layers.Layer):
        def call(self, x):
            return x if ops.sum(x) > 0 else -x

    model = keras.Sequential([keras.Input((6,)), Chooses(name="chooser")])
    with pytest.raises(CaptureError, match=r"chooser.*a tensor needs its value"):
        keras_triton.explain(model, X)


def test_json_holds_all_rows():
    report = keras_triton.explain(functional(), X, Y)
    body = json.loads(report.json())
    assert (body["step"], body["target"]) == ("train_step", "cpu")
    assert (body["bytes"], body["fallbacks"]) == (report.bytes, len(report.fallbacks))
    assert [row["kernel"] for row in body["rows"]] == [row.kernel for row in report.rows]
    assert [tuple(row["ops"]) for row in body["rows"]] == [row.ops for row in report.rows]


@pytest.mark.parametrize("width", [80, 160])
def test_print_folds_into_the_width_it_has(width):
    console = Console(width=width, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    report = keras_triton.explain(functional(), X, Y)
    report.print(console)
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= width
    assert report.summary()[:60] in text
    assert ("fallback:" if width == 160 else "falls back to torch") in text
    assert ("notes" in text) == (width == 160)


SCRIPT = """
import keras, numpy as np
model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3, name="top")], name="net")
def loss(y, x):  # it needs the size as a number, so every size is compiled on its own
    return keras.ops.sum((x - y) ** 2) / float(y.shape[0])
model.compile("sgd", loss)
for count in (4, 5):
    model.train_on_batch(np.ones((count, 6), "float32"), np.ones((count, 3), "float32"))
print("END OF SCRIPT")
"""


def run_script(verbose):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={**os.environ, "KERAS_TRITON_VERBOSE": str(verbose)},
        capture_output=True,
        text=True,
        check=True,
    )
    before, _, after = done.stdout.partition("END OF SCRIPT\n")
    assert before == "", "nothing is printed between a script's own lines"
    assert "Error" not in done.stderr
    return after


def test_verbose_1_prints_a_line_for_each_step_at_exit():
    line, more = run_script(1).splitlines()
    assert line.startswith("keras-triton: train_step on cpu: ")
    assert more == "keras-triton: the same launches for 1 more signatures of train_step"


def test_verbose_2_prints_a_table_for_each_step_at_exit():
    text = run_script(2)
    assert "train_step on cpu" in text
    for word in ("kernel", "torch.mm", "net/top", "optimizer"):
        assert word in text
    assert "the same launches for 1 more signatures of train_step" in text
