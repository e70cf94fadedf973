"""How precisely products are computed: what is asked for, what kernels do, and what keeps programs apart."""

import keras
import numpy as np
import pytest
import torch

import keras_triton
from keras_triton.kernels import compile_offline
from keras_triton.kernels.device import H100, INTERPRETER
from keras_triton.kernels.gemm import PRECISIONS
from keras_triton.lowering import emit_triton
from keras_triton.lowering.errors import LoweringError
from keras_triton.lowering.mlir import functions, parse
from keras_triton.lowering.passes.set_precision import PRODUCTS, SetPrecision
from keras_triton.lowering.pipeline import lower
from keras_triton.lowering.region import kernel_kind
from keras_triton.signature import sign
from keras_triton.targets.base import asked_by
from keras_triton.targets.triton import TritonTarget


@pytest.fixture(params=["highest", "high", "medium"])
def asked(request):
    """What a user asks torch for."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(request.param)
    yield request.param
    torch.set_float32_matmul_precision(before)


def product(dtype, precision="ieee"):
    """The one kernel of a product of [64, 4096] by [4096, 64], with an activation behind it."""
    module = parse(f"""module attributes {{keras.stage = "keras"}} {{
      func.func @main(%a: tensor<64x4096x{dtype}>, %b: tensor<4096x64x{dtype}>) -> tensor<64x64x{dtype}> {{
        %0 = "keras.matmul"(%a, %b) {{transpose_a = false, transpose_b = false}}
          : (tensor<64x4096x{dtype}>, tensor<4096x64x{dtype}>) -> tensor<64x64x{dtype}>
        %1 = "keras.relu"(%0) : (tensor<64x64x{dtype}>) -> tensor<64x64x{dtype}>
        return %1 : tensor<64x64x{dtype}> }} }}""")
    regions = lower(module, "regions", rows=8192, precision=precision)
    (kernel,) = [f for f in functions(regions).values() if kernel_kind(f)]
    return regions, kernel


def report(dtype, precision):
    _module, kernel = product(dtype, precision)
    loaded = emit_triton.load(emit_triton.emit(kernel, None, H100))
    return compile_offline(loaded.program.launches[0], loaded.dtypes(), 90)


def test_the_policy_follows_torch(asked):
    assert asked_by(TritonTarget)["precision"] == ("ieee" if asked == "highest" else "tf32")


def test_full_precision_is_the_default():
    assert torch.get_float32_matmul_precision() == "highest"
    assert asked_by(TritonTarget)["precision"] == "ieee"


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_compiled_product_is_as_precise_as_asked(precision):
    made = report("f32", precision)
    # TTIR names the precision of a dot unless it is that of the hardware without tensor cores.
    assert ("inputPrecision = " + precision in made.ttir) == (precision != "ieee")
    assert bool(made.tensor_core) == (precision != "ieee")
    assert ("tf32" in made.ptx) == (precision != "ieee")


@pytest.mark.parametrize("dtype", ["bf16", "f16"])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_half_precision_is_summed_in_float32(dtype, precision):
    made = report(dtype, precision)
    (dot,) = [line for line in made.ttir.splitlines() if "tt.dot" in line]
    assert dot.split("->")[1].split("loc")[0].strip().endswith("xf32>")
    assert "tf32" not in made.ttir


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_ones_are_counted_beyond_what_half_precision_counts(dtype):
    """In bfloat16, 256 + 1 is 256: a sum of 4096 ones shows what it is kept in."""
    kind = {torch.bfloat16: "bf16", torch.float16: "f16"}[dtype]
    _module, kernel = product(kind)
    loaded = emit_triton.load(emit_triton.emit(kernel, None, INTERPRETER))
    out = torch.empty(64, 64, dtype=dtype)
    loaded.run(
        [torch.ones(64, 4096, dtype=dtype), torch.ones(4096, 64, dtype=dtype), out], interpret=True
    )
    assert torch.equal(out, torch.full_like(out, 4096))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_interpreter_takes_every_precision(precision):
    """It multiplies float32 in full, whatever is asked for."""
    _module, kernel = product("f32", precision)
    loaded = emit_triton.load(emit_triton.emit(kernel, None, INTERPRETER))
    draw = torch.Generator().manual_seed(0)
    a, b = torch.randn(64, 4096, generator=draw), torch.randn(4096, 64, generator=draw)
    out = torch.empty(64, 64)
    loaded.run([a, b, out], interpret=True)
    wanted = (a.double() @ b.double()).relu()
    bound = 4096 * 2**-24 * (a.double().abs() @ b.double().abs())
    assert ((out - wanted).abs() <= bound).all()


def test_another_precision_is_another_program(asked):
    here = sign(((np.zeros((2, 2), "float32"),), {}), static_objects=True, differentiable=False)
    torch.set_float32_matmul_precision("highest" if asked != "highest" else "high")
    there = sign(((np.zeros((2, 2), "float32"),), {}), static_objects=True, differentiable=False)
    assert here.key != there.key


def test_explain_names_it(asked):
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3)])
    found = keras_triton.explain(model, np.ones((4, 6), "float32"))
    assert found.float32_products == asked
    assert f"float32 products: {asked}" in found.summary()


def test_only_products_of_float32_are_marked():
    for kind, marked in (("f32", True), ("bf16", False)):
        module, _kernel = product(kind, "tf32")
        assert ("keras.precision" in str(module)) == marked


def test_every_product_template_has_a_precision():
    from keras_triton.kernels import spec

    takes = {
        f"keras.{n}"
        for n, s in spec.all_specs().items()
        for k in s.kernels
        if "PRECISION" in k.arg_names
    }
    # The other two are made of products that are marked.
    assert takes == set(PRODUCTS) | {"keras.products", "keras.gates"}


def test_an_unknown_precision_is_refused():
    module, _kernel = product("f32")
    with pytest.raises(LoweringError, match="precision 'half'; allowed: ieee, tf32, tf32x3"):
        SetPrecision("half").run(module)
