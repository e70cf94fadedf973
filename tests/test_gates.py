"""Products whose columns are read in equal blocks at once: the gates of recurrent cells."""

import keras
import numpy as np
import pytest
import torch
from keras import layers

from keras_triton.compile import compile_module
from keras_triton.lowering import emit_triton, interpret
from keras_triton.lowering.mlir import TensorType, functions, parse
from keras_triton.lowering.pipeline import lower
from keras_triton.lowering.region import kernel_kind
from keras_triton.targets.choice import choose

CPU = torch.device("cpu")
# A few roundings of each dtype.
TOLERANCE = {"f32": 1e-5, "bf16": 3e-2, "f16": 4e-3}
FORWARD = "{transpose_a = false, transpose_b = false}"


def cell(dtype, starts=(0, 5, 10), keep=False, transposed=False, width=15):
    """tanh(z0) * sigmoid(z1) + x * z2 for blocks z of h W + y, of 7 rows and 5 units."""
    h, z, unit = (f"tensor<7x{n}x{dtype}>" for n in (11, width, 5))
    w = f"tensor<{width}x11x{dtype}>" if transposed else f"tensor<11x{width}x{dtype}>"
    attributes = FORWARD.replace("b = false", "b = true") if transposed else FORWARD
    lines = [f'%m = "keras.matmul"(%h, %w) {attributes} : ({h}, {w}) -> {z} loc("model/cell")']
    for i, start in enumerate(starts):
        cut = f"starts = array<i64: 0, {start}>, limits = array<i64: 7, {start + 5}>"
        lines += [
            f'%{v}{i} = "keras.slice"(%{of}) {{{cut}, strides = array<i64: 1, 1>}} : ({z}) -> {unit}'
            for v, of in (("a", "m"), ("b", "y"))
        ]
        lines.append(f'%z{i} = "keras.add"(%a{i}, %b{i}) : ({unit}, {unit}) -> {unit}')
    two = f"({unit}, {unit}) -> {unit}"
    lines += [
        f'%0 = "keras.tanh"(%z0) : ({unit}) -> {unit}',
        f'%1 = "keras.sigmoid"(%z1) : ({unit}) -> {unit}',
        f'%2 = "keras.mul"(%0, %1) : {two}',
        f'%3 = "keras.mul"(%x, %z2) : {two}',
        f'%4 = "keras.add"(%2, %3) : {two}',
    ]
    names, types = (["%4", "%m"], [unit, z]) if keep else (["%4"], [unit])
    body = "\n".join([*lines, f"return {', '.join(names)} : {', '.join(types)}"])
    return parse(
        f'module attributes {{keras.stage = "keras"}} {{ func.func @main(%h: {h}, %w: {w}, %y: {z}, '
        f"%x: {unit}) -> ({', '.join(types)}) {{ {body} }} }}"
    )


def kinds(module, **options):
    regions = lower(module, "regions", **options)
    return sorted(kernel_kind(f) for f in functions(regions).values() if kernel_kind(f))


def inputs_of(module):
    generator = torch.Generator().manual_seed(0)
    types = map(TensorType.of, functions(module)["main"].type.inputs)
    return [torch.randn(k.shape, generator=generator).to(k.torch_dtype) for k in types]


@pytest.mark.parametrize("target", ["interpret", "cpu"])
@pytest.mark.parametrize("keep", [False, True], ids=["", "the product is wanted too"])
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_values_are_those_of_float64(dtype, keep, target):
    module = cell(dtype, keep=keep)
    assert kinds(module) == ["gates"]
    inputs = inputs_of(module)
    compiled = compile_module(module, choose(target, CPU), CPU, name="gates")
    expected = interpret.run(module, inputs, exact=True)
    for got, want in zip(compiled(inputs), expected, strict=True):
        scale = max(1.0, want.abs().max().item())
        torch.testing.assert_close(
            got.double(), want.double(), rtol=0, atol=TOLERANCE[dtype] * scale
        )


def test_the_epilogue_sees_a_tile_of_each_block():
    regions = lower(cell("bf16"), "regions")
    (kernel,) = (f for f in functions(regions).values() if kernel_kind(f))
    generated = emit_triton.emit(kernel)
    assert generated.template.template == "gates"
    assert dict(generated.template.problem.attributes) == {"gates": 3, "keep": False}
    assert all(f"acc[{i}]" in generated.source for i in range(3))


@pytest.mark.parametrize(
    "options",
    [{"starts": (0, 5, 8)}, {"transposed": True}, {"width": 16}, {"width": 25}],
    ids=["overlapping", "of a transpose", "no equal blocks", "too many"],
)
def test_other_windows_of_products_are_read_by_a_kernel_of_their_own(options):
    module = cell("f32", **options)
    assert kinds(module) == ["loop", "matmul"]
    inputs = inputs_of(module)
    compiled = compile_module(module, choose("interpret", CPU), CPU, name="gates")
    for got, want in zip(compiled(inputs), interpret.run(module, inputs), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)


def test_where_products_take_no_epilogue_the_gates_are_a_kernel_of_their_own():
    assert kinds(cell("f32"), epilogues=False) == ["loop", "matmul"]


@pytest.mark.parametrize("layer", ["GRU", "LSTM"])
def test_recurrent_layers_train_in_the_interpreter_as_op_by_op(layer, forced):
    forced("interpret")

    def trained(**options):
        keras.utils.set_random_seed(2)
        inputs = keras.Input((5, 3))
        model = keras.Model(inputs, layers.Dense(1)(getattr(layers, layer)(7)(inputs)))
        model.compile("sgd", "mse", **options)
        x = np.random.RandomState(0).randn(4, 5, 3).astype("float32")
        losses = [float(model.train_on_batch(x, x[:, 0, :1])) for _ in range(2)]
        return losses, model.predict(x, verbose=0)

    losses, predicted = trained()
    eager_losses, eager = trained(run_eagerly=True)
    # Sums in another order.
    np.testing.assert_allclose(losses, eager_losses, rtol=1e-5)
    np.testing.assert_allclose(predicted, eager, rtol=1e-4, atol=1e-5)
