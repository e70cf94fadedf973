"""Triton kernels of any size: one compilation serves sizes that are alike, with the values of the reference."""

import re

import pytest
import torch
from test_emit_triton import COPY, softmax, swish, type_of
from test_gates import cell
from test_products import gradients, projections
from test_triton_template import CONV, POOL, batch_statistics, dense, template
from triton_cases import Generic, compare, kernel_of, multi_text, region_text, tensor_of

from keras_triton.kernels import CAPABILITIES, INTERPRETER, all_specs, compile_offline
from keras_triton.kernels.device import H200
from keras_triton.lowering import emit_triton, interpret, mlir, sizes
from keras_triton.lowering.emit_triton import ANY_SIZE, OpenKernel
from keras_triton.lowering.emit_triton.template import MATRICES
from keras_triton.lowering.mlir import TensorType
from keras_triton.lowering.pipeline import lower
from keras_triton.lowering.region import kernel_kind

B = sizes.PRIME
ALIKE, DIVISIBLE = (7, 33), 48


def product(name, a, b, out, transposed=""):
    first, second, made = (type_of(shape, "f32") for shape in (a, b, out))
    flags = ", ".join(f"transpose_{x} = {str(x in transposed).lower()}" for x in "ab")
    return template(name, {"a": first, "b": second}, ["a", "b"], [made], f"{{{flags}}}")


def column_sums(rows, columns):
    every = type_of((rows, columns), "f32")
    x = Generic("y", (("x", (1, 0)),), type_of((columns,), "f32"), COPY, "arith.addf")
    return region_text("columns", {"x": every}, [x], ["y"], (1, 1))


def rows(name, length):
    kind, row = type_of((3, B, length), "f32"), type_of((3, B), "f32")
    vector = type_of((length,), "f32")
    arguments, results, given = {"x": kind}, [kind], "{}"
    if name in ("softmax_grad", "log_softmax_grad"):
        arguments = {"g": kind, "y": kind}
    if name == "layer_norm":
        arguments, results = {"x": kind, "w": vector, "b": vector}, [kind, row, row]
        given = "{epsilon = 1.0e-3 : f64}"
    if name == "layer_norm_grad":
        arguments = {"g": kind, "x": kind, "mean": row, "rstd": row, "w": vector}
        results = [kind, vector, vector]
    return template(name, arguments, list(arguments), results, given)


def cross_entropy(gradient):
    logits, target, loss = type_of((B, 11), "f32"), f"tensor<{B}xi64>", type_of((B,), "f32")
    arguments = {"x": logits, "t": target}
    if not gradient:
        return template("cross_entropy", arguments, ["x", "t"], [loss, loss])
    arguments = {"g": loss, **arguments, "lse": loss}
    return template("cross_entropy_grad", arguments, list(arguments), [logits])


def linear_cross_entropy(name):
    x, w, bias = (type_of(shape, "f32") for shape in ((B, 19), (19, 37), (37,)))
    target, row = f"tensor<{B}xi64>", type_of((B,), "f32")
    given = {"x": x, "w": w, "bias": bias, "t": target}
    results = [row, row, target]
    if "grad" in name:
        given |= {"lse": row, "g": row}
        results = [x] if "input" in name else [w, bias]
    return template(name, given, list(given), results, "{transpose_w = false}")


def attention(name, batch, length, keys, bias, causal):
    q, k, v = (type_of(s, "f32") for s in ((batch, length, 2, 20), *[(batch, keys, 2, 20)] * 2))
    given = {"q": q, "k": k, "v": v, "bias": type_of(bias, "f32")}
    lse, results = type_of((batch, 2, length), "f32"), [q, k, v]
    if name == "attention":
        results = [q, lse]
    else:
        given = {"g": q, **given, "o": q, "lse": lse}
    options = f"{{scale = 0.3 : f64, causal = {str(causal).lower()}}}"
    return template(name, given, list(given), results, options)


def convolution(name):
    x, w, g = (type_of(s, "f32") for s in ((B, 6, 5, 3), (3, 3, 3, 9), (B, 6, 5, 9)))
    shape = f"{{shape = array<i64: {'3, 3, 3, 9' if 'kernel' in name else f'{B}, 6, 5, 3'}>, "
    attributes = CONV.replace("{", shape) if "grad" in name else CONV
    operands = {
        "conv2d": (x, w, g),
        "conv2d_input_grad": (g, w, x),
        "conv2d_kernel_grad": (g, x, w),
    }
    first, second, out = operands[name]
    return template(name, {"p": first, "q": second}, ["p", "q"], [out], attributes)


def pool(name):
    x, y = type_of((B, 6, 4, 3), "f32"), type_of((B, 3, 2, 3), "f32")
    shape = POOL.replace("{", f"{{shape = array<i64: {B}, 6, 4, 3>, ")
    index = y.replace("f32", "i32")
    if name == "max_pool2d":
        return template(name, {"x": x}, ["x"], [y, index], POOL)
    if name == "avg_pool2d":
        return template(name, {"x": x}, ["x"], [y], POOL)
    given = {"g": y, "i": index} if name.startswith("max") else {"g": y}
    return template(name, given, list(given), [x], shape)


def scatter(rows, fold):
    """Updates of an open number, or rows of a table that is."""
    updates = type_of((B, 5) if rows == 9 else (60, 5), "f32")
    index = updates.replace("x5xf32", "xi64")
    given = f'{{rows = {rows} : i64, fold = "{fold}"}}'
    return template(
        "scatter", {"u": updates, "i": index}, ["u", "i"], [type_of((rows, 5), "f32")], given
    )


def cumulate(shape):
    x = type_of(shape, "f32")
    return template("cumulate", {"x": x}, ["x"], [x], '{axis = 1 : i64, fold = "sum"}')


def ordered(name, length, kept, attributes, rows=3):
    x, made = type_of((rows, 9 if name == "top" else length), "f32"), type_of((rows, kept), "f32")
    return template(name, {"x": x}, ["x"], [made, made.replace("f32", "i64")], attributes)


def opened(text, static, symbolic=B):
    """A text with an extent, the first of a tensor, left open."""
    first = rf"(?<=tensor<){static}(?=x)|(?<=i64: ){static}(?=,)"
    return re.sub(first, str(symbolic), text)


def lowered(module, kind, *extents):
    """The kernels of a kind that a module is lowered to, its rows left open, alone."""
    text = mlir.text(module)
    for static, symbolic in extents:
        text = opened(text, static, symbolic)
    regions = lower(mlir.parse(text), "regions")
    return [str(f) for f in mlir.functions(regions).values() if kernel_kind(f) == kind]


def grouped(make, number=0):
    return lowered(make("f32"), "products", (42, 21 * B), (2, B))[number]


CASES = {
    "loop: pointwise": lambda: swish((3, B, 5), "f32"),
    "loop: rows on chip": lambda: softmax((2,), (B,)),
    "loop: rows on chip, many of them": lambda: softmax((B,), (9,)),
    "loop: column sums": lambda: column_sums(B, 70),
    "multi": lambda: multi_text(
        "doubled", {"v": "f32"}, [(B, 3), (5,), (2, B)], {"y": "%r = arith.addf %x0, %x0 : f32"}
    ),
    "matmul: rows": lambda: product("matmul", (B, 19), (19, 23), (B, 23)),
    "matmul: columns": lambda: product("matmul", (17, 19), (B, 19), (17, B), "b"),
    "matmul: depth": lambda: product("matmul", (B, 17), (B, 23), (17, 23), "a"),
    "matmul: epilogue": lambda: dense(m=B),
    "matmul: column sums behind it": lambda: opened(batch_statistics("matmul"), 47),
    "conv2d: column sums behind it": lambda: opened(batch_statistics("conv2d"), 2),
    "products: several": lambda: grouped(projections),
    "products: their sum": lambda: grouped(gradients, 0),
    "products: columns beside them": lambda: grouped(gradients, 1),
    "gates": lambda: lowered(cell("f32"), "gates", (7, B))[0],
    "batch_matmul: batch": lambda: product("batch_matmul", (B, 5, 9), (B, 9, 7), (B, 5, 7)),
    "batch_matmul: square": lambda: product("batch_matmul", (3, B, 9), (3, B, 9), (3, B, B), "b"),
    **{f"{name}: rows": lambda name=name: rows(name, 33) for name in MATRICES},
    **{f"{name}: length": lambda name=name: rows(name, B) for name in MATRICES},
    "cross_entropy": lambda: cross_entropy(False),
    "cross_entropy_grad": lambda: cross_entropy(True),
    **{
        name: lambda name=name: linear_cross_entropy(name)
        for name in all_specs()
        if name.startswith("linear_cross_entropy")
    },
    **{
        f"{name}: {what}": lambda name=name, given=given: attention(name, *given)
        for name in ("attention", "attention_grad")
        for what, given in {
            "batch": (B, 9, 13, (B, 1, 1, 13), False),
            "length": (2, B, B, (1, 1, B, B), True),
            "keys": (1, 3, B, (1, 1, 1, 1), False),
        }.items()
    },
    **{
        name: lambda name=name: convolution(name)
        for name in ("conv2d", "conv2d_input_grad", "conv2d_kernel_grad")
    },
    **{
        name: lambda name=name: pool(name)
        for name in ("max_pool2d", "max_pool2d_grad", "avg_pool2d", "avg_pool2d_grad")
    },
    "cumulate: length": lambda: cumulate((3, B, 5)),
    "cumulate: rows": lambda: cumulate((B, 3, 1)),
    "sort": lambda: ordered("sort", B, B, "{descending = true}"),
    "top": lambda: ordered("top", B, 3, "{k = 3 : i64, descending = false}", rows=B),
    "scatter: updates": lambda: scatter(9, "sum"),
    "scatter: rows": lambda: scatter(B, "max"),
}  # fmt: skip


def the_kernel(text):
    """A kernel function as text alone, with its module."""
    if text.startswith("module"):
        _module, function = kernel_of(text)
        text = str(function)
    module = mlir.parse_verified(text)
    return module, next(iter(mlir.functions(module).values())), text


def tensors(function):
    """Inputs for a kernel: class numbers and places in windows where it takes integers."""
    generator = torch.Generator().manual_seed(0)
    return [
        tensor_of(kind, generator) if kind.is_float else torch.arange(kind.size).reshape(kind.shape)
        .remainder(4).to(kind.torch_dtype)
        for kind in map(TensorType.of, function.arguments)
    ]  # fmt: skip


def check_at(size, kernel, text):
    """Runs a kernel for one size against its meaning; what Triton compiles it as."""
    _module, function, _ = the_kernel(sizes.text_at(text, size))
    loaded, given = kernel.at(size), tensors(function)
    kinds = map(TensorType.of, function.type.results)
    outputs = [torch.full(k.shape, 77).to(k.torch_dtype) for k in kinds]
    loaded.run([*given, *outputs], interpret=True)
    expected = interpret.call({"kernel": function}, "kernel", given, True)
    for output, want in zip(outputs, expected, strict=True):
        compare(output, want)
    return tuple(launch.code for launch in loaded.program.launches)


@pytest.mark.parametrize("name", CASES)
def test_one_compilation_serves_sizes_that_are_alike(name):
    _module, function, text = the_kernel(CASES[name]())
    kernel = OpenKernel(function, lambda f: emit_triton.default_config(f, INTERPRETER))
    alike = {check_at(size, kernel, text) for size in ALIKE}
    # Partial sums of few columns are added in narrow tiles: one for each power of two below 128.
    assert len(alike) == 1 + (name == "layer_norm_grad: length")
    check_at(DIVISIBLE, kernel, text)
    check_at(1, kernel, text)


def compiled_product(out, transposed, *operands):
    kinds = [f"tensor<{'x'.join(map(str, shape))}xbf16>" for shape in (*operands, out)]
    flags = ", ".join(f"transpose_{x} = {str(x in transposed).lower()}" for x in "ab")
    given = {"a": kinds[0], "b": kinds[1]}
    return template("matmul", given, ["a", "b"], kinds[2:], f"{{{flags}}}")


FOR_A_GPU = {
    "elements": lambda: swish((B,), "bf16"),
    "rows on chip": lambda: softmax((64,), (B,)),
    "column sums": lambda: column_sums(B, 256),
    "rows of a product": lambda: compiled_product((B, 128), "", (B, 256), (256, 128)),
    "depth of a product": lambda: compiled_product((256, 128), "a", (B, 256), (B, 128)),
}


@pytest.mark.parametrize("name", FOR_A_GPU)
def test_code_for_a_gpu_loads_as_widely_as_that_of_one_size(name):
    _module, function, text = the_kernel(FOR_A_GPU[name]())
    kernel = OpenKernel(function, lambda f: emit_triton.default_config(f, H200))
    for capability in CAPABILITIES:
        for size in (4096, 4099) if capability == 90 else (4096,):
            loaded = kernel.at(size)
            static = the_kernel(sizes.text_at(text, size))
            same = emit_triton.emit(static[1], loaded.generated.config)
            found, wanted = (
                [
                    compile_offline(launch, one.dtypes(), capability)
                    for launch in one.program.launches
                ]
                for one in (loaded, emit_triton.load(same))
            )
            assert not any(report.spills for report in found)
            assert [wide_loads(report) for report in found] == [wide_loads(r) for r in wanted]


def wide_loads(report):
    """Whether 16 bytes are loaded at once."""
    return bool(
        re.search(
            r"ld\.global[.\w:]*\.v4\.b32|ld\.global[.\w:]*\.v2\.b64|cp\.async\.cg", report.ptx
        )
    )


def test_every_kind_is_tried():
    kinds = {kernel_kind(the_kernel(make())[1]) for make in CASES.values()}
    assert kinds == ANY_SIZE == {"loop", "multi", *all_specs()}
