"""`keras-triton opt`: one pass after another on a file, and one sentence for what does not go."""

import io
import sys

import pytest

from keras_triton import cli, pipeline
from keras_triton.lowering import mlir
from keras_triton.lowering.pipeline import lower

MODULE = """
module attributes {keras.stage = "keras"} {
  func.func @main(%x: tensor<4x3xf32> {keras.name = "x"}) -> tensor<4x3xf32> {
    %0 = "keras.tanh"(%x) : (tensor<4x3xf32>) -> tensor<4x3xf32> loc("net/dense")
    %1 = "keras.neg"(%0) : (tensor<4x3xf32>) -> tensor<4x3xf32> loc("net/dense")
    return %1 : tensor<4x3xf32>
  }
}
"""
NAMES = [step.name for step in pipeline.passes()]


@pytest.fixture
def module(tmp_path):
    path = tmp_path / "step.mlir"
    path.write_text(MODULE)
    return str(path)


def opt(capsys, *arguments):
    assert cli.main(["opt", *arguments]) == 0
    return capsys.readouterr().out


def test_a_pass_by_name(module, capsys):
    made = mlir.parse(opt(capsys, module, "--pass", "lower-to-linalg"))
    assert mlir.stage_of(made) == "linalg"
    layers = [mlir.layer_of(op) for op in mlir.functions(made)["main"].body.blocks[0].operations]
    assert "net/dense" in layers


def test_passes_one_after_another_make_what_lowering_makes(module, capsys, monkeypatch):
    """Also where one process hands its module to the next."""
    first, second = NAMES[:4], NAMES[4:]
    text = opt(capsys, module, *(word for name in first for word in ("--pass", name)))
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))
    text = opt(capsys, "-", *(word for name in second for word in ("--pass", name)))
    wanted = lower(mlir.parse(MODULE), decompose=True, epilogues=False)
    assert str(mlir.parse(text)) == str(wanted)


@pytest.mark.parametrize("listing", ["--list", "--help"])
def test_every_pass_is_listed_with_its_stages(listing, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    if listing == "--help":
        with pytest.raises(SystemExit, match="0"):
            cli.main(["opt", "--help"])
        shown = capsys.readouterr().out
    else:
        shown = opt(capsys, "--list")
    for step in pipeline.passes():
        row = next(line for line in shown.splitlines() if line.split()[:1] == [step.name])
        assert row.split()[1:3] == [step.takes, step.gives]
        assert step.summary.split()[0] in row


def test_a_target_chooses_the_options_of_the_passes(capsys):
    assert "epilogues=false" in "".join(opt(capsys, "--list", "--target", "cpu").split())
    assert "epilogues=true" in "".join(opt(capsys, "--list", "--target", "interpret").split())


BAD = {
    "a pass of another stage": (
        ["--pass", "fuse-regions"],
        "fuse-regions takes a module of stage 'linalg', not 'keras'",
    ),
    "no such pass": (["--pass", "fuse"], "there is no pass 'fuse'; there are canonicalize-keras,"),
    "no pass": ([], "opt takes a module and at least one --pass NAME, or --list"),
}


@pytest.mark.parametrize(("arguments", "sentence"), BAD.values(), ids=BAD)
def test_what_does_not_go_is_said_in_one_sentence(arguments, sentence, module, capsys):
    assert cli.main(["opt", module, *arguments]) == 2
    found = capsys.readouterr()
    assert found.out == ""
    assert found.err.startswith(f"keras-triton: {sentence}")
    assert len(found.err.splitlines()) == 1


def test_stdin_without_a_module(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.StringIO("nothing"))
    assert cli.main(["opt", "-", "--pass", "fuse-regions"]) == 2
    assert "stdin: this is no module of the compiler" in capsys.readouterr().err
