"""`keras-triton check` over everything it checks: this is where CI builds all kernels for GPUs."""

import json

import pytest

from keras_triton import check, kernels
from keras_triton.bench.blocks import example
from keras_triton.compile import import_captured
from keras_triton.explanation import capture_example
from keras_triton.kernels.device import of_capability
from keras_triton.lowering.pipeline import lower
from keras_triton.lowering.plan_reader import read_plan
from keras_triton.targets.base import asked_by
from keras_triton.targets.sources import load
from keras_triton.targets.triton import TritonTarget


def test_every_kernel_builds_for_every_capability_without_spills(capsys):
    assert check.main(quick=False, as_json=True) == 0
    results = json.loads(capsys.readouterr().out)
    built = {result["kernel"].partition("[")[0] for result in results}
    assert set(kernels.all_specs()) <= built
    assert any(name.startswith("digits/optimizer") for name in built)
    assert any(name.startswith("mlp/") for name in built)
    assert {result["capability"] for result in results} == {80, 90, 100}
    wgmma = [r["kernel"] for r in results if r["tensor_core"] == "wgmma"]
    assert {f"{name} (large)[0]" for name in check.PRODUCTS} <= set(wgmma)


def test_a_kernel_that_fails_fails_the_check(monkeypatch, capsys):
    def refuse(launch, dtypes, capability):
        raise RuntimeError("ptxas says no")

    monkeypatch.setattr(check, "compile_offline", refuse)
    assert check.main(quick=True, as_json=True) == 1
    results = json.loads(capsys.readouterr().out)
    assert {result["problem"] for result in results} == {"does not build: ptxas says no"}


@pytest.fixture(scope="module")
def bottleneck():
    """The kernels of a ResNet block's train step in bfloat16."""
    module = import_captured(capture_example(*example("bottleneck")))
    return read_plan(lower(module, **asked_by(TritonTarget)))


@pytest.mark.parametrize("capability", kernels.CAPABILITIES)
def test_convolutions_with_all_that_is_around_them_build_without_spills(bottleneck, capability):
    found = {}
    for function in bottleneck.kernels.values():
        loaded = load(function, None, of_capability(capability))
        use = loaded.generated.template
        if use is not None and use.template.startswith("conv2d"):
            made = kernels.compile_offline(loaded.program.launches[0], loaded.dtypes(), capability)
            found[loaded.generated.name] = made.spills
    assert len(found) == 8
    assert set(found.values()) == {0}
