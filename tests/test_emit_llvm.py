"""Native CPU kernels against the meaning of their regions: every nest, dtype and awkward size."""

import pytest
import torch
from triton_cases import Generic, compare, inputs_of, kernel_of, multi_text, region_text

from keras_triton.lowering import emit_llvm, interpret, mlir
from keras_triton.lowering.errors import EmitError
from keras_triton.lowering.mlir import TensorType
from keras_triton.lowering.ops.random import MULTIPLIERS, WEYL, philox

FAST = "fastmath<reassoc,contract,nsz>"
CENTRED = f"%d = arith.subf %x0, %x1 {FAST} : f32\n"


def tensor(*shape, dtype="f32"):
    return f"tensor<{''.join(f'{extent}x' for extent in shape)}{dtype}>"


def call(kernel, inputs, outputs, threads=1):
    table = torch.tensor([item.data_ptr() for item in (*inputs, *outputs)])
    kernel(table.data_ptr(), threads)


def compiled(text):
    """The native kernel of `text`. (The module must outlive the function that is read from it.)"""
    _module, function = kernel_of(text)
    return emit_llvm.compile_kernels({"k": function})["k"]


def run(function, inputs, threads=1):
    outputs = [
        torch.full(kind.shape, 77).to(kind.torch_dtype)
        for kind in map(TensorType.of, function.type.results)
    ]
    (kernel,) = emit_llvm.compile_kernels({"k": function}).values()
    call(kernel, inputs, outputs, threads)
    return outputs


def check(text, inputs=None, elementwise=False):
    """Runs the kernel of `text` natively and compares with the module's meaning."""
    module, function = kernel_of(text)
    inputs = inputs_of(function) if inputs is None else inputs
    outputs = run(function, inputs)
    for output, expected in zip(outputs, interpret.run(module, inputs), strict=True):
        compare(output, expected, elementwise)
    return outputs


def same(kind="f32"):
    """A body that passes %x0 on."""
    return f"%r = arith.bitcast %x0 : {kind} to {kind}"


@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (5, 17), (64, 10), (13, 257), (0, 4), (4, 0)])
def test_broadcasts_of_every_kind(shape):
    n, m = shape
    body = f"""%0 = arith.addf %x0, %x1 {FAST} : f32
        %1 = arith.mulf %0, %x2 {FAST} : f32
        %2 = arith.addf %1, %x3 {FAST} : f32
        %3 = arith.addf %2, %x4 {FAST} : f32
        %z = arith.constant 0.0 : f32
        %r = arith.maximumf %3, %z : f32"""
    arguments = {
        "x": tensor(n, m),
        "b": tensor(m),
        "c": tensor(n),
        "d": tensor(n, 1),
        "e": tensor(),
    }
    reads = (("x", (0, 1)), ("b", (1,)), ("c", (0,)), ("d", (0, None)), ("e", ()))
    check(region_text("k", arguments, [Generic("y", reads, tensor(n, m), body)], ["y"], (2, 0)))


@pytest.mark.parametrize("shape", [(1, 5, 3), (33, 2, 17), (40, 3, 65)])
@pytest.mark.parametrize("order", [(0, 2, 1), (2, 1, 0), (1, 2, 0), (1, 0, 2)])
def test_permuted_reads(shape, order):
    arguments = {"x": tensor(*(shape[dim] for dim in order)), "y": tensor(*shape)}
    reads = (("x", order), ("y", (0, 1, 2)))
    z = Generic("z", reads, tensor(*shape), "%r = arith.addf %x0, %x1 : f32")
    check(region_text("k", arguments, [z], ["z"], (3, 0)))


def softmax(p, r):
    """Softmax and the row maxima over parallel extents `p` and reduced extents `r`."""
    every, mine = tuple(range(len(p) + len(r))), tuple(range(len(p)))
    full, row = tensor(*p, *r), tensor(*p)
    generics = [
        Generic("top", (("x", every),), row, same(), "arith.maximumf"),
        Generic("e", (("x", every), ("top", mine)), full, CENTRED + "%r = math.exp %d : f32"),
        Generic("total", (("e", every),), row, same(), "arith.addf"),
        Generic(
            "y", (("e", every), ("total", mine)), full, f"%r = arith.divf %x0, %x1 {FAST} : f32"
        ),
    ]
    return region_text("softmax", {"x": full}, generics, ["y", "top"], (len(p), len(r)))


@pytest.mark.parametrize(
    ("p", "r"),
    [
        ((1,), (1,)),
        ((5,), (10,)),
        ((3,), (97,)),
        ((2, 3), (4, 128)),
        ((2,), (9001,)),
        ((0,), (3,)),
        ((), (50,)),
    ],
)
def test_softmax_rows(p, r):
    check(softmax(p, r))


def test_nan_and_inf_flow_as_in_torch():
    x = torch.tensor([[0.0, torch.nan, 1.0], [-torch.inf, 0.0, 1.0], [torch.inf, 0.0, 1.0]])
    _, function = kernel_of(softmax((3,), (3,)))
    torch.testing.assert_close(run(function, [x])[0], torch.softmax(x, -1), equal_nan=True)
    folds = {"addf": x.sum(1), "maximumf": x.amax(1), "minimumf": x.amin(1)}
    generics = [
        Generic(name, (("x", (0, 1)),), tensor(3), same(), f"arith.{name}") for name in folds
    ]
    _, function = kernel_of(region_text("k", {"x": tensor(3, 3)}, generics, list(folds), (1, 1)))
    for output, expected in zip(run(function, [x]), folds.values(), strict=True):
        torch.testing.assert_close(output, expected, equal_nan=True)


def scaled(factor):
    return f"%f = arith.constant {factor:e} : f32\n%r = arith.mulf %x0, %f {FAST} : f32"


def layer_norm(n, m):
    rows = (("x", (0, 1)), ("mean", (0,)))
    norm = f"%0 = arith.mulf %d, %x2 {FAST} : f32\n%1 = arith.mulf %0, %x3 {FAST} : f32\n"
    variance = scaled(1 / m).replace("%r", "%v") + "\n%e = arith.constant 1.0e-5 : f32\n"
    variance += "%w = arith.addf %v, %e : f32\n%r = math.rsqrt %w : f32"
    generics = [
        Generic("sum", (("x", (0, 1)),), tensor(n), same(), "arith.addf"),
        Generic("mean", (("sum", (0,)),), tensor(n), scaled(1 / m)),
        Generic(
            "m2", rows, tensor(n), CENTRED + f"%r = arith.mulf %d, %d {FAST} : f32", "arith.addf"
        ),
        Generic("rstd", (("m2", (0,)),), tensor(n), variance),
        Generic(
            "y",
            (*rows, ("rstd", (0,)), ("gain", (1,)), ("bias", (1,))),
            tensor(n, m),
            CENTRED + norm + f"%r = arith.addf %1, %x4 {FAST} : f32",
        ),
    ]
    arguments = {"x": tensor(n, m), "gain": tensor(m), "bias": tensor(m)}
    return region_text("layer_norm", arguments, generics, ["y", "mean", "rstd"], (1, 1))


@pytest.mark.parametrize("shape", [(7, 33), (256, 128), (2, 1)])
def test_layer_norm_rows_with_statistics(shape):
    check(layer_norm(*shape))


def column_sums(r, p):
    generics = [
        Generic("sum", (("x", (1, 0)),), tensor(p), same(), "arith.addf"),
        Generic(
            "dot",
            (("x", (1, 0)), ("w", (1,))),
            tensor(p),
            f"%r = arith.mulf %x0, %x1 {FAST} : f32",
            "arith.addf",
        ),
        Generic("twice", (("sum", (0,)),), tensor(p), "%r = arith.addf %x0, %x0 : f32"),
    ]
    arguments = {"x": tensor(r, p), "w": tensor(r)}
    return region_text("column_sums", arguments, generics, ["sum", "dot", "twice"], (1, 1))


@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (300, 10), (4096, 64), (37, 1030), (0, 5)])
def test_column_sums(shape):
    check(column_sums(*shape))


@pytest.mark.parametrize("shape", [(64, 10), (1003, 3), (500, 32), (63, 10)])
def test_sums_of_few_columns(shape):
    r, p = shape
    body = f"%r = arith.mulf %x0, %x1 {FAST} : f32"
    generics = [
        Generic("sum", (("x", (1, 0)),), tensor(p), same(), "arith.addf"),
        Generic("dot", (("x", (1, 0)), ("y", (1, 0))), tensor(p), body, "arith.addf"),
        Generic("top", (("x", (1, 0)),), tensor(p), same(), "arith.maximumf"),
    ]
    arguments = {"x": tensor(r, p), "y": tensor(r, p)}
    check(region_text("k", arguments, generics, ["sum", "dot", "top"], (1, 1)))


@pytest.mark.parametrize("order", [(1, 2, 3, 0), (1, 0, 2, 3)], ids=["nhwc", "nchw"])
@pytest.mark.parametrize("extents", [(19, 3, 5, 4), (3, 300, 2, 2)], ids=str)
def test_image_statistics_with_dependent_reductions(order, extents):
    c, *rest = extents
    count = rest[0] * rest[1] * rest[2]
    image = (("x", order), ("mean", (0,)))
    generics = [
        Generic("sum", (("x", order),), tensor(c), same(), "arith.addf"),
        Generic("mean", (("sum", (0,)),), tensor(c), scaled(1 / count)),
        Generic("m2", image, tensor(c), CENTRED + "%r = arith.mulf %d, %d : f32", "arith.addf"),
        Generic("centred", image, tensor(*extents), "%r = arith.subf %x0, %x1 : f32"),
    ]
    arguments = {"x": tensor(*(extents[dim] for dim in order))}
    check(region_text("k", arguments, generics, ["mean", "m2", "centred"], (1, 3)))


@pytest.mark.parametrize("size", [0, 1, 17, 1000, 100_003])
def test_reductions_to_a_scalar(size):
    generics = [
        Generic("sum", (("x", (0,)),), tensor(), same(), "arith.addf"),
        Generic("mean", (("sum", ()),), tensor(), scaled(1 / max(size, 1))),
        Generic("count", (("n", (0,)),), tensor(dtype="i32"), same("i32"), "arith.addi"),
    ]
    arguments = {"x": tensor(size), "n": tensor(size, dtype="i32")}
    check(region_text("k", arguments, generics, ["sum", "mean", "count"], (0, 1)))


@pytest.mark.parametrize("dtype", ["i32", "i16", "i8"])
@pytest.mark.parametrize("combiner", ["maxsi", "minsi", "andi", "ori", "addi", "muli"])
def test_integer_reductions(dtype, combiner):
    generics = [
        Generic("y", (("x", (0, 1)),), tensor(3, dtype=dtype), same(dtype), f"arith.{combiner}")
    ]
    text = region_text("k", {"x": tensor(3, 70, dtype=dtype)}, generics, ["y"], (1, 1))
    if dtype != "i32" and combiner in ("maxsi", "minsi"):
        bits = int(dtype[1:])
        text = text.replace("-2147483648", str(-(2 ** (bits - 1)))).replace(
            "2147483647", str(2 ** (bits - 1) - 1)
        )
    check(text)


@pytest.mark.parametrize("combiner", ["maximumf", "minimumf"])
@pytest.mark.parametrize("dtype", ["bf16", "f16"])
def test_half_precision_extrema(dtype, combiner):
    kind = tensor(3, dtype=dtype)
    generics = [Generic("y", (("x", (0, 1)),), kind, same(dtype), f"arith.{combiner}")]
    text = region_text("k", {"x": tensor(3, 70, dtype=dtype)}, generics, ["y"], (1, 1))
    high = {"bf16": "7F80", "f16": "7C00"}[dtype]
    low = {"bf16": "FF80", "f16": "FC00"}[dtype]
    check(text.replace("0xFF800000", f"0x{low}").replace("0x7F800000", f"0x{high}"))


@pytest.mark.parametrize("combiner", ["andi", "ori"])
def test_reductions_of_booleans(combiner):
    body = "%t = arith.constant true\n%r = arith.xori %x0, %t : i1"
    generics = [Generic("y", (("x", (0, 1)),), tensor(9, dtype="i1"), body, f"arith.{combiner}")]
    check(region_text("k", {"x": tensor(9, 3, dtype="i1")}, generics, ["y"], (1, 1)))


ADAM = {
    "m": f"""%b = arith.constant 0.9 : f32
        %c = arith.constant 0.1 : f32
        %0 = arith.mulf %x2, %b {FAST} : f32
        %1 = arith.mulf %x1, %c {FAST} : f32
        %r = arith.addf %0, %1 {FAST} : f32""",
    "v": f"""%b = arith.constant 0.999 : f32
        %c = arith.constant 0.001 : f32
        %0 = arith.mulf %x3, %b {FAST} : f32
        %1 = arith.mulf %x1, %x1 {FAST} : f32
        %2 = arith.mulf %1, %c {FAST} : f32
        %r = arith.addf %0, %2 {FAST} : f32""",
    "p": f"""%e = arith.constant 1.0e-7 : f32
        %a = math.absf %x3 : f32
        %s = math.sqrt %a : f32
        %0 = arith.addf %s, %e : f32
        %1 = arith.mulf %x2, %x4 {FAST} : f32
        %2 = arith.divf %1, %0 {FAST} : f32
        %r = arith.subf %x0, %2 {FAST} : f32""",
}
STATE = {"w": "f32", "g": "f32", "mo": "f32", "ve": "f32", "RATE": "f32"}


def test_multi_updates_ragged_instances():
    check(multi_text("adam", STATE, [(5, 7), (1,), (), (129,), (3, 1, 2), (0,), (1000, 3)], ADAM))


def test_multi_refuses_what_is_neither_scalar_nor_elementwise():
    text = multi_text("k", {"x": "f32"}, [(2,), (3,)], {"y": same()})
    text = text.replace("%x1: tensor<3xf32>", "%x1: tensor<2xf32>")
    text = text.replace("affine_map<(d0) -> (d0)>", "affine_map<(d0) -> (0)>")
    with pytest.raises((EmitError, mlir.DialectError)):
        compiled(text)


def philox_body(columns):
    """The first Philox word of element (i, j) with a zero key, by 32 x 32 -> 64 bit products."""
    lines = [
        "%i = linalg.index 0 : index",
        "%j = linalg.index 1 : index",
        f"%columns = arith.constant {columns} : index",
        "%0 = arith.muli %i, %columns : index",
        "%1 = arith.addi %0, %j : index",
        "%wide = arith.index_cast %1 : index to i64",
        "%c0_0 = arith.trunci %wide : i64 to i32",
        "%high = arith.constant 32 : i64",
        "%shifted = arith.shrui %wide, %high : i64",
        "%c1_0 = arith.trunci %shifted : i64 to i32",
        "%c2_0 = arith.constant 0 : i32",
        "%c3_0 = arith.constant 0 : i32",
        f"%m0 = arith.constant {MULTIPLIERS[0] - 2**32} : i32",
        f"%m1 = arith.constant {MULTIPLIERS[1] - 2**32} : i32",
    ]
    for k in range(10):
        keys = [(word * k + 2**31) % 2**32 - 2**31 for word in WEYL]
        lines += [f"%k{n}_{k} = arith.constant {key} : i32" for n, key in enumerate(keys)]
        lines += [
            f"%l{n}_{k}, %h{n}_{k} = arith.mului_extended %c{2 * n}_{k}, %m{n} : i32"
            for n in (0, 1)
        ]
        for n in (0, 1):
            lines.append(f"%x{n}_{k} = arith.xori %h{1 - n}_{k}, %c{2 * n + 1}_{k} : i32")
            lines.append(f"%c{2 * n}_{k + 1} = arith.xori %x{n}_{k}, %k{n}_{k} : i32")
        lines += [
            f"%c1_{k + 1} = arith.ori %l1_{k}, %c2_0 : i32",
            f"%c3_{k + 1} = arith.ori %l0_{k}, %c2_0 : i32",
        ]
    return "\n".join([*lines, "%r = arith.extui %c0_10 : i32 to i64"])


@pytest.mark.parametrize("shape", [(1, 1), (7, 13), (40, 256)])
def test_random_bits_are_philox(shape):
    y = Generic("y", (), tensor(*shape, dtype="i64"), philox_body(shape[1]))
    _, function = kernel_of(region_text("k", {}, [y], ["y"], (2, 0)))
    (bits,) = run(function, [])
    assert torch.equal(bits.flatten(), philox(torch.zeros(2, dtype=torch.int64), bits.numel()))


@pytest.mark.parametrize("dtype", ["f64", "f32", "bf16", "f16", "i64", "i32", "i16", "i8", "i1"])
@pytest.mark.parametrize("size", [1, 31, 100])
def test_every_dtype_moves_and_selects(dtype, size):
    kind = tensor(size, dtype=dtype)
    reads = (("c", (0,)), ("a", (0,)), ("b", (0,)))
    y = Generic("y", reads, kind, f"%r = arith.select %x0, %x1, %x2 : {dtype}")
    check(region_text("k", {"c": tensor(size, dtype="i1"), "a": kind, "b": kind}, [y], ["y"]))


@pytest.mark.parametrize("dtype", ["bf16", "f16"])
def test_half_precision_rounds_as_torch_does(dtype):
    x = torch.randn(4000, generator=torch.Generator().manual_seed(0)).exp2().mul(2.0**-20)
    x = torch.cat(
        [
            x,
            torch.tensor(
                [torch.nan, torch.inf, -torch.inf, 0.0, -0.0, 3.4e38, 1e-40, 65519.0, 65520.0]
            ),
        ]
    )
    y = Generic(
        "y", (("x", (0,)),), tensor(len(x), dtype=dtype), f"%r = arith.truncf %x0 : f32 to {dtype}"
    )
    _, function = kernel_of(region_text("k", {"x": tensor(len(x))}, [y], ["y"]))
    (got,) = run(function, [x])
    torch.testing.assert_close(got, x.to(got.dtype), rtol=0, atol=0, equal_nan=True)


def test_an_output_may_take_the_place_of_an_argument():
    _, function = kernel_of(layer_norm(9, 33))
    x, gain, bias = inputs_of(function)
    expected = run(function, [x, gain, bias])
    statistics = [torch.empty(9), torch.empty(9)]
    (kernel,) = emit_llvm.compile_kernels({"k": function}).values()
    call(kernel, [x, gain, bias], [x, *statistics])
    for output, wanted in zip([x, *statistics], expected, strict=True):
        assert torch.equal(output, wanted)


@pytest.mark.parametrize(
    "text",
    [
        softmax((301,), (512,)),
        column_sums(200, 5000),
        layer_norm(700, 200),
        multi_text("k", STATE, [(300, 700), (11,), (513, 77)], ADAM),
    ],
    ids=["rows", "columns", "layer_norm", "multi"],
)
def test_threads_do_not_change_results(text):
    _, function = kernel_of(text)
    inputs = inputs_of(function)
    assert compiled(text).threads > 1
    alone, shared = run(function, inputs, 1), run(function, inputs, 3)
    assert all(torch.equal(a, b) for a, b in zip(alone, shared, strict=True))


def test_equal_kernels_are_compiled_once_and_loaded_again(monkeypatch):
    modules = {
        name: kernel_of(layer_norm(4, 8).replace("@layer_norm", f"@{name}")) for name in ("a", "b")
    }
    functions = {name: function for name, (_, function) in modules.items()}
    code = {}
    first = emit_llvm.compile_kernels(functions, code)
    assert first["a"].address == first["b"].address
    kept = dict(code)
    with monkeypatch.context() as patch:
        patch.setattr(emit_llvm.jit, "compile_objects", None)
        again = emit_llvm.compile_kernels(functions, code)
    assert code == kept
    inputs = inputs_of(functions["a"])
    outputs = [[torch.empty(4, 8), torch.empty(4), torch.empty(4)] for _ in range(2)]
    for kernel, mine in zip((first["a"], again["b"]), outputs, strict=True):
        call(kernel, inputs, mine)
    assert all(torch.equal(a, b) for a, b in zip(*outputs, strict=True))
    with pytest.raises(EmitError, match="of other kernels"):
        emit_llvm.compile_kernels({"a": functions["a"]}, code)


def test_text_of_both_stages_can_be_read():
    text = softmax((4,), (64,))
    _module, function = kernel_of(text)
    loops = emit_llvm.loops_text(function)
    assert "scf.for" in loops
    optimized = emit_llvm.jit.llvm_ir(loops)
    # The row maximum runs on vectors.
    assert " x float>" in optimized
    assert compiled(text).symbol in optimized


def test_an_unknown_op_is_named_with_its_layer():
    y = Generic("y", (("x", (0,)),), tensor(3), "%r = math.cbrt %x0 : f32")
    with pytest.raises(EmitError, match=r"math\.cbrt\(f32\) in layer model/y"):
        compiled(region_text("k", {"x": tensor(3)}, [y], ["y"]))
