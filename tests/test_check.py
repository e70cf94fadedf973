"""`keras-triton check` over everything it checks: this is where CI builds all kernels for GPUs."""

import json

from keras_triton import check, kernels


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
