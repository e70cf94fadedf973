"""Every template against its plain reference in float64, in the interpreter."""

import dataclasses

import pytest
import torch
import triton.language as tl
from kernel_cases import check, inputs

from keras_triton.kernels import Problem, all_specs, get, of_capability
from keras_triton.kernels.gemm import GemmConfig
from keras_triton.kernels.loss import cross_entropy_reference
from keras_triton.kernels.norm_grad import NormGradConfig
from keras_triton.kernels.pool import PoolConfig
from keras_triton.kernels.rows import RowConfig

H100 = of_capability(90)
NAN, INF = float("nan"), float("inf")
CASES = [
    pytest.param(spec, problem, id=f"{name}-{number}-{problem.dtype()}")
    for name, spec in all_specs().items()
    for number, problem in enumerate(spec.cases)
]


TEMPLATES = """
matmul batch_matmul conv2d conv2d_input_grad conv2d_kernel_grad
softmax softmax_grad log_softmax log_softmax_grad layer_norm layer_norm_grad
cross_entropy cross_entropy_grad max_pool2d max_pool2d_grad avg_pool2d avg_pool2d_grad products gates
linear_cross_entropy linear_cross_entropy_input_grad linear_cross_entropy_weight_grad attention
attention_grad scatter cumulate sort top
"""
LOOPED = """
softmax softmax_grad log_softmax log_softmax_grad layer_norm layer_norm_grad
cross_entropy cross_entropy_grad
"""


def test_all_templates_are_registered():
    assert sorted(all_specs()) == sorted(TEMPLATES.split())


@pytest.mark.parametrize(("spec", "problem"), CASES)
def test_template_matches_its_reference(spec, problem):
    config = spec.space.guess(problem, H100)
    assert spec.space.refuse(config, problem, H100) is None
    launched = [launch.kernel for launch in spec.program(problem, config).launches]
    assert set(launched) & set(spec.kernels), "the program runs none of the template's kernels"
    check(spec, problem, config)


@pytest.mark.parametrize("name", ["matmul", "batch_matmul"])
def test_split_products_add_their_shares_in_a_second_kernel(name):
    shape = ((2,) if name == "batch_matmul" else ()) + (19, 70)
    problem = Problem.of([(shape, "float32"), ((*shape[:-2], 70, 21), "float32")])
    config = GemmConfig(16, 32, 16, 4, split_k=4, num_warps=4, num_stages=2)
    kernels = [launch.kernel.__name__ for launch in get(name).program(problem, config).launches]
    assert kernels == ["matmul_kernel", "reduce_partials_kernel"]
    check(get(name), problem, config)


@pytest.mark.parametrize(
    ("instances", "pairs", "attributes"),
    [(3, 1, {"transpose_a": True, "sums": True}), (2, 3, {"transpose_b": True})],
)
def test_split_products_of_several_instances(instances, pairs, attributes):
    a = (70, 19) if "transpose_a" in attributes else (19, 70)
    b = (21, 70) if "transpose_b" in attributes else (70, 21)
    operands = [(a, "float32"), (b, "float32")] * (instances * pairs)
    problem = Problem.of(operands, instances=instances, pairs=pairs, **attributes)
    config = GemmConfig(16, 16, 16, 4, split_k=4, num_warps=4, num_stages=2)
    program = get("products").program(problem, config)
    kernels = [launch.kernel.__name__ for launch in program.launches]
    assert kernels == ["products_kernel", "add_shares_kernel"]
    check(get("products"), problem, config)


@pytest.mark.parametrize("name", ["conv2d", "conv2d_input_grad", "conv2d_kernel_grad"])
def test_split_convolutions_with_groups(name):
    spec = get(name)
    problem = next(case for case in spec.cases if case.attrs["groups"] > 1)
    check(spec, problem, GemmConfig(16, 16, 16, 1, split_k=4, num_warps=4, num_stages=2))


@pytest.mark.parametrize("name", LOOPED.split())
@pytest.mark.parametrize("case", [0, 3])
def test_rows_longer_than_a_tile(name, case):
    spec = get(name)
    config = RowConfig(1, 16, 1)
    if name == "layer_norm_grad":
        config = NormGradConfig(1, 16, 1, 2)
        kernels = [
            launch.kernel.__name__ for launch in spec.program(spec.cases[case], config).launches
        ]
        assert kernels[:2] == ["layer_norm_row_grad_kernel", "layer_norm_partials_kernel"]
    check(spec, spec.cases[case], config)


@pytest.mark.parametrize("spec", all_specs().values(), ids=lambda spec: spec.name)
def test_offsets_of_64_bits(spec):
    def plan(problem, config, epilogue):
        program = spec.plan(problem, config, epilogue)
        launches = (
            dataclasses.replace(launch, constexprs={**launch.constexprs, "INDEX": tl.int64})
            for launch in program.launches
        )
        return dataclasses.replace(program, launches=tuple(launches))

    problem = spec.cases[0]
    check(dataclasses.replace(spec, plan=plan), problem, spec.space.guess(problem, H100))


def test_layer_norm_gradients_repeat_bit_for_bit():
    spec = get("layer_norm_grad")
    problem = spec.cases[3]
    tensors = inputs(spec, problem)
    config = NormGradConfig(2, 128, 2, 16)
    first = spec.run(problem, config, tensors, interpret=True)
    second = spec.run(problem, config, tensors, interpret=True)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
@pytest.mark.parametrize("block_cols", [16, 32])
def test_softmax_carries_nan_and_infinity_as_torch_does(name, block_cols):
    x = torch.zeros(5, 20)
    x[0, 3], x[1, 18], x[2], x[3, :19] = NAN, INF, -INF, -INF
    x[4, 0] = -INF
    spec = get(name)
    problem = Problem.of([((5, 20), "float32")])
    (y,) = spec.run(problem, RowConfig(1, block_cols, 1), (x,), interpret=True)
    torch.testing.assert_close(y, getattr(torch, name)(x, -1), equal_nan=True)


def test_max_pool_takes_the_first_maximum_and_nan_wins():
    x = torch.tensor([[NAN, 1.0, -INF, -INF], [3.0, 3.0, -INF, -INF], [5.0, 5.0, 1.0, NAN]])
    problem = Problem.of(
        [((1, 3, 4, 1), "float32")], window=(2, 2), strides=(2, 2), pads=(0, 1, 0, 0)
    )
    y, index = get("max_pool2d").run(problem, PoolConfig(), (x[None, :, :, None],), interpret=True)
    assert y.flatten().tolist()[1:3] == [-INF, 5.0]
    assert y.isnan().flatten().tolist() == [True, False, False, True]
    assert index.flatten().tolist() == [0, 0, 0, 1]


def test_cross_entropy_of_a_target_out_of_range_is_nan():
    logits = torch.randn(3, 5)
    target = torch.tensor([1, 5, -1])
    problem = Problem.of([((3, 5), "float32"), ((3,), "int64")])
    loss, lse = get("cross_entropy").run(
        problem, RowConfig(1, 16, 1), (logits, target), interpret=True
    )
    expected, expected_lse = cross_entropy_reference(logits, target.clamp(0, 4))
    assert loss.isnan().tolist() == [False, True, True]
    torch.testing.assert_close(loss[0], expected[0])
    torch.testing.assert_close(lse, expected_lse)


def test_empty_results_launch_nothing():
    problem = Problem.of([((0, 4), "float32"), ((4, 3), "float32")])
    (y,) = get("matmul").run(
        problem, GemmConfig(16, 16, 16), (torch.ones(0, 4), torch.ones(4, 3)), interpret=True
    )
    assert y.shape == (0, 3)


@pytest.mark.parametrize(
    ("name", "problem", "reason"),
    [
        ("matmul", Problem.of([((2, 3), "int32"), ((3, 2), "int32")]), "int32"),
        ("matmul", Problem.of([((2, 3), "float32"), ((4, 2), "float32")]), "do not multiply"),
        (
            "matmul",
            Problem.of([((2, 3), "float32"), ((3, 2), "float32")], precision="fast"),
            "precision 'fast'",
        ),
        (
            "batch_matmul",
            Problem.of([((65_536, 1, 1), "float32"), ((65_536, 1, 1), "float32")]),
            "a grid holds 65535",
        ),
        (
            "conv2d",
            Problem.of([((1, 4, 4, 8), "float32"), ((3, 3, 1, 8), "float32")], groups=8),
            "groups of 1",
        ),
        (
            "products",
            Problem.of([((2, 3), "float32"), ((3, 2), "float32")] * 17, instances=17),
            "at most 16 products",
        ),
        (
            "products",
            Problem.of(
                [
                    ((2, 3), "float32"),
                    ((3, 2), "float32"),
                    ((4, 3), "float32"),
                    ((3, 2), "float32"),
                ],
                instances=2,
            ),
            "several shapes",
        ),
        (
            "products",
            Problem.of([((2, 3), "float32"), ((2, 3), "float32")], transpose_b=True, sums=True),
            "columns are added up",
        ),
        (
            "gates",
            Problem.of([((2, 3), "float32"), ((3, 8), "float32")], gates=3),
            "to 3 equal blocks",
        ),
        ("softmax", Problem.of([((2, 3), "int64")]), "rows of int64"),
        (
            "max_pool2d",
            Problem.of(
                [((1, 4, 4, 1), "float32")], window=(2, 2), strides=(2, 2), pads=(2, 0, 0, 0)
            ),
            "no image element",
        ),
    ],
)
def test_a_refused_problem_has_a_reason(name, problem, reason):
    spec = get(name)
    assert reason in spec.supports(problem)
    with pytest.raises(ValueError, match=f"{name}: "):
        spec.program(problem, None)


@pytest.mark.parametrize("spec", all_specs().values(), ids=lambda spec: spec.name)
def test_work_counts_every_byte_once(spec):
    for problem in spec.cases:
        work = spec.work(problem)
        smallest = sum(result.bytes for result in spec.infer(problem))
        assert work.bytes >= smallest > 0
        assert work.flops >= 0
