"""Values of types that only torch computes with: uint8, float8 and complex numbers in a program."""

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from keras_triton.compile import compile_module
from keras_triton.lowering import mlir
from keras_triton.lowering.errors import DialectError
from keras_triton.lowering.importer import ImportInput, import_graph
from keras_triton.lowering.interpret import run
from keras_triton.lowering.mlir import TensorType
from keras_triton.targets.choice import choose

CPU = torch.device("cpu")
X = torch.linspace(-3.0, 3.0, 12).reshape(3, 4)
FUNCTIONS = {
    "uint8": lambda x: (((x * 40).to(torch.uint8) + 200).float() + x).sin(),
    "float8": lambda x: (x * 2).to(torch.float8_e4m3fn).to(torch.float32) - x,
    "wide float8": lambda x: (x * 2).to(torch.float8_e5m2).to(torch.float32) - x,
    "complex": lambda x: torch.fft.fft(torch.complex(x, x) * 1j).real + x,
}


def imported(function):
    graph = make_fx(lambda x: [function(x)], tracing_mode="fake")(X)
    graph.graph.eliminate_dead_code()
    return import_graph(graph, [ImportInput("data/x")], {})


@pytest.mark.parametrize("name", FUNCTIONS)
def test_torch_computes_with_them_and_the_program_with_the_rest(name):
    module = imported(FUNCTIONS[name])
    assert mlir.text(mlir.parse(mlir.text(module))) == mlir.text(module)
    torch.testing.assert_close(run(module, [X])[0], FUNCTIONS[name](X), rtol=1e-5, atol=1e-5)
    compiled = compile_module(module, choose("cpu", CPU), CPU, name=name)
    torch.testing.assert_close(compiled([X])[0], FUNCTIONS[name](X), rtol=1e-5, atol=1e-5)
    assert any(row.fallback.endswith(f" on {_dtype(name)}") for row in compiled.report.fallbacks)
    assert any(row.how == "native loop" for row in compiled.report.rows)


def _dtype(name):
    return {"float8": "float8_e4m3fn", "wide float8": "float8_e5m2", "complex": "complex64"}.get(
        name, name
    )


@pytest.mark.parametrize(
    "dtype",
    [torch.uint8, torch.float8_e4m3fn, torch.float8_e5m2, torch.complex64, torch.complex128],
)
def test_types_are_read_back_from_their_spelling(dtype):
    kind = TensorType.of_torch(torch.empty(2, 3, dtype=dtype))
    assert (kind.torch_dtype, kind.is_opaque, kind.is_float) == (dtype, True, False)
    assert kind.nbytes == 6 * dtype.itemsize
    with mlir.context():
        assert TensorType.of(kind.to_mlir()) == kind


def test_a_type_that_has_no_name_is_refused_with_all_that_have():
    with pytest.raises(DialectError, match=r"torch\.uint16 has no type .* f64, .*, complex<f64>"):
        TensorType.of_torch(torch.empty(2, dtype=torch.uint16))
