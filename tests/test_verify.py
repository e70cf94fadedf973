"""`verify` and `stats`: what a step computes against what it means, and what a process compiled."""

import json
import os
import types

import keras
import model_zoo
import numpy as np
import pytest
import torch
from keras import layers, ops
from rich.console import Console

import keras_triton
from keras_triton import cli, compile, samples, verification
from keras_triton.distance import distance, tolerance
from keras_triton.journal import CallCounts, Stats
from keras_triton.lowering.work import Cost
from keras_triton.report import NOTHING, Report, Row


def functional():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6,))
    hidden = layers.Dense(8, activation="relu", name="hidden")(inputs)
    hidden = layers.Dropout(0.5, name="drop", seed=1)(hidden)
    model = keras.Model(inputs, layers.Dense(3, name="top")(hidden), name="net")
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


X = np.random.default_rng(0).normal(size=(4, 6)).astype("float32")
Y = np.array([0, 1, 2, 0])


def rows(found, kind):
    return {row.name: row for row in found.rows if row.kind == kind}


def test_a_predict_step_layer_by_layer():
    found = keras_triton.verify(functional(), X)
    assert (found.step, found.target, found.ok) == ("predict_step", "cpu", True)
    assert list(rows(found, "layer")) == ["hidden", "top"]
    top, result = rows(found, "layer")["top"], rows(found, "result")["0"]
    assert (top.shape, top.dtype) == (result.shape, result.dtype) == ((4, 3), "float32")
    assert 0.0 < result.distance.relative < 1e-6, "float32 is not float64"
    assert result.distance.got == pytest.approx(result.distance.wanted, rel=1e-5)


def test_a_train_step_with_gradients_losses_states_and_random_numbers():
    model = functional()
    before = [value.copy() for value in model.get_weights()]
    found = keras_triton.verify(model, X, Y)
    assert found.ok
    assert found.worst.distance.relative < 1e-4
    assert {"hidden", "drop", "top", "loss", "top/grad", "hidden/grad"} <= rows(
        found, "layer"
    ).keys()
    states = rows(found, "state")
    assert {"hidden/kernel", "top/bias", model.optimizer.iterations.path} <= states.keys()
    assert states[model.optimizer.iterations.path].distance.wanted == 1.0
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert int(model.optimizer.iterations) == 0


def test_a_function_with_its_gradients():
    w = keras.Variable(np.ones((6, 2), "float32"), name="w")

    @keras_triton.jit
    def apply(x, scale):
        return ops.tanh(ops.matmul(x, w)) * scale

    found = keras_triton.verify(apply, torch.as_tensor(X).requires_grad_(), 2.0)
    assert (found.step, found.ok) == ("apply", True)
    assert list(rows(found, "result")) == ["0", "data/x/grad", "w/grad"]
    with torch.no_grad():
        forward = keras_triton.verify(apply.fn, X, 2.0)
    assert list(rows(forward, "result")) == ["0"]


def test_what_ought_to_be_zero_is_compared_with_what_rounding_makes_of_it():
    """The bias before a normalization has a gradient of rounding noise."""
    model = keras.Sequential(
        [keras.Input((6,)), layers.Dense(3, name="before"), layers.BatchNormalization()]
    )
    model.compile("adam", "mse")
    found = keras_triton.verify(model, X, np.ones((4, 3), "float32"))
    (noise,) = (row for name, row in rows(found, "state").items() if name.endswith("before/bias"))
    assert found.ok, found.worst
    assert noise.distance.relative > found.tolerance
    assert noise.distance.absolute < 10 * noise.rounding


def test_a_target_is_chosen_and_refused():
    found = keras_triton.verify(functional(), X, target="interpret")
    assert (found.target, found.ok) == ("interpret", True)
    with pytest.raises(ValueError, match="target triton needs data on a CUDA device"):
        keras_triton.verify(functional(), X, target="triton")


def test_a_wrong_kernel_is_found_with_the_layer_it_belongs_to(monkeypatch):
    compiled_right = compile.compile_quietly

    def compiled_wrong(captured, options=None):
        """As if the kernel of `top` added 1 to its first element."""
        right = compiled_right(captured, options)
        tapped = len(captured.outputs) > 1

        def program(arguments):
            results = right.program(arguments)
            results[-1 if tapped else 0][0, 0] += 1.0
            return results

        return types.SimpleNamespace(program=program, report=right.report)

    monkeypatch.setattr(compile, "compile_quietly", compiled_wrong)
    found = keras_triton.verify(functional(), X)
    assert not found.ok
    assert [row.name for row in found.rows if not row.ok] == ["top", "0"]
    worst = rows(found, "layer")["top"].distance
    assert (worst.worst, round(worst.got - worst.wanted, 5)) == ((0, 0), 1.0)
    assert worst.absolute == pytest.approx(1.0, rel=1e-5)
    text = printed(found, 150)
    assert "is NOT right within 0.001" in text
    assert text.count("FAR") == 2


def printed(found, width):
    console = Console(width=width, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    found.print(console)
    return console.export_text()


@pytest.mark.parametrize("width", [80, 150])
def test_print_shows_layers_and_the_furthest_state(width):
    found = keras_triton.verify(functional(), X, Y)
    text = printed(found, width)
    assert max(map(len, text.splitlines())) <= width
    assert "train_step on cpu is right within 0.001" in text
    for name in ("hidden", "top/grad", "result 0"):
        assert name in text
    states = rows(found, "state")
    assert text.count("│ state ") == 1
    assert f"and {len(states) - 1} states and gradients nearer than the last" in text
    assert ("wanted" in text) == (width == 150)


def test_json_holds_all_rows():
    found = keras_triton.verify(functional(), X, Y)
    body = json.loads(found.json())
    assert (body["step"], body["target"], body["ok"]) == ("train_step", "cpu", True)
    assert [row["name"] for row in body["rows"]] == [row.name for row in found.rows]
    assert body["rows"][0]["distance"].keys() >= {"absolute", "relative", "worst", "nans"}


def test_distances():
    nan, inf = float("nan"), float("inf")
    one = torch.tensor([1.0, -4.0, nan, inf])
    assert distance(one, one).relative == 0.0
    assert (distance(one, one).nans, distance(one, one).wanted_nans) == (1, 1)
    far = distance(torch.tensor([1.0, -3.0, nan, inf]), one)
    assert (far.absolute, far.relative, far.worst, far.got) == (1.0, 0.25, (1,), -3.0)
    assert distance(torch.tensor([nan, -4.0, nan, inf]), one).worst == (0,)
    assert distance(torch.tensor([nan, -4.0, nan, inf]), one).relative == inf
    assert distance(torch.tensor([1.0, -4.0, nan, -inf]), one).relative == inf
    assert distance(torch.zeros(2), torch.zeros(3)).relative == inf
    assert distance(torch.zeros(0), torch.zeros(0)).worst is None
    assert distance(torch.tensor(2), torch.tensor(1)).absolute == 1.0
    assert distance(torch.tensor([3.0 + 4.0j]), torch.tensor([0j])).absolute == 5.0


def test_the_tolerance_is_that_of_the_least_precise_numbers():
    assert tolerance({torch.float64, torch.int64}) == 1e-9
    assert tolerance({torch.float64, torch.float32}) == 1e-3
    assert tolerance({torch.float32, torch.bfloat16}) == 3e-2
    assert tolerance({torch.int32}) == 0.0


# The command


def test_the_command_verifies_an_example_and_a_saved_model(tmp_path, capsys):
    assert cli.main(["verify", "mlp", "--batch", "4", "--step", "train", "--json"]) == 0
    body = json.loads(capsys.readouterr().out)
    assert (body["step"], body["ok"]) == ("train_step", True)
    path = str(tmp_path / "model.keras")
    tokens, values = keras.Input((4,), dtype="int32"), keras.Input((6,))
    hidden = layers.Flatten()(layers.Embedding(2, 3)(tokens))
    keras.Model([tokens, values], layers.Concatenate()([hidden, values])).save(path)
    assert cli.main(["verify", path]) == 0
    assert "predict_step on cpu is right within 0.001" in capsys.readouterr().out
    assert cli.main(["verify", path, "--step", "train"]) == 2
    assert "needs targets" in capsys.readouterr().err


def test_the_command_returns_1_where_something_is_far(monkeypatch, capsys):
    monkeypatch.setattr(verification, "tolerance", lambda dtypes: 0.0)
    monkeypatch.setattr(verification, "TIMES_ROUNDING", 0)
    assert cli.main(["verify", "mlp", "--batch", "4"]) == 1
    assert "FAR" in capsys.readouterr().out


# stats


def test_stats_of_a_model():
    before = keras_triton.stats()
    model = functional()
    model.fit(X, Y, epochs=2, verbose=0)
    model.run_eagerly = True
    after = keras_triton.stats()
    assert after.reports[: len(before.reports)] == before.reports
    (report,) = after.reports[len(before.reports) :]
    assert report.step == "train_step"
    assert after.counts.captures == before.counts.captures + 1
    assert after.counts.compiled == before.counts.compiled + 2
    assert after.launches == before.launches + len(report.rows)


def test_stats_count_reasons_print_and_write_json():
    fallback = Row("k", "torch", (), (), NOTHING, fallback="no dialect op for aten.topk.default")
    report = Report(
        "train_step",
        "cpu",
        (fallback, fallback, Row("l", "native loop", (), (), Cost(1, 3, 0, False))),
    )
    refused = keras_triton.capture_errors.CaptureError("step", "layer", "it cannot be traced")
    stats = Stats((report, report), (refused,), CallCounts(2, 10, 1), kept=1)
    assert stats.fallbacks == {"no dialect op for aten.topk.default": 4}
    assert stats.refusals == {"it cannot be traced": 1}
    body = json.loads(stats.json())
    assert body["calls"] == {"captures": 2, "compiled": 10, "op_by_op": 1}
    assert (body["launches"], len(body["programs"])) == (6, 2)
    text = printed(stats, 120)
    assert body["programs_found_on_disk"] == 1
    assert "captures: 2; programs: 2 (1 found on disk), of 6 launches; calls: 10 compiled" in text
    for word in ("no dialect op for aten.topk.default", "it cannot be traced", "launch on torch"):
        assert word in text


def test_the_examples_verify():
    model, x, y = samples.example("digits", 4)
    found = keras_triton.verify(model, x, y)
    assert found.ok, found.worst


@pytest.mark.parametrize("name", ["encoder", "lstm", "torch_module", "control_flow", "loss_scale"])
def test_models_of_the_zoo_verify(name):
    keras.utils.set_random_seed(0)
    model, batches = model_zoo.MODELS[name](np.random.default_rng(0))
    found = keras_triton.verify(model, *batches[0])
    assert found.ok, found.worst
    assert any(row.kind == "state" for row in found.rows)
