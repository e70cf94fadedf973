"""What stands around a product in its kernel: operands made as they are loaded, sums of columns."""

import pytest
import test_emit_llvm
import torch
import triton_cases
from golden_files import compare, golden_input
from triton_cases import Generic, region_text

from keras_triton.compile import compile_module
from keras_triton.lowering import interpret
from keras_triton.lowering.mlir import functions, parse
from keras_triton.lowering.pipeline import lower, pipeline
from keras_triton.lowering.region import kernel_kind
from keras_triton.targets.choice import choose

CPU = torch.device("cpu")
CONV = "pads = array<i64: {pads}>, strides = array<i64: 1, 1>, dilations = array<i64: 1, 1>, groups = 1 : i64"
NO_PADS, SAME = CONV.format(pads="0, 0, 0, 0"), CONV.format(pads="1, 1, 1, 1")
# A few roundings of the operands' type, in units of the largest result.
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 3e-2, torch.float16: 4e-3}


def kernels(text, **options):
    """Kernel function -> what its "keras.kernel" is, of a module lowered as for a GPU."""
    regions = lower(parse(text), "regions", rows=8192, **options)
    return {
        name: function for name, function in functions(regions).items() if kernel_kind(function)
    }


def kinds(text, **options):
    return [kernel_kind(function) for function in kernels(text, **options).values()]


def reasons(text):
    found = kernels(text).values()
    return " ".join(
        str(f.attributes["keras.reason"]) for f in found if "keras.reason" in f.attributes
    )


def normalized(dtype="f32", activation="relu", images="2x5x4x16", filters="3x3x16x24"):
    """A convolution, its batch statistics, what they make of its result, a convolution of that, and the
    gradient of its filters.
    """
    n, h, w, c = images.split("x")
    image, weight = f"tensor<{images}x{dtype}>", f"tensor<{filters}x{dtype}>"
    made = f"tensor<{n}x{h}x{w}x24x{dtype}>"
    wide, row, column = f"tensor<{images}xf32>", f"tensor<{c}xf32>", f"tensor<1x1x1x{c}xf32>"
    first = f"tensor<1x1x{c}x{c}x{dtype}>"
    cast = "keras.cast"
    return f"""module attributes {{keras.stage = "keras"}} {{
func.func @main(%x: {image} {{keras.name = "x"}}, %v: {first} {{keras.name = "v"}},
                %w: {weight} {{keras.name = "w"}}, %g: {made} {{keras.name = "g"}})
    -> ({made}, {weight}, {row}) {{
  %y = "keras.conv2d"(%x, %v) {{{NO_PADS}}} : ({image}, {first}) -> {image}
  %a = "{cast}"(%y) {{dtype = "f32"}} : ({image}) -> {wide}
  %s = "keras.sum"(%a) {{axes = array<i64: 0, 1, 2>}} : ({wide}) -> {row}
  %n = "keras.full"() {{dtype = "f32", shape = array<i64>, value = 4.0e+01 : f64}} : () -> tensor<f32>
  %m = "keras.div"(%s, %n) : ({row}, tensor<f32>) -> {row}
  %q = "keras.mul"(%a, %a) : ({wide}, {wide}) -> {wide}
  %t = "keras.sum"(%q) {{axes = array<i64: 0, 1, 2>}} : ({wide}) -> {row}
  %u = "keras.div"(%t, %n) : ({row}, tensor<f32>) -> {row}
  %one = "keras.full"() {{dtype = "f32", shape = array<i64>, value = 1.0 : f64}} : () -> tensor<f32>
  %e = "keras.add"(%u, %one) : ({row}, tensor<f32>) -> {row}
  %r = "keras.rsqrt"(%e) : ({row}) -> {row}
  %mc = "keras.reshape"(%m) {{shape = array<i64: 1, 1, 1, {c}>}} : ({row}) -> {column}
  %rc = "keras.reshape"(%r) {{shape = array<i64: 1, 1, 1, {c}>}} : ({row}) -> {column}
  %d = "keras.sub"(%a, %mc) : ({wide}, {column}) -> {wide}
  %p = "keras.mul"(%d, %rc) : ({wide}, {column}) -> {wide}
  %b = "{cast}"(%p) {{dtype = "{dtype}"}} : ({wide}) -> {image}
  %z = "keras.{activation}"(%b) : ({image}) -> {image}
  %out = "keras.conv2d"(%z, %w) {{{SAME}}} : ({image}, {weight}) -> {made}
  %dw = "keras.conv2d_kernel_grad"(%g, %z) {{{SAME}, shape = array<i64: {filters.replace("x", ", ")}>}}
      : ({made}, {image}) -> {weight}
  return %out, %dw, %m : {made}, {weight}, {row}
}}
}}"""


def test_golden(request):
    module = parse(golden_input("normalized"))
    for step in pipeline(rows=8192):
        module = step.run(module)
        if step.name == "fuse-regions":
            break
    compare("normalized_fuse-regions", str(module), request.config.getoption("--update-golden"))


def test_normalization_between_convolutions_needs_no_kernel():
    assert kinds(normalized()) == ["conv2d", "conv2d", "conv2d_kernel_grad"]
    assert kinds(normalized(), epilogues=False) == [
        "conv2d", "loop", "loop", "conv2d", "conv2d_kernel_grad",
    ]  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("images", ["2x5x4x16", "3x7x1x17"])
def test_values_stay(dtype, images):
    name = {torch.float32: "f32", torch.bfloat16: "bf16", torch.float16: "f16"}[dtype]
    filters = f"3x3x{images.split('x')[-1]}x24"
    module = parse(normalized(name, images=images, filters=filters))
    generator = torch.Generator().manual_seed(0)
    arguments = functions(module)["main"].regions[0].blocks[0].arguments
    inputs = [
        torch.randn(argument.type.shape, generator=generator).to(dtype) for argument in arguments
    ]
    wanted, seen = interpret.run(module, inputs), []
    lower(module, on_stage=seen.append, rows=8192)
    for stage in seen[:-1]:
        for made, want in zip(interpret.run(stage, inputs), wanted, strict=True):
            torch.testing.assert_close(made.double(), want.double(), rtol=1e-6, atol=1e-4)
    compiled = compile_module(module, choose("interpret", CPU), CPU, name="normalized")
    assert {row.fallback for row in compiled.report.rows} == {""}
    for made, want in zip(compiled(inputs), wanted, strict=True):
        scale = want.abs().max().item()
        torch.testing.assert_close(
            made.double(), want.double(), rtol=0, atol=TOLERANCE[dtype] * scale
        )


def test_what_is_too_dear_for_every_tile_is_stored():
    assert kinds(normalized(activation="tanh")) == [
        "conv2d", "loop", "conv2d", "conv2d_kernel_grad",
    ]  # fmt: skip
    assert "operations an element, 9 times, do not hide behind" in reasons(
        normalized(activation="tanh")
    )


def product(more, results):
    """relu(a + b) times a matrix, and what reads it beside."""
    return f"""module attributes {{keras.stage = "keras"}} {{
func.func @main(%a: tensor<64x32xf32> {{keras.name = "a"}}, %b: tensor<64x32xf32> {{keras.name = "b"}},
                %w: tensor<32x48xf32> {{keras.name = "w"}}) -> ({results}) {{
  %s = "keras.add"(%a, %b) : (tensor<64x32xf32>, tensor<64x32xf32>) -> tensor<64x32xf32>
  %h = "keras.relu"(%s) : (tensor<64x32xf32>) -> tensor<64x32xf32>
  %y = "keras.matmul"(%h, %w) {{transpose_a = false, transpose_b = false}}
      : (tensor<64x32xf32>, tensor<32x48xf32>) -> tensor<64x48xf32>
{more}
}}
}}"""


def test_an_operand_is_stored_where_that_moves_less():
    """By the first product that makes it."""
    once = product("  return %y : tensor<64x48xf32>", "tensor<64x48xf32>")
    assert kinds(once) == ["matmul"]
    twice = product(
        """  %z = "keras.matmul"(%h, %w) {transpose_a = false, transpose_b = false, precision = "tf32"}
      : (tensor<64x32xf32>, tensor<32x48xf32>) -> tensor<64x48xf32>
  %v = "keras.matmul"(%h, %y) {transpose_a = true, transpose_b = false}
      : (tensor<64x32xf32>, tensor<64x48xf32>) -> tensor<32x48xf32>
  %u = "keras.matmul"(%h, %z) {transpose_a = true, transpose_b = false}
      : (tensor<64x32xf32>, tensor<64x48xf32>) -> tensor<32x48xf32>
  return %y, %v, %u : tensor<64x48xf32>, tensor<32x48xf32>, tensor<32x48xf32>""",
        "tensor<64x48xf32>, tensor<32x48xf32>, tensor<32x48xf32>",
    )
    found = kernels(twice)
    kinds_found = [kernel_kind(function) for function in found.values()]
    assert kinds_found == ["matmul", "matmul", "products"]
    first = next(iter(found.values()))
    assert [str(kind) for kind in first.type.results] == ["tensor<64x32xf32>", "tensor<64x48xf32>"]
    assert "stored: to make it again moves" in reasons(twice)
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(*n, generator=generator) for n in ((64, 32), (64, 32), (32, 48))]
    compiled = compile_module(parse(twice), choose("interpret", CPU), CPU, name="kept")
    for made, want in zip(compiled(inputs), interpret.run(parse(twice), inputs), strict=True):
        torch.testing.assert_close(made, want, rtol=1e-5, atol=1e-3)


def folded(activation):
    """A convolution, normalized by statistics that are given, as to predict."""
    x, w, y, row = "1x5x4x8", "3x3x8x16", "1x5x4x16", "16"
    made, column = f"tensor<{y}xf32>", f"tensor<{row}xf32>"
    return f"""module attributes {{keras.stage = "keras"}} {{
func.func @main(%x: tensor<{x}xf32> {{keras.name = "x"}}, %w: tensor<{w}xf32> {{keras.name = "w"}},
                %m: {column} {{keras.name = "m"}}, %v: {column} {{keras.name = "v"}},
                %b: {column} {{keras.name = "b"}}) -> {made} {{
  %y = "keras.conv2d"(%x, %w) {{{SAME}}} : (tensor<{x}xf32>, tensor<{w}xf32>) -> {made}
  %d = "keras.sub"(%y, %m) : ({made}, {column}) -> {made}
  %r = "keras.rsqrt"(%v) : ({column}) -> {column}
  %s = "keras.mul"(%d, %r) : ({made}, {column}) -> {made}
  %t = "keras.add"(%s, %b) : ({made}, {column}) -> {made}
  %z = "keras.{activation}"(%t) : ({made}) -> {made}
  return %z : {made}
}}
}}"""


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_normalization_to_predict_is_part_of_its_convolution(activation):
    assert kinds(folded(activation)) == ["conv2d"]


def test_what_leaves_the_step_is_stored():
    text = product(
        "  return %y, %h : tensor<64x48xf32>, tensor<64x32xf32>",
        "tensor<64x48xf32>, tensor<64x32xf32>",
    )
    assert kinds(text) == ["loop", "matmul"]


def test_only_sums_of_columns_stand_behind_a_product():
    of_rows = """  %m = "keras.sum"(%y) {axes = array<i64: 1>} : (tensor<64x48xf32>) -> tensor<64xf32>
  return %m : tensor<64xf32>"""
    assert kinds(product(of_rows, "tensor<64xf32>")) == ["matmul", "loop"]
    assert "only pointwise loops and sums of columns fit behind a template" in reasons(
        product(of_rows, "tensor<64xf32>")
    )
    largest = """  %m = "keras.max"(%y) {axes = array<i64: 0>} : (tensor<64x48xf32>) -> tensor<48xf32>
  return %m : tensor<48xf32>"""
    assert kinds(product(largest, "tensor<48xf32>")) == ["matmul", "loop"]
    assert "only float sums are made of partial ones" in reasons(product(largest, "tensor<48xf32>"))


def test_a_tile_does_not_wait_for_the_sums_of_all():
    centered = """  %m = "keras.sum"(%y) {axes = array<i64: 0>} : (tensor<64x48xf32>) -> tensor<48xf32>
  %c = "keras.sub"(%y, %m) : (tensor<64x48xf32>, tensor<48xf32>) -> tensor<64x48xf32>
  return %c : tensor<64x48xf32>"""
    text = product(centered, "tensor<64x48xf32>")
    assert kinds(text) == ["matmul", "loop"]
    assert "the sums of columns are known when all tiles are done" in reasons(text)


def stored_on_the_way(kind="tensor<3x5x4x7xf32>", order=(1, 2, 3, 0)):
    """Sums of columns of a product, which is stored as it is made, in the order it is read."""
    every = "tensor<7xf32>"
    generics = [
        Generic("p", (("x", order), ("s", (0,))), kind, "%r = arith.mulf %x0, %x1 : f32", axes=order),
        Generic("t", (("p", order),), every, "%r = arith.mulf %x0, %x0 : f32", "arith.addf"),
        Generic("u", (("p", order), ("s", (0,))), every, "%r = arith.addf %x0, %x1 : f32",
                "arith.addf"),
        Generic("m", (("t", (0,)), ("u", (0,))), every, "%r = arith.subf %x0, %x1 : f32"),
    ]  # fmt: skip
    arguments = {"x": kind, "s": every}
    return region_text("stored_0", arguments, generics, ["p", "m"], (1, 3))


@pytest.mark.parametrize("block_r", [16, 64])
@pytest.mark.parametrize("slices", [1, 2])
def test_a_reduction_stores_what_it_folds_in_another_order(block_r, slices):
    config = {"block_p": 4, "block_r": block_r, "slices": slices, "num_warps": 4, "num_stages": 2}
    _module, function = triton_cases.kernel_of(stored_on_the_way())
    default = triton_cases.emit_triton.default_config(function)
    triton_cases.check(stored_on_the_way(), {k: config.get(k, v) for k, v in default.items()})


def test_native_loops_store_what_they_fold_in_another_order():
    test_emit_llvm.check(stored_on_the_way())
