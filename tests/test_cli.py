"""The commands: what they print, what they return, and one sentence for bad input."""

import json
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import torch
from keras import layers

from keras_triton import check, cli, kernels, tools
from keras_triton.compile import compile_module
from keras_triton.distance import Distance
from keras_triton.settings import settings
from keras_triton.targets.choice import choose

MODULE = """
module attributes {keras.stage = "keras"} {
  func.func @main(%x: tensor<4x3xf32> {keras.name = "data/x"}, %w: tensor<3x2xf32> {keras.name = "w"})
      -> tensor<4x2xf32> {
    %0 = "keras.matmul"(%x, %w) {transpose_a = false, transpose_b = false}
        : (tensor<4x3xf32>, tensor<3x2xf32>) -> tensor<4x2xf32> loc("net/dense")
    %1 = "keras.tanh"(%0) : (tensor<4x2xf32>) -> tensor<4x2xf32> loc("net/dense")
    return %1 : tensor<4x2xf32>
  }
}
"""


@pytest.fixture
def module(tmp_path):
    path = tmp_path / "step.mlir"
    path.write_text(MODULE)
    return str(path)


@pytest.fixture
def environment():
    """Sets variables of the settings for one test."""
    with pytest.MonkeyPatch.context() as patch:

        def put(name, value):
            patch.setenv(name, value)
            settings.cache_clear()

        yield put
    settings.cache_clear()


def report_of(capsys, *arguments):
    assert cli.main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_compile_prints_what_runs(module, capsys):
    body = report_of(capsys, "compile", module)
    assert (body["step"], body["target"], body["fallbacks"]) == ("step", "cpu", 0)
    assert [row["how"] for row in body["rows"]] == ["torch.mm", "native loop"]
    assert cli.main(["compile", module]) == 0
    table = capsys.readouterr().out
    assert "step on cpu: 2 launches" in table
    assert "net/dense" in table


@pytest.mark.parametrize(
    ("target", "how"),
    [
        ("cpu", ["torch.mm", "native loop"]),
        ("interpret", ["Triton template matmul"]),
        ("reference", ["reference meaning"]),
    ],
)
def test_compile_for_a_target(target, how, module, capsys):
    body = report_of(capsys, "compile", module, "--target", target)
    assert (body["target"], [row["how"] for row in body["rows"]]) == (target, how)


def test_the_variable_chooses_where_no_option_does(module, capsys, environment):
    environment("KERAS_TRITON_TARGET", "reference")
    assert report_of(capsys, "compile", module)["target"] == "reference"
    assert report_of(capsys, "compile", module, "--target", "cpu")["target"] == "cpu"


def test_compile_dumps_the_stages_it_goes_through(module, tmp_path, capsys):
    folder = tmp_path / "dump"
    report_of(capsys, "compile", module, "--dump", str(folder))
    found = sorted(path.name for path in (folder / "step-0").iterdir())
    assert found == [
        "1-keras.mlir",
        "2-linalg.mlir",
        "3-regions.mlir",
        "4-plan.mlir",
        "index.html",
        "kernels",
        "report.json",
    ]


@pytest.mark.parametrize(("name", "layer"), [("digits", "digits/conv2d"), ("mlp", "mlp/dense")])
def test_explain_an_example(name, layer, capsys):
    body = report_of(capsys, "explain", name, "--batch", "4")
    assert (body["step"], body["target"], body["fallbacks"]) == ("predict_step", "cpu", 0)
    assert any(shown.startswith(layer) for row in body["rows"] for shown in row["layers"])


def test_explain_the_train_step_on_a_target_with_a_dump(tmp_path, capsys):
    before = settings()
    options = ("--step", "train", "--batch", "4", "--target", "reference", "--dump", str(tmp_path))
    body = report_of(capsys, "explain", "mlp", *options)
    assert (body["step"], body["target"]) == ("train_step", "reference")
    assert (tmp_path / "train_step-0" / "0-captured.py").exists()
    assert settings() is before, "options of a command stay out of the process's settings"


def test_explain_a_saved_model(tmp_path, capsys):
    path = str(tmp_path / "model.keras")
    keras.Sequential([keras.Input((6,)), layers.Dense(3, name="top")]).save(path)
    body = report_of(capsys, "explain", path, "--batch", "5")
    assert (body["step"], body["fallbacks"]) == ("predict_step", 0)
    assert body["rows"][0]["bytes"] == 4 * (5 * 6 + 6 * 3 + 5 * 3)


def test_explain_a_saved_model_of_several_inputs(tmp_path, capsys):
    tokens, values = keras.Input((4,), dtype="int32"), keras.Input((6,))
    embedded = layers.Flatten()(layers.Embedding(10, 3)(tokens))
    path = str(tmp_path / "model.keras")
    keras.Model([tokens, values], layers.Concatenate()([embedded, values])).save(path)
    assert report_of(capsys, "explain", path)["step"] == "predict_step"


def test_compare_prints_the_distance_of_every_target(module, capsys):
    assert cli.main(["compare", module, "--seed", "3", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["target"] for row in rows][:3] == ["reference", "cpu", "interpret"]
    assert all(row["ok"] and row["distance"] < 1e-5 for row in rows)
    assert cli.main(["compare", module]) == 0
    assert "interpret" in capsys.readouterr().out


def test_compare_fails_where_a_target_is_wrong(module, capsys, monkeypatch):
    from keras_triton import tools

    monkeypatch.setattr(tools, "distance", lambda got, want: Distance(relative=0.5))
    assert cli.main(["compare", module, "--json"]) == 1
    assert not any(row["ok"] for row in json.loads(capsys.readouterr().out))


def test_info_names_versions_device_and_settings(capsys):
    assert cli.main(["info"]) == 0
    text = capsys.readouterr().out
    for word in ("keras-triton 0.1.0", f"keras {keras.__version__}", "torch ", "CPU threads"):
        assert word in text
    assert "target='auto'" in text


def test_check_builds_templates_and_counts_failures(monkeypatch, capsys):
    """Two of the templates, for one capability."""
    specs = kernels.all_specs()
    some = {name: specs[name] for name in ("softmax", "matmul")}
    monkeypatch.setattr(kernels, "all_specs", lambda: some)
    monkeypatch.setattr(check, "CAPABILITIES", (90,))
    assert cli.main(["check", "--quick", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["kernel"].split("[")[0].split(" ")[0] for row in rows} == {"softmax", "matmul"}
    assert {row["capability"] for row in rows} == {90}
    assert any(row["tensor_core"] for row in rows if row["kernel"] == "matmul[0]")

    def broken(launch, dtypes, capability):
        raise RuntimeError("ptxas says no\nat length")

    monkeypatch.setattr(check, "compile_offline", broken)
    assert cli.main(["check", "--quick"]) == 1
    out = capsys.readouterr().out
    assert f"0 of {len(rows)} kernels build" in out


def sentence_of(capsys, *arguments):
    """The one line that a command refuses its input with."""
    try:
        status = cli.main(list(arguments))
    except SystemExit as stop:  # argparse ends by itself
        status = stop.code
    assert status == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    return err.splitlines()[-1]


FILES = {
    "binary.mlir": (b"\xff\xfe\x00\x81", "is no text, so it holds no module"),
    "prose.mlir": (b"hello\nworld", "this is no module of the compiler"),
    "no_stage.mlir": (b"module {}", "the module has no keras.stage attribute"),
    "no_main.mlir": (
        b'module attributes {keras.stage = "keras"} {}',
        "the module has no function @main",
    ),
    "no_plan.mlir": (
        b'module attributes {keras.stage = "plan"} {}',
        "holds the modules @kernels and @plan",
    ),
    "unverified.mlir": (
        MODULE.replace("3x2xf32", "5x2xf32").encode(),
        r"keras.matmul(tensor<4x3xf32>, tensor<5x2xf32>) in layer net/dense: inner extents 3 and 5",
    ),
}


@pytest.mark.parametrize("command", ["compile", "compare"])
@pytest.mark.parametrize("name", FILES)
def test_a_file_without_a_good_module(command, name, tmp_path, capsys):
    content, expected = FILES[name]
    path = tmp_path / name
    path.write_bytes(content)
    line = sentence_of(capsys, command, str(path))
    assert line.startswith(f"keras-triton: {path}")
    assert expected in line


@pytest.mark.parametrize("command", ["compile", "compare"])
def test_a_file_that_is_not_there(command, tmp_path, capsys):
    path = tmp_path / "none.mlir"
    line = sentence_of(capsys, command, str(path))
    assert line == f"keras-triton: {path} cannot be read: No such file or directory"


def test_a_model_that_is_not_there(capsys):
    line = sentence_of(capsys, "explain", "resnet")
    assert line == "keras-triton: 'resnet' is neither a file nor one of the examples digits and mlp"


def test_a_file_that_is_no_model(tmp_path, capsys):
    path = tmp_path / "model.keras"
    path.write_text("no zip file")
    assert "model.keras" in sentence_of(capsys, "explain", str(path))


def test_a_saved_model_whose_step_needs_more_than_the_file_says(tmp_path, capsys):
    path = str(tmp_path / "model.keras")
    inputs = keras.Input((None, 6))
    keras.Model(inputs, layers.Dense(3)(inputs)).save(path)
    assert "every extent but the batch is needed" in sentence_of(capsys, "explain", path)
    assert "needs targets" in sentence_of(capsys, "explain", path, "--step", "train")


@keras.saving.register_keras_serializable("tests")
class Chooses(layers.Layer):
    def call(self, x):
        return x if keras.ops.sum(x) > 0 else -x


def test_a_model_that_cannot_be_captured(tmp_path, capsys):
    path = str(tmp_path / "model.keras")
    keras.Sequential([keras.Input((6,)), Chooses(name="chooser")]).save(path)
    line = sentence_of(capsys, "explain", path)
    assert "chooser" in line
    assert "a tensor needs its value" in line


@pytest.mark.parametrize("arguments", [("explain", "mlp", "--batch", "4"), ("compile",), ("info",)])
def test_a_wrong_target_in_the_environment(arguments, module, capsys, environment):
    environment("KERAS_TRITON_TARGET", "gpu")
    given = [*arguments, module] if arguments == ("compile",) else arguments
    line = sentence_of(capsys, *given)
    assert line.startswith("keras-triton: KERAS_TRITON_TARGET must be")
    assert "'gpu'" in line


@pytest.mark.parametrize("batch", ["0", "-3", "many"])
def test_a_wrong_batch(batch, capsys):
    assert "is no positive number" in sentence_of(capsys, "explain", "mlp", "--batch", batch)


def test_a_wrong_target(module, capsys):
    assert "invalid choice: 'gpu'" in sentence_of(capsys, "compile", module, "--target", "gpu")


@pytest.mark.parametrize("arguments", [("explain", "mlp", "--batch", "4"), ("compile",)])
def test_the_gpu_target_without_a_gpu(arguments, module, capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    given = [*arguments, module] if arguments == ("compile",) else arguments
    line = sentence_of(capsys, *given, "--target", "triton")
    assert "target triton needs data on a CUDA device" in line
    assert "interpret runs the same kernels without a GPU" in line


def test_zeros_of_the_right_kind_are_made_for_integers(tmp_path, capsys):
    tokens = keras.Input((4,), dtype="int32")
    path = str(tmp_path / "model.keras")
    keras.Model(tokens, layers.Embedding(10, 3)(tokens)).save(path)
    body = report_of(capsys, "explain", path, "--batch", "2")
    assert body["bytes"] >= np.zeros((2, 4), "int32").nbytes


def test_examples_without_scikit_learn_say_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    assert cli.main(["explain", "digits"]) == 2
    assert "pip install scikit-learn" in capsys.readouterr().err


def test_cache_shows_and_clears_what_is_kept(module, capsys, environment, tmp_path):
    environment("KERAS_TRITON_CACHE", str(tmp_path))
    environment("KERAS_TRITON_CACHE_SIZE", "5")
    cpu = torch.device("cpu")
    compile_module(tools.read_module(Path(module)), choose("cpu", cpu), cpu, name="step")
    body = report_of(capsys, "cache")
    assert (body["folder"], body["entries"], body["limit"]) == (
        str(tmp_path / "compiled"),
        1,
        5_000_000,
    )
    assert body["bytes"] == next((tmp_path / "compiled").iterdir()).stat().st_size
    assert cli.main(["info"]) == 0
    assert "1 compiled steps, 0.0 of at most 5 MB" in capsys.readouterr().out
    assert report_of(capsys, "cache", "--clear")["removed"] == 1
    assert cli.main(["cache"]) == 0
    assert "0 compiled steps" in capsys.readouterr().out
    (tmp_path / "compiled").chmod(0o777)
    assert cli.main(["cache"]) == 2
    assert "other users may write" in capsys.readouterr().err
