"""Every template compiles for three GPU generations without a GPU, without spills."""

import dataclasses

import pytest
import torch
import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

from keras_triton.kernels import CAPABILITIES, Launch, Problem, compile_offline, get, of_capability
from keras_triton.kernels.conv import Geometry, attributes
from keras_triton.kernels.gemm import GemmConfig

BLOCK = Geometry((32, 28, 28, 64), (3, 3, 64, 128), (2, 2), (0, 1, 0, 1))
STEM = Geometry((32, 28, 28, 3), (3, 3, 3, 32), (1, 1), (1, 1, 1, 1))


def conv_problems(dtype):
    for g in (BLOCK, STEM):
        given = attributes(g)
        yield "conv2d", Problem.of([(g.x, dtype), (g.filters, dtype)], **given)
        grad = Problem.of([(g.y, dtype), (g.filters, dtype)], x_shape=g.x, **given)
        yield "conv2d_input_grad", grad
        grad = Problem.of([(g.y, dtype), (g.x, dtype)], w_shape=g.filters, **given)
        yield "conv2d_kernel_grad", grad


def product_problems(dtype):
    for m, n, k in ((2048, 2048, 1024), (100, 10, 784)):
        operands = [((m, k), dtype), ((n, k), dtype)]
        yield "matmul", Problem.of(operands, transpose_b=True)
    operands = [((8, 128, 64), dtype), ((8, 64, 128), dtype)]
    yield "batch_matmul", Problem.of(operands)
    for rows, classes, depth, transposed in ((1024, 50257, 768, False), (300, 1500, 100, True)):
        w = (classes, depth) if transposed else (depth, classes)
        operands = [((rows, depth), dtype), (w, dtype), ((classes,), dtype), ((rows,), "int64")]
        yield "linear_cross_entropy", Problem.of(operands, transpose_w=transposed)
        operands += [((rows,), "float32")] * 2
        for part in ("input", "weight"):
            name = f"linear_cross_entropy_{part}_grad"
            yield name, Problem.of(operands, transpose_w=transposed)
    yield from conv_problems(dtype)


def row_problems(dtype):
    for shape in ((512, 1000), (64, 40000)):
        matrix, vector = (shape, dtype), (shape[1:], dtype)
        per_row, labels = (shape[:1], "float32"), (shape[:1], "int64")
        yield "softmax", Problem.of([matrix])
        yield "log_softmax_grad", Problem.of([matrix, matrix])
        yield "layer_norm", Problem.of([matrix, vector, vector], eps=1e-5)
        yield "layer_norm_grad", Problem.of([matrix, matrix, per_row, per_row, vector])
        yield "cross_entropy", Problem.of([matrix, labels])
        yield "cross_entropy_grad", Problem.of([per_row, matrix, labels, per_row])


def pool_problems(dtype):
    given = {"window": (3, 3), "strides": (2, 2), "pads": (0, 1, 0, 1)}
    x, y = ((8, 28, 28, 32), dtype), ((8, 14, 14, 32), dtype)
    yield "max_pool2d", Problem.of([x], **given)
    yield "max_pool2d_grad", Problem.of([y, (y[0], "int32")], x_shape=x[0], **given)
    yield "avg_pool2d", Problem.of([x], **given)
    yield "avg_pool2d_grad", Problem.of([y], x_shape=x[0], **given)


def reports(name, problem, capability):
    """One report a launch, in the configuration first guessed for that device."""
    spec = get(name)
    config = spec.space.guess(problem, of_capability(capability))
    program = spec.program(problem, config)
    dtypes = spec.dtypes(problem) | {n: scratch.dtype for n, scratch in program.scratch.items()}
    for launch in program.launches:
        yield compile_offline(launch, dtypes, capability)


@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_products_compile_and_use_tensor_cores(dtype, capability):
    for name, problem in product_problems(dtype):
        product, *sums = reports(name, problem, capability)
        assert product.spills == 0, (name, problem)
        # Full float32 precision has no tensor core.
        assert bool(product.tensor_core) == (dtype == "bfloat16"), (name, problem)
        assert all(report.spills == 0 for report in sums)


@pytest.mark.parametrize("precision", ["tf32", "tf32x3"])
def test_float32_products_use_tensor_cores_when_asked(precision):
    shape = ((1024, 1024), "float32")
    (report,) = reports("matmul", Problem.of([shape, shape], precision=precision), 90)
    assert report.tensor_core
    assert report.spills == 0


def index_problems():
    for shape, cols, rows, dtype, fold in (
        ((64, 1024), 768, 30522, "float32", "sum"),
        ((65536,), 1, 4096, "int64", "max"),
    ):
        operands = [((*shape, cols), dtype), (shape, "int64")]
        yield "scatter", Problem.of(operands, rows=rows, fold=fold)
    yield "sort", Problem.of([((64, 5000), "float32")], descending=False)
    yield "top", Problem.of([((512, 100), "float64")], descending=True, k=5)
    for shape, dtype in (((512, 3000), "float32"), ((64, 200, 40), "float64")):
        yield "cumulate", Problem.of([(shape, dtype)], axis=1, fold="sum")


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_row_and_pool_kernels_compile(capability):
    problems = (*row_problems("bfloat16"), *pool_problems("float32"), *index_problems())
    for name, problem in problems:
        for report in reports(name, problem, capability):
            assert report.spills == 0, (name, report.name)
            assert not report.tensor_core


def test_row_kernels_compile_for_float32():
    for name, problem in row_problems("float32"):
        assert all(report.spills == 0 for report in reports(name, problem, 90)), name


@triton.jit
def crowded_kernel(x, y, N: tl.constexpr):
    at = tl.arange(0, N)
    value = tl.load(x + at)
    for step in tl.static_range(2):
        value = value * tl.sum(value, axis=0) + step
    tl.store(y + at, value)


def test_spills_are_seen():
    pointers, constexprs = {"x": "x", "y": "y"}, {"N": 2048}
    launch = Launch(crowded_kernel, pointers, constexprs, (1, 1, 1), num_warps=1, max_registers=32)
    dtypes = {"x": "float32", "y": "float32"}
    assert compile_offline(launch, dtypes, 90).spills > 0
    calm = dataclasses.replace(launch, max_registers=None)
    assert compile_offline(calm, dtypes, 90).spills == 0


class Bench:
    """Stands for a driver with a Hopper GPU which compiles but cannot launch."""

    def get_current_target(self):
        return GPUTarget("cuda", 90, 32)

    def get_current_device(self):
        return 0

    def get_current_stream(self, device):
        return 0


def test_a_launch_binds_and_specialises_as_it_does_on_a_device(monkeypatch):
    spec = get("matmul")
    problem = Problem.of([((64, 32), "bfloat16"), ((32, 64), "bfloat16")])
    (launch,) = spec.program(problem, GemmConfig(32, 32, 32)).launches
    a, b, out = (torch.zeros(shape).bfloat16() for shape in ((64, 32), (32, 64), (64, 64)))
    arguments = launch.bind({"a": a, "b": b, "out0": out})
    monkeypatch.setattr(driver, "_active", Bench())
    compiled = launch.kernel.warmup(grid=launch.grid, **arguments, **launch.options)
    report = compile_offline(launch, spec.dtypes(problem), 90)
    assert report.tensor_core
    assert compiled.asm["ptx"] == report.ptx


def test_an_unknown_capability_is_refused():
    launch = Launch(crowded_kernel, {"x": "x", "y": "y"}, {"N": 32}, (1, 1, 1))
    with pytest.raises(ValueError, match="compute capability 70; allowed"):
        compile_offline(launch, {"x": "float32", "y": "float32"}, 70)
