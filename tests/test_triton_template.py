"""Templates under generated epilogues, against the meaning of their kernel functions."""

import pytest
import torch
from triton_cases import Generic, check, generic_text, kernel_of, module_text

from keras_triton.kernels import compile_offline
from keras_triton.lowering import emit_triton
from keras_triton.lowering.errors import EmitError

NO_TRANSPOSE = "{transpose_a = false, transpose_b = false}"
CONV = (
    "{strides = array<i64: 1, 1>, pads = array<i64: 1, 1, 1, 1>, dilations = array<i64: 1, 1>, "
    "groups = 1 : i64}"
)
POOL = "{window = array<i64: 2, 2>, strides = array<i64: 2, 2>, pads = array<i64: 0, 0, 0, 0>}"


def template(
    name, arguments, operands, results, attributes="{}", generics=(), returned=None, before=()
):
    """A kernel of one template op with the result %op, or %op#0, %op#1..., what makes its operands
    `before` it, and an epilogue.
    """
    many = len(results) > 1
    made = {f"op#{i}" if many else "op": kind for i, kind in enumerate(results)}
    sources, ops = dict(arguments), ""
    for generic in before:
        ops += generic_text(generic, sources, (generic.type.count("x"), 0))
        sources[generic.out] = generic.type
    types = ", ".join(sources[operand] for operand in operands)
    ops += (
        f"%op{f':{len(results)}' if many else ''} = "
        f'"keras.{name}"({", ".join("%" + operand for operand in operands)}) '
        f'{attributes} : ({types}) -> ({", ".join(results)}) loc("model/{name}")\n'
    )
    known = {**sources, **made}
    for generic in generics:
        ops += generic_text(generic, known, (results[0].count("x"), 0))
        known[generic.out] = generic.type
    outputs = {result: known[result] for result in returned or made}
    return module_text(f"{name}_0", name, arguments, ops, outputs)


def bias_relu(kind, rank, channel):
    """relu(y + bias) + residual, y rounded to the tensor's type."""
    every = tuple(range(rank))
    dtype = kind.split("x")[-1].rstrip(">")
    reads = (("op", every), ("bias", (channel,)), ("residual", every))
    if dtype == "f32":
        body = """%zero = arith.constant 0.0 : f32
%s = arith.addf %x0, %x1 : f32
%m = arith.maximumf %s, %zero : f32
%r = arith.addf %m, %x2 : f32"""
    else:
        body = f"""%zero = arith.constant 0.0 : f32
%w0 = arith.extf %x0 : {dtype} to f32
%w1 = arith.extf %x1 : {dtype} to f32
%w2 = arith.extf %x2 : {dtype} to f32
%s = arith.addf %w0, %w1 : f32
%m = arith.maximumf %s, %zero : f32
%o = arith.addf %m, %w2 : f32
%r = arith.truncf %o : f32 to {dtype}"""
    return Generic("out", reads, kind, body)


def dense(dtype="f32", m=17, n=10, k=33):
    kind = f"tensor<{m}x{n}x{dtype}>"
    arguments = {
        "a": f"tensor<{m}x{k}x{dtype}>", "b": f"tensor<{k}x{n}x{dtype}>",
        "bias": f"tensor<{n}x{dtype}>", "residual": kind,
    }  # fmt: skip
    generics = [bias_relu(kind, 2, 1)]
    return template("matmul", arguments, ["a", "b"], [kind], NO_TRANSPOSE, generics, ["out", "op"])


@pytest.mark.parametrize("dtype", ["f32", "bf16", "f16"])
def test_matmul(dtype):
    loaded = check(dense(dtype))
    assert loaded.generated.outputs == ("out0", "out1")


def test_split_matmul():
    _module, function = kernel_of(dense(k=300))
    config = emit_triton.default_config(function) | {"split_k": 4, "block_k": 16}
    check(dense(k=300), config)


def test_batch_matmul_reads_a_value_a_batch():
    kind = "tensor<3x5x7xf32>"
    reads = (("op", (0, 1, 2)), ("scale", (0, None, None)), ("shift", (0, 1)))
    body = "%s = arith.mulf %x0, %x1 : f32\n%r = arith.addf %s, %x2 : f32"
    scaled = Generic("out", reads, kind, body)
    arguments = {
        "a": "tensor<3x5x9xf32>", "b": "tensor<3x9x7xf32>",
        "scale": "tensor<3x1x1xf32>", "shift": "tensor<3x5xf32>",
    }  # fmt: skip
    text = template("batch_matmul", arguments, ["a", "b"], [kind], NO_TRANSPOSE, [scaled], ["out"])
    check(text)


def test_conv2d():
    kind = "tensor<2x6x5x9xf32>"
    arguments = {
        "x": "tensor<2x6x5x3xf32>", "w": "tensor<3x3x3x9xf32>",
        "bias": "tensor<9xf32>", "residual": kind,
    }  # fmt: skip
    check(
        template("conv2d", arguments, ["x", "w"], [kind], CONV, [bias_relu(kind, 4, 3)], ["out"]),
    )


def test_conv2d_gradients():
    x, w, g = "tensor<2x6x5x3xf32>", "tensor<3x3x3x9xf32>", "tensor<2x6x5x9xf32>"
    attributes = CONV.replace("{", "{shape = array<i64: 2, 6, 5, 3>, ")
    check(template("conv2d_input_grad", {"g": g, "w": w}, ["g", "w"], [x], attributes))
    attributes = CONV.replace("{", "{shape = array<i64: 3, 3, 3, 9>, ")
    check(template("conv2d_kernel_grad", {"g": g, "x": x}, ["g", "x"], [w], attributes))


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_rows_of_any_rank(name):
    kind = "tensor<2x3x11xf32>"
    check(template(name, {"x": kind}, ["x"], [kind]))
    check(template(f"{name}_grad", {"g": kind, "p": kind}, ["g", "p"], [kind]))
    vector = "tensor<11xf32>"
    check(template(name, {"x": vector}, ["x"], [vector]))


@pytest.mark.parametrize("returned", [["op#0"], ["op#1", "op#0", "op#2"]])
def test_layer_norm_with_results_that_nobody_reads(returned):
    kind, rows, parameter = "tensor<2x3x11xf32>", "tensor<2x3xf32>", "tensor<11xf32>"
    arguments = {"x": kind, "weight": parameter, "bias": parameter}
    text = template("layer_norm", arguments, list(arguments), [kind, rows, rows],
                    "{epsilon = 1.0e-3 : f64}", returned=returned)  # fmt: skip
    check(text)


def test_layer_norm_gradient():
    kind, rows, parameter = "tensor<2x3x11xf32>", "tensor<2x3xf32>", "tensor<11xf32>"
    arguments = {"g": kind, "x": kind, "mean": rows, "rstd": rows, "weight": parameter}
    check(
        template("layer_norm_grad", arguments, list(arguments), [kind, parameter, parameter]),
    )


def test_cross_entropy():
    logits, target, loss = "tensor<7x11xf32>", "tensor<7xi64>", "tensor<7xf32>"
    generator = torch.Generator().manual_seed(0)
    x, labels = torch.randn(7, 11, generator=generator), torch.arange(7)
    text = template("cross_entropy", {"x": logits, "t": target}, ["x", "t"], [loss, loss])
    check(text, inputs=[x, labels])
    arguments = {"g": loss, "x": logits, "t": target, "lse": loss}
    text = template("cross_entropy_grad", arguments, list(arguments), [logits])
    check(text, inputs=[torch.randn(7), x, labels, torch.logsumexp(x, -1)])


def test_pools():
    x, y = "tensor<2x6x4x3xf32>", "tensor<2x3x2x3xf32>"
    check(template("avg_pool2d", {"x": x}, ["x"], [y], POOL))
    check(template("max_pool2d", {"x": x}, ["x"], [y, y.replace("f32", "i32")], POOL))


def test_one_tensor_in_two_roles():
    kind = "tensor<8x8xf32>"
    squared = Generic(
        "out", (("op", (0, 1)), ("a", (0, 1))), kind, "%r = arith.addf %x0, %x1 : f32"
    )
    check(
        template("matmul", {"a": kind}, ["a", "a"], [kind], NO_TRANSPOSE, [squared], ["out"]),
    )


def test_epilogue_compiles_without_spills():
    _module, function = kernel_of(dense("bf16", 256, 128, 512))
    loaded = emit_triton.load(emit_triton.emit(function))
    for launch in loaded.program.launches:
        report = compile_offline(launch, loaded.dtypes(), 90)
        assert report.spills == 0


def test_what_no_template_does_is_named():
    kind = "tensor<8x8xf64>"
    text = template("matmul", {"a": kind, "b": kind}, ["a", "b"], [kind], NO_TRANSPOSE)
    _module, function = kernel_of(text)
    with pytest.raises(EmitError, match=r"matmul.*model/matmul.*float64"):
        emit_triton.emit(function)


def statistics(kind, rank, of="op"):
    """Of what a template makes: sums of columns, of their products with another tensor, and what
    follows from both and a parameter.
    """
    dtype = kind.split("x")[-1].rstrip(">")
    columns = (0,)
    every = (*range(1, rank), 0)
    channels = f"tensor<{kind.removeprefix('tensor<').split('x')[rank - 1]}xf32>"
    wide = "" if dtype == "f32" else f"%w0 = arith.extf %x0 : {dtype} to f32\n"
    other = "" if dtype == "f32" else f"%w1 = arith.extf %x1 : {dtype} to f32\n"
    x, y = ("%x0", "%x1") if dtype == "f32" else ("%w0", "%w1")
    one = "%one = arith.constant 1.0 : f32\n"
    return [
        Generic("total", ((of, every),), channels, f"{wide}{one}%r = arith.mulf {x}, %one : f32",
                "arith.addf"),
        Generic("joint", ((of, every), ("residual", every), ("center", columns)), channels,
                f"{wide}{other}%s = arith.subf {x}, %x2 : f32\n%r = arith.mulf %s, {y} : f32",
                "arith.addf"),
        Generic("ratio", (("total", columns), ("joint", columns), ("center", columns)), channels,
                "%s = arith.mulf %x2, %x1 : f32\n%r = arith.subf %x0, %s : f32"),
    ]  # fmt: skip


def batch_statistics(kind, dtype="f32", split=False):
    """A convolution or product with its column statistics."""
    center = {"conv2d": 17, "conv2d_input_grad": 5, "matmul": 10, "batch_matmul": 7}[kind]
    attributes = CONV
    if kind == "conv2d":
        arguments = {"x": f"tensor<2x6x5x3x{dtype}>", "w": f"tensor<3x3x3x17x{dtype}>"}
        made = f"tensor<2x6x5x17x{dtype}>"
    elif kind == "conv2d_input_grad":
        arguments = {"g": f"tensor<2x3x3x17x{dtype}>", "w": f"tensor<3x3x5x17x{dtype}>"}
        made = f"tensor<2x6x5x5x{dtype}>"
        attributes = CONV.replace("strides = array<i64: 1, 1>", "strides = array<i64: 2, 2>")
        attributes = attributes.replace("{", "{shape = array<i64: 2, 6, 5, 5>, ")
    elif kind == "matmul":
        deep = 300 if split else 33
        arguments = {"a": f"tensor<47x{deep}x{dtype}>", "b": f"tensor<{deep}x10x{dtype}>"}
        made, attributes = f"tensor<47x10x{dtype}>", NO_TRANSPOSE
    else:
        arguments = {"a": f"tensor<3x5x9x{dtype}>", "b": f"tensor<3x9x7x{dtype}>"}
        made, attributes = f"tensor<3x5x7x{dtype}>", NO_TRANSPOSE
    operands, rank = list(arguments), made.count("x")
    arguments |= {"residual": made, "center": f"tensor<{center}xf32>"}
    generics = statistics(made, rank)
    return template(kind, arguments, operands, [made], attributes, generics,
                    ["op", "ratio", "total"])  # fmt: skip


@pytest.mark.parametrize("dtype", ["f32", "bf16", "f16"])
@pytest.mark.parametrize("kind", ["conv2d", "conv2d_input_grad", "matmul", "batch_matmul"])
def test_column_sums_of_tiles(kind, dtype):
    text = batch_statistics(kind, dtype)
    _module, function = kernel_of(text)
    config = emit_triton.default_config(function) | {"block_m": 16, "split_k": 1}
    loaded = check(text, config)
    assert loaded.generated.outputs == ("out0", "column0", "column1")
    launched = [launch.kernel.__name__ for launch in loaded.program.launches]
    assert launched[0] != launched[1]
    assert launched[-1].endswith("_columns")
    assert loaded.program.scratch["sum0"].shape[0] > 1


def test_column_sums_of_a_split_product():
    text = batch_statistics("matmul", split=True)
    _module, function = kernel_of(text)
    config = emit_triton.default_config(function) | {"split_k": 4, "block_k": 16}
    assert len(check(text, config).program.launches) == 3


def normalized(out, kind, rank, source, image=False):
    """relu(x * scale + shift) by channel, or by row and channel, in the source's type."""
    dtype = kind.split("x")[-1].rstrip(">")
    every, channel = tuple(range(rank)), (rank - 1,)
    reads = [(source, every), (f"{source}_scale", channel), (f"{source}_shift", channel)]
    reads += [(f"{source}_row", (0,))] if image else []
    wide = "" if dtype == "f32" else f"%wide = arith.extf %x0 : {dtype} to f32\n"
    x = "%x0" if dtype == "f32" else "%wide"
    last = "%r = arith.addf %m, %zero : f32" if dtype == "f32" else (
        f"%r = arith.truncf %m : f32 to {dtype}")  # fmt: skip
    body = f"""{wide}%zero = arith.constant 0.0 : f32
%s = arith.mulf {x}, %x1 : f32
%t = arith.addf %s, %x2 : f32
%u = arith.addf %t, {"%x3" if image else "%zero"} : f32
%m = arith.maximumf %u, %zero : f32
{last}"""
    return Generic(out, tuple(reads), kind, body)


def parameters(source, kind, image=False):
    extents = kind.removeprefix("tensor<").split("x")
    channels = f"tensor<{extents[-2]}xf32>"
    rows = {f"{source}_row": f"tensor<{extents[0]}xf32>"} if image else {}
    return {source: kind, f"{source}_scale": channels, f"{source}_shift": channels, **rows}


@pytest.mark.parametrize("dtype", ["f32", "bf16", "f16"])
@pytest.mark.parametrize("channels", [3, 32])
def test_convolutions_of_what_is_made_as_it_is_loaded(dtype, channels):
    """Beyond the image there are zeros, whatever the prologue would make of them."""
    x, w = f"tensor<2x6x5x{channels}x{dtype}>", f"tensor<3x3x{channels}x17x{dtype}>"
    g = f"tensor<2x6x5x17x{dtype}>"
    made = normalized("made", x, 4, "x", image=True)
    arguments = {**parameters("x", x, image=True), "w": w}
    loaded = check(template("conv2d", arguments, ["made", "w"], [g], CONV, before=[made]))
    assert loaded.generated.inputs == ("x_in0", "x_in1", "x_in2", "x_in3", "w")
    attributes = CONV.replace("{", f"{{shape = array<i64: 2, 6, 5, {channels}>, ")
    made = normalized("made", g, 4, "g")
    arguments = {**parameters("g", g), "w": w}
    check(template("conv2d_input_grad", arguments, ["made", "w"], [x], attributes, before=[made]))
    attributes = CONV.replace("{", f"{{shape = array<i64: 3, 3, {channels}, 17>, ")
    both = [made, normalized("pixels", x, 4, "x")]
    arguments = {**parameters("g", g), **parameters("x", x)}
    text = template("conv2d_kernel_grad", arguments, ["made", "pixels"], [w], attributes,
                    before=both)  # fmt: skip
    check(text)


@pytest.mark.parametrize("dtype", ["f32", "bf16"])
@pytest.mark.parametrize("a_back", [False, True])
@pytest.mark.parametrize("b_back", [False, True])
def test_products_of_what_is_made_as_it_is_loaded(dtype, a_back, b_back):
    a, b = (33, 47) if a_back else (47, 33), (19, 33) if b_back else (33, 19)
    kinds = [f"tensor<{n}x{m}x{dtype}>" for n, m in (a, b)]
    attributes = f"{{transpose_a = {str(a_back).lower()}, transpose_b = {str(b_back).lower()}}}"
    before = [
        normalized("left", kinds[0], 2, "a", image=True),
        normalized("right", kinds[1], 2, "b"),
    ]
    arguments = {**parameters("a", kinds[0], image=True), **parameters("b", kinds[1])}
    text = template("matmul", arguments, ["left", "right"], [f"tensor<47x19x{dtype}>"], attributes,
                    before=before)  # fmt: skip
    check(text)
    kept = template("matmul", arguments, ["left", "right"], [f"tensor<47x19x{dtype}>"], attributes,
                    before=before, returned=["left", "op", "right"])  # fmt: skip
    small = {"block_m": 16, "block_n": 16, "block_k": 16}
    for split in (1, 2):
        _module, function = kernel_of(kept)
        config = emit_triton.default_config(function) | small | {"split_k": split}
        loaded = check(kept, config)
        assert loaded.generated.outputs == ("a_out", "out0", "b_out")


def test_an_operand_that_is_made_as_it_is_loaded_is_kept():
    plain = CONV.replace("1, 1, 1, 1", "0, 0, 0, 0")
    x, w, g = "tensor<2x6x5x33xbf16>", "tensor<1x1x33x40xbf16>", "tensor<2x6x5x40xbf16>"
    made, upstream = normalized("made", x, 4, "x", image=True), normalized("up", g, 4, "g")
    config = {"block_m": 16, "block_n": 16, "block_k": 16}
    arguments = {**parameters("x", x, image=True), "w": w}
    kept = template("conv2d", arguments, ["made", "w"], [g], plain, before=[made],
                    returned=["op", "made"])  # fmt: skip
    _module, function = kernel_of(kept)
    config = emit_triton.default_config(function) | config
    assert check(kept, config).generated.outputs == ("out0", "x_out")
    attributes = plain.replace("{", "{shape = array<i64: 2, 6, 5, 33>, ")
    arguments = {**parameters("g", g), "w": w}
    check(template("conv2d_input_grad", arguments, ["up", "w"], [x], attributes, before=[upstream],
                   returned=["up", "op"]), config)  # fmt: skip
    attributes = plain.replace("{", "{shape = array<i64: 1, 1, 33, 40>, ")
    arguments = {**parameters("g", g), **parameters("x", x, image=True)}
    check(template("conv2d_kernel_grad", arguments, ["up", "made"], [w], attributes,
                   before=[upstream, made], returned=["up", "op", "made"]), config)  # fmt: skip


def test_what_is_loaded_for_several_positions_is_not_kept():
    x, w, g = "tensor<2x6x5x3xf32>", "tensor<3x3x3x17xf32>", "tensor<2x6x5x17xf32>"
    arguments = {**parameters("x", x), "w": w}
    text = template("conv2d", arguments, ["made", "w"], [g], CONV,
                    before=[normalized("made", x, 4, "x")], returned=["op", "made"])  # fmt: skip
    _module, function = kernel_of(text)
    with pytest.raises(EmitError, match="conv2d loads its operand x more than once"):
        emit_triton.emit(function)
