"""Launches on a GPU go by the handles of compiled kernels; a driver that only takes notes stands in for one."""

from types import SimpleNamespace

import pytest
import torch
from triton.backends.compiler import GPUTarget
from triton.compiler import compiler
from triton.runtime import driver
from triton.runtime.jit import JITFunction

from keras_triton.kernels import Problem, get, launch
from keras_triton.kernels.device import H200


class Notes:
    """Kernels are compiled for Hopper; a launch leaves its grid and arguments."""

    def __init__(self):
        self.launches = []
        self.utils = SimpleNamespace(
            load_binary=lambda *_: (object(), 7, 32, 0, 1024),
            get_device_properties=lambda _: {"max_shared_mem": H200.shared_bytes},
        )

    def get_current_target(self):
        return GPUTarget("cuda", 90, 32)

    def get_current_device(self):
        return 0

    def get_current_stream(self, device):
        return 11

    def launcher_cls(self, source, metadata):
        def run(x, y, z, stream, function, packed, metadata, enter, leave, *arguments):
            self.launches.append(((x, y, z), stream, function, packed, arguments))

        return run


@pytest.fixture
def notes(monkeypatch):
    """The driver, with how often Triton's dispatch was asked."""
    made, dispatched = Notes(), []
    plain = JITFunction.run

    def run(self, *args, **kwargs):
        dispatched.append(self)
        return plain(self, *args, **kwargs)

    monkeypatch.setattr(JITFunction, "run", run)
    monkeypatch.setattr(driver, "_active", made)
    compiler.max_shared_mem.cache_clear()
    yield made, dispatched
    compiler.max_shared_mem.cache_clear()
    for function in dispatched:
        function.device_caches.clear()  # they hold kernels of this driver


def told(value):
    """What a launch hands over, to compare: tensors by where they lie."""
    if isinstance(value, torch.Tensor):
        return value.data_ptr()
    return tuple(map(told, value)) if isinstance(value, tuple) else getattr(value, "value", value)


def matmul():
    """A template with its buffers, misaligned if asked."""
    problem = Problem.of([((64, 48), "float16"), ((48, 32), "float16")])
    spec = get("matmul")
    program = spec.program(problem, spec.space.guess(problem, H200))

    def buffers(offset=0):
        a = torch.zeros(64 * 48 + 8, dtype=torch.float16)[offset : offset + 64 * 48]
        return {
            "a": a.view(64, 48),
            "b": torch.zeros(48, 32).half(),
            "out0": torch.zeros(64, 32).half(),
        }

    return program, buffers


def test_the_second_launch_hands_over_what_triton_did_without_asking_it(notes):
    made, dispatched = notes
    program, buffers = matmul()
    given = buffers()
    for _ in range(3):
        launch.execute(program, given, interpret=False)
    first, *others = made.launches
    assert len(others) == 2
    assert all(told(first) == told(other) for other in others)
    assert len(dispatched) == len(program.launches) == 1


def test_other_alignments_are_other_kernels(notes):
    made, dispatched = notes
    program, buffers = matmul()
    for offset in (0, 1, 0, 1):
        launch.execute(program, buffers(offset), interpret=False)
    assert len(dispatched) == 2
    assert len(made.launches) == 4
