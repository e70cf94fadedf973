"""The registry, the typed tuning spaces, device facts and launch descriptions."""

import dataclasses

import pytest

from keras_triton.kernels import Problem, all_specs, dimension, get, of_capability, register
from keras_triton.kernels.device import A100, B200, H200, INTERPRETER
from keras_triton.kernels.gemm import GemmConfig
from keras_triton.kernels.spec import MODULES


def test_a_kernel_is_registered_once():
    with pytest.raises(ValueError, match="softmax is registered twice"):
        register(get("softmax"))


def test_an_unknown_kernel_names_the_known_ones():
    with pytest.raises(KeyError, match=r"no kernel template fft.*matmul"):
        get("fft")


def test_unknown_devices_name_the_known_ones():
    with pytest.raises(ValueError, match=r"75; known: \[80, 90, 100\]"):
        of_capability(75)


def test_device_facts_can_be_faked():
    problem = Problem.of([((512, 512), "bfloat16"), ((512, 512), "bfloat16")])
    space = get("matmul").space
    tiny = dataclasses.replace(H200, multiprocessors=1, shared_bytes=49_152)
    config = GemmConfig(128, 128, 64, 8, 1, 8, 4)
    assert space.refuse(config, problem, H200) is None
    assert "bytes of shared memory" in space.refuse(config, problem, tiny)
    assert space.guess(problem, tiny).block_m > space.guess(problem, H200).block_m


@pytest.mark.parametrize("device", [A100, H200, B200, INTERPRETER], ids=lambda device: device.name)
@pytest.mark.parametrize("spec", all_specs().values(), ids=lambda spec: spec.name)
def test_first_guesses_are_never_refused(spec, device):
    for problem in spec.cases:
        config = spec.space.guess(problem, device)
        assert spec.space.refuse(config, problem, device) is None
        assert spec.space.parse(spec.space.record(config)) == config


def test_a_space_lists_its_allowed_configurations():
    problem = Problem.of([((64, 64), "float32"), ((64, 64), "float32")])
    space = get("matmul").space
    configs = list(space.configs(problem, H200))
    assert space.guess(problem, H200) in configs
    assert len(set(configs)) == len(configs) > 50
    assert all(config.block_k <= 32 for config in configs)


def test_dimensions_have_neighbours():
    block_m = next(d for d in get("matmul").space.dimensions if d.name == "block_m")
    assert block_m.neighbours(16) == (32,)
    assert block_m.neighbours(64) == (32, 128)


def test_a_default_outside_the_candidates_is_refused():
    with pytest.raises(ValueError, match="not among the candidates"):
        dimension(1, 2, default=3)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"block_m": 48}, "block_m = 48; allowed"), ({"tiles": 1}, "has fields")],
)
def test_a_record_that_does_not_fit_is_refused(change, message):
    space = get("matmul").space
    with pytest.raises(ValueError, match=message):
        space.parse({**space.record(GemmConfig()), **change})


def test_every_template_is_found_in_its_module():
    for name, module in MODULES.items():
        functions = {kernel.fn.__module__ for kernel in get(name).kernels}
        assert f"keras_triton.kernels.{module}" in functions
    assert set(MODULES) <= set(all_specs())
