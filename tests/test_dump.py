"""What KERAS_TRITON_DUMP writes, and that lowering goes on from each of its modules."""

import json

import keras
import numpy as np
import pytest
import torch
from keras import layers

from keras_triton.dump import Dump
from keras_triton.journal import stats
from keras_triton.lowering import mlir
from keras_triton.settings import settings
from keras_triton.tools import compare_targets, compile_stage

STAGES = ("1-keras.mlir", "2-linalg.mlir", "3-regions.mlir", "4-plan.mlir")
TARGETS = ("cpu", "interpret")


def train_one_step():
    """A model with a product, a random mask, a normalization and a fallback."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6,))
    x = layers.LayerNormalization()(layers.Dense(8, activation="relu")(inputs))
    x = layers.Dropout(0.2)(layers.Lambda(lambda x: torch.logcumsumexp(x, -1))(x))
    model = keras.Model(inputs, layers.Dense(3)(x))
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.train_on_batch(np.ones((4, 6), "float32"), np.array([0, 1, 2, 0]))


@pytest.fixture(scope="module", params=TARGETS)
def dumped(request, tmp_path_factory):
    """A target, the directory of one train step on it, and the report of that step."""
    root = tmp_path_factory.mktemp(request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_TRITON_TARGET", request.param)
        patch.setenv("KERAS_TRITON_DUMP", str(root))
        settings.cache_clear()
        train_one_step()
    settings.cache_clear()
    return request.param, root / "train_step-0", stats().reports[-1]


def test_every_stage_is_there(dumped):
    _, folder, report = dumped
    files = {path.name for path in folder.iterdir()}
    assert files == {"0-captured.py", *STAGES, "kernels", "report.json", "index.html"}
    assert "def forward" in (folder / "0-captured.py").read_text()
    for file in STAGES:
        module = mlir.parse((folder / file).read_text())
        assert mlir.stage_of(module) == file[2:-5]
    assert json.loads((folder / "report.json").read_text()) == json.loads(report.json())


def test_every_kernel_is_there(dumped):
    target, folder, report = dumped
    made = "native" if target == "cpu" else "Triton"
    names = {row.kernel for row in report.rows if row.how.startswith(made)}
    assert names
    files = {path.name for path in (folder / "kernels").iterdir()}
    if target == "cpu":
        assert files == {f"{name}.{suffix}" for name in names for suffix in ("mlir", "ll")}
        return
    for suffix in (".0.ttir", ".0.ptx"):
        assert {file.removesuffix(suffix) for file in files if file.endswith(suffix)} == names
    generated = {file.removesuffix(".py") for file in files if file.endswith(".py")}
    assert {row.kernel for row in report.rows if row.how == "Triton loop"} <= generated <= names


@pytest.mark.parametrize("stage", STAGES)
def test_lowering_goes_on_from_every_stage_to_the_same_kernels(dumped, stage):
    target, folder, report = dumped
    assert compile_stage(folder / stage, target, None).rows == report.rows


@pytest.mark.parametrize("stage", STAGES)
def test_the_text_of_a_stage_reads_back_as_itself(dumped, stage):
    text = (dumped[1] / stage).read_text()
    assert mlir.text(mlir.parse(text)) == text


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_means_the_same_on_every_target(dumped, stage, capsys):
    target, folder, _ = dumped
    if target == "interpret":
        pytest.skip("its kernels hold epilogues, which the CPU target runs by their meaning")
    assert compare_targets(folder / stage, seed=0, as_json=True) == 0


def test_kernels_fused_for_a_gpu_run_on_a_cpu_by_their_meaning(dumped):
    target, folder, _ = dumped
    if target == "cpu":
        pytest.skip("nothing is fused into a product for a CPU")
    with pytest.warns(RuntimeWarning, match="matmul is fused with other ops, as for a GPU"):
        report = compile_stage(folder / "3-regions.mlir", "cpu", None)
    fused = [row for row in report.fallbacks if row.ops[0] == "matmul"]
    assert fused
    assert all(row.how == "torch (meaning of the kernel)" for row in fused)


def test_each_compilation_gets_a_directory_of_its_own(tmp_path):
    root = tmp_path / "made" / "here"
    found = [Dump.for_step(root, "train_step").directory for _ in range(3)]
    assert [path.name for path in found] == ["train_step-0", "train_step-1", "train_step-2"]
    assert all(path.is_dir() for path in found)


def test_without_a_directory_nothing_is_made():
    dump = Dump.for_step(None, "train_step")
    dump.text("file", "text")
    dump.kernel("matmul_0", lambda: pytest.fail("the texts of kernels are made for a dump only"))


def test_a_kernel_whose_texts_cannot_be_made_says_why(tmp_path):
    def files():
        raise RuntimeError("ptxas is not there")

    dump = Dump.for_step(tmp_path, "train_step")
    dump.kernel("matmul_0", files)
    text = (tmp_path / "train_step-0" / "kernels" / "matmul_0.error.txt").read_text()
    assert text == "RuntimeError: ptxas is not there\n"


def test_a_directory_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"nothing can be dumped to .*below: Not a directory"):
        Dump.for_step(tmp_path / "file" / "below", "train_step")
