"""Products that share a launch: projections of one tensor, their gradients, and sums beside them."""

import pytest
import torch
from golden_files import golden_input

from keras_triton.compile import compile_module
from keras_triton.lowering import emit_triton, interpret
from keras_triton.lowering.errors import RegionError
from keras_triton.lowering.mlir import TensorType, functions, parse
from keras_triton.lowering.passes.group_instances import GroupInstances
from keras_triton.lowering.passes.join_products import JoinProducts
from keras_triton.lowering.pipeline import lower
from keras_triton.lowering.products import read_products
from keras_triton.lowering.region import kernel_kind
from keras_triton.targets.choice import choose

CPU = torch.device("cpu")
FORWARD = "{transpose_a = false, transpose_b = false}"
BY_INPUT = "{transpose_a = false, transpose_b = true}"
BY_KERNEL = "{transpose_a = true, transpose_b = false}"
# A few roundings of each dtype; sums of 42 terms of size 1 are accumulated in float32.
TOLERANCE = {"f32": 1e-5, "bf16": 3e-2, "f16": 4e-3}


def projections(dtype):
    """x W + b for three W and b, in heads."""
    x, w, y = (f"tensor<{shape}x{dtype}>" for shape in ("42x19", "19x15", "42x15"))
    heads, bias = f"tensor<2x21x3x5x{dtype}>", f"tensor<3x5x{dtype}>"
    lines = []
    for i in range(3):
        lines.append(
            f'%p{i} = "keras.matmul"(%x, %w{i}) {FORWARD} : ({x}, {w}) -> {y} loc("mha/{i}")'
        )
        lines.append(
            f'%h{i} = "keras.reshape"(%p{i}) {{shape = array<i64: 2, 21, 3, 5>}} : ({y}) -> {heads}'
        )
        lines.append(f'%y{i} = "keras.add"(%h{i}, %b{i}) : ({heads}, {bias}) -> {heads}')
    signature = ", ".join([f"%x: {x}", *(f"%w{i}: {w}, %b{i}: {bias}" for i in range(3))])
    return _module(signature, lines, [(f"%y{i}", heads) for i in range(3)])


def gradients(dtype):
    """Of the projections by x, the W and the b; the latter in float32, as an optimizer takes them."""
    x, w, g = (f"tensor<{shape}x{dtype}>" for shape in ("42x19", "19x15", "42x15"))
    given = f"tensor<2x21x3x5x{dtype}>"
    lines, returned = [], []
    for i in range(3):
        lines += [
            f'%s{i} = "keras.sum"(%h{i}) {{axes = array<i64: 0, 1>}} : ({given}) -> tensor<3x5x{dtype}>',
            f'%d{i} = "keras.cast"(%s{i}) {{dtype = "f32"}} : (tensor<3x5x{dtype}>) -> tensor<3x5xf32>',
            f'%g{i} = "keras.reshape"(%h{i}) {{shape = array<i64: 42, 15>}} : ({given}) -> {g}',
            f'%k{i} = "keras.matmul"(%x, %g{i}) {BY_KERNEL} : ({x}, {g}) -> {w} loc("mha/{i}/grad")',
            f'%c{i} = "keras.cast"(%k{i}) {{dtype = "f32"}} : ({w}) -> tensor<19x15xf32>',
            f'%r{i} = "keras.matmul"(%g{i}, %w{i}) {BY_INPUT} : ({g}, {w}) -> {x}',
        ]
        returned += [(f"%d{i}", "tensor<3x5xf32>"), (f"%c{i}", "tensor<19x15xf32>")]
    lines += [
        f'%t = "keras.add"(%r0, %r1) : ({x}, {x}) -> {x}',
        f'%u = "keras.add"(%t, %r2) : ({x}, {x}) -> {x}',
        f'%v = "keras.tanh"(%u) : ({x}) -> {x}',
    ]
    signature = ", ".join([f"%x: {x}", *(f"%w{i}: {w}, %h{i}: {given}" for i in range(3))])
    return _module(signature, lines, [("%v", x), *returned])


def _module(signature, lines, returned):
    names, types = (", ".join(items) for items in zip(*returned, strict=True))
    body = "\n".join(lines)
    return parse(
        f'module attributes {{keras.stage = "keras"}} {{ func.func @main({signature}) -> ({types}) {{\n'
        f"{body}\nreturn {names} : {types} }} }}"
    )


@pytest.fixture
def kernels():
    """The kernels of a module's regions, for as long as the test runs."""
    alive = []

    def lowered(module, **options):
        alive.append(lower(module, "regions", **options))
        return [f for f in functions(alive[-1]).values() if kernel_kind(f)]

    return lowered


def inputs_of(module):
    generator = torch.Generator().manual_seed(0)
    types = functions(module)["main"].type.inputs
    kinds = [TensorType.of(kind) for kind in types]
    return [torch.randn(k.shape, generator=generator).to(k.torch_dtype) for k in kinds]


@pytest.mark.parametrize("target", ["interpret", "cpu"])
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("make", [projections, gradients])
def test_values_are_those_of_float64(make, dtype, target):
    module = make(dtype)
    inputs = inputs_of(module)
    compiled = compile_module(module, choose(target, CPU), CPU, name="products")
    expected = interpret.run(module, inputs, exact=True)
    for got, want in zip(compiled(inputs), expected, strict=True):
        scale = max(1.0, want.abs().max().item())
        torch.testing.assert_close(
            got.double(), want.double(), rtol=0, atol=TOLERANCE[dtype] * scale
        )


def test_projections_of_one_tensor_are_one_launch(kernels):
    (kernel,) = kernels(projections("bf16"))
    instances = read_products(kernel)
    assert [len(instance.products) for instance in instances] == [1, 1, 1]
    assert all(instance.sums is None for instance in instances)
    assert len(kernel.type.inputs) == 7, "x is one argument"
    generated = emit_triton.emit(kernel)
    assert generated.template.template == "products"
    assert (generated.template.outputs, generated.template.extras) == (1, 1)


def test_gradients_are_one_launch_by_the_input_and_one_by_kernels_and_biases(kernels):
    made = [read_products(kernel) for kernel in kernels(gradients("bf16"))]
    shapes = {(len(part), len(part[0].products), part[0].sums is not None) for part in made}
    assert shapes == {(1, 3, False), (3, 1, True)}


def test_where_products_take_no_epilogue_each_is_a_launch(kernels):
    kinds = [kernel_kind(f) for f in kernels(gradients("f32"), epilogues=False)]
    assert kinds.count("matmul") == 6
    assert "products" not in kinds


CHAINED = """module attributes {{keras.stage = "keras"}} {{
  func.func @main(%a: tensor<4x4xf32>, %b: tensor<4x4xf32>) -> {types} {{
    %0 = "keras.matmul"(%a, %b) {{transpose_a = false, transpose_b = false}}
        : (tensor<4x4xf32>, tensor<4x4xf32>) -> tensor<4x4xf32>
    %1 = "keras.matmul"(%b, %a) {{transpose_a = false, transpose_b = {transposed}}}
        : (tensor<4x4xf32>, tensor<4x4xf32>) -> tensor<4x4xf32>
    %2 = "keras.{op}"(%0, %1) : (tensor<4x4xf32>, tensor<4x4xf32>) -> tensor<4x4xf32>
    return {returned} }} }}"""
ONE, TWO = "tensor<4x4xf32>", "tensor<4x4xf32>, tensor<4x4xf32>"


@pytest.mark.parametrize(
    ("op", "transposed", "returned", "types"),
    [
        ("mul", "false", f"%2 : {ONE}", ONE),
        ("sub", "false", f"%2 : {ONE}", ONE),
        ("add", "true", f"%2 : {ONE}", ONE),
        ("add", "false", f"%2, %0 : {TWO}", f"({TWO})"),
    ],
    ids=["multiplied", "subtracted", "of other strides", "used otherwise too"],
)
def test_what_is_no_sum_of_like_products_stays_two_kernels(
    kernels, op, transposed, returned, types
):
    module = parse(CHAINED.format(op=op, transposed=transposed, returned=returned, types=types))
    found = list(kernels(module))
    assert all(len(read_products(f)[0].products) == 1 for f in found if kernel_kind(f) != "loop")
    inputs = inputs_of(module)
    compiled = compile_module(module, choose("interpret", CPU), CPU, name="products")
    for got, want in zip(compiled(inputs), interpret.run(module, inputs), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)


def test_a_sum_of_two_products_is_one_accumulator(kernels):
    module = parse(CHAINED.format(op="add", transposed="false", returned=f"%2 : {ONE}", types=ONE))
    (kernel,) = kernels(module)
    (instance,) = read_products(kernel)
    assert len(instance.products) == 2
    source = emit_triton.emit(kernel).source
    assert "nothing = tl.full(acc.shape, 0.0, tl.float32)" in source


def test_products_of_unrelated_tensors_stay_apart(kernels):
    """Layers of one size: a common launch would keep the operands of all until the last is known."""
    kind = "tensor<4x4xf32>"
    lines = [
        f'%{i} = "keras.matmul"(%{"ac"[i]}, %{"bd"[i]}) {FORWARD} : ({kind}, {kind}) -> {kind}'
        for i in range(2)
    ]
    signature = ", ".join(f"%{name}: {kind}" for name in "abcd")
    module = _module(signature, lines, [("%0", kind), ("%1", kind)])
    assert [kernel_kind(f) for f in kernels(module)] == ["matmul", "matmul"]


def test_sums_of_columns_that_a_product_waits_for_stay_apart(kernels):
    """The product takes what is computed from the sums."""
    x, y = "tensor<6x4xf32>", "tensor<4xf32>"
    lines = [
        f'%s = "keras.sum"(%g) {{axes = array<i64: 0>}} : ({x}) -> {y}',
        f'%t = "keras.mul"(%x, %s) : ({x}, {y}) -> {x}',
        f'%w = "keras.matmul"(%t, %g) {BY_KERNEL} : ({x}, {x}) -> tensor<4x4xf32>',
    ]
    module = _module(f"%x: {x}, %g: {x}", lines, [("%w", "tensor<4x4xf32>"), ("%s", y)])
    assert "products" not in map(kernel_kind, kernels(module))


def test_a_kernel_of_products_that_holds_something_else_is_refused():
    module = parse(golden_input("join-products"))
    kernel = next(f for f in functions(module).values() if kernel_kind(f) == "loop")
    with pytest.raises(RegionError, match="no product's right operand"):
        read_products(kernel)


@pytest.mark.parametrize("step", [JoinProducts(products=False), GroupInstances(products=False)])
def test_passes_leave_products_alone_when_asked_to(step):
    module = parse(golden_input("join-products"))
    after = functions(step.run(module))
    assert "products" not in {kernel_kind(f) for f in after.values()}
