"""Epilogues: several outputs and extra operands, interpreted and compiled from one function."""

import pytest
import torch
import triton
import triton.language as tl

from keras_triton.kernels import CAPABILITIES, Epilogue, Problem, compile_offline, execute, get
from keras_triton.kernels.gemm import GemmConfig
from keras_triton.kernels.rows import RowConfig


@triton.jit
def halved(x):
    return x * 0.5


@triton.jit
def bias_relu(acc, rows, cols, offset, mask, outs, extras, part=0):
    y = acc + tl.load(extras[0] + cols, mask=cols < 17, other=0.0).to(acc.dtype)
    y = y + tl.load(extras[1] + rows, mask=mask, other=0.0).to(acc.dtype)
    tl.store(outs[0] + offset, y.to(outs[0].dtype.element_ty), mask=mask)
    tl.store(outs[1] + offset, halved(tl.maximum(y, 0.0)).to(outs[1].dtype.element_ty), mask=mask)


EPILOGUE = Epilogue(bias_relu, outputs=2, extras=2)
DTYPES = {"extra0": "float32", "extra1": "float32", "out1": "bfloat16"}


def run(spec, problem, config, operands):
    """(both outputs, what they should be) of the template under the epilogue."""
    (described, *others) = spec.infer(problem)
    rows, cols = described.size // described.shape[-1], described.shape[-1]
    bias, column = torch.randn(cols), torch.randn(rows)
    buffers = dict(zip(spec.names(problem), operands, strict=True))
    buffers |= {"extra0": bias, "extra1": column}
    buffers |= {"out0": torch.empty(rows, cols), "out1": torch.empty(rows, cols).bfloat16()}
    for name, other in zip(spec.results[1:], others, strict=True):
        buffers[name] = torch.empty(other.shape)
    execute(spec.program(problem, config, EPILOGUE), buffers, interpret=True)
    plain = spec.reference(*operands, **problem.attrs)[0].reshape(rows, cols)
    expected = plain + bias + column[:, None]
    return (buffers["out0"], buffers["out1"]), (expected, (expected.relu() / 2).bfloat16())


@pytest.mark.parametrize("split_k", [1, 2])
def test_a_product_with_two_outputs_and_two_extra_operands(split_k):
    problem = Problem.of([((21, 40), "float32"), ((40, 17), "float32")])
    config = GemmConfig(16, 32, 16, 4, split_k, 4, 2)
    operands = (torch.randn(21, 40), torch.randn(40, 17))
    results, expected = run(get("matmul"), problem, config, operands)
    torch.testing.assert_close(results, expected)


def test_a_convolution_sees_flat_positions_and_filters():
    problem = Problem.of([((2, 5, 4, 3), "float32"), ((2, 2, 3, 17), "float32")], pads=(0, 1, 0, 1))
    operands = (torch.randn(2, 5, 4, 3), torch.randn(2, 2, 3, 17))
    results, expected = run(get("conv2d"), problem, GemmConfig(16, 32, 16), operands)
    torch.testing.assert_close(results, expected)


@pytest.mark.parametrize("block_cols", [16, 32])
@pytest.mark.parametrize("name", ["softmax", "layer_norm"])
def test_row_templates_whole_and_in_chunks(name, block_cols):
    eps = {"eps": 1e-3} if name == "layer_norm" else {}
    problem = Problem.of([((5, 17), "float32")], **eps)
    config = RowConfig(1, block_cols, 1)
    results, expected = run(get(name), problem, config, (torch.randn(5, 17),))
    # The half-precision output may round to the neighbour where the sums differ in the last bit.
    torch.testing.assert_close(results[0], expected[0])
    torch.testing.assert_close(results[1], expected[1])


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_the_same_epilogue_compiles(capability):
    problem = Problem.of([((64, 64), "bfloat16"), ((64, 17), "bfloat16")])
    spec = get("matmul")
    (launch,) = spec.program(problem, GemmConfig(32, 32, 32), EPILOGUE).launches
    report = compile_offline(launch, spec.dtypes(problem) | DTYPES, capability)
    assert report.name == "matmul_kernel"
    assert report.tensor_core
    assert report.spills == 0
    assert report.ttir.count("tt.store") == 2


def test_pools_take_no_epilogue():
    spec = get("max_pool2d")
    with pytest.raises(ValueError, match="max_pool2d: this template takes no epilogue"):
        spec.program(spec.cases[0], None, EPILOGUE)
