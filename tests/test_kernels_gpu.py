"""Every template on a GPU, against its reference in float64; skipped where there is none."""

import pytest
import torch
from kernel_cases import check, inputs

from keras_triton.kernels import Problem, all_specs, get, of_cuda

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize("spec", all_specs().values(), ids=lambda spec: spec.name)
def test_template_matches_its_reference(spec):
    for problem in spec.cases:
        check(spec, problem, spec.space.guess(problem, of_cuda()), device="cuda")


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("matmul", Problem.of([((1000, 2052), "bfloat16"), ((2052, 777), "bfloat16")])),
        ("softmax", Problem.of([((33, 50257), "bfloat16")])),
        (
            "layer_norm_grad",
            Problem.of([((4100, 1000), "float32")] * 2 + [((4100,), "float32")] * 2),
        ),
    ],
)
def test_sizes_that_fill_the_device(name, problem):
    check(get(name), problem, get(name).space.guess(problem, of_cuda()), device="cuda")


def test_split_sums_repeat_bit_for_bit():
    spec = get("matmul")
    problem = Problem.of([((64, 8192), "float32"), ((8192, 64), "float32")])
    config = spec.space.guess(problem, of_cuda())
    assert config.split_k > 1
    tensors = tuple(tensor.cuda() for tensor in inputs(spec, problem))
    (first,) = spec.run(problem, config, tensors, interpret=False)
    (second,) = spec.run(problem, config, tensors, interpret=False)
    assert torch.equal(first, second)
