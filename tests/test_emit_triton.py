"""Generated Triton kernels, run in the interpreter against the meaning of their regions."""

from pathlib import Path

import pytest
import torch
from test_triton_multi import sgd
from triton_cases import Generic, check, compare, inputs_of, kernel_of, region_text

from keras_triton.kernels import compile_offline
from keras_triton.kernels.device import A100, B200, H200
from keras_triton.lowering import emit_triton, interpret
from keras_triton.lowering.errors import EmitError

COPY = "%z = arith.constant 1.0 : f32\n%r = arith.mulf %x0, %z : f32"
HALF = "%c = arith.constant 0.5 : f32\n%r = arith.mulf %x0, %c : f32"
SQUARE = "%r = arith.mulf %x0, %x0 : f32"
DOUBLE = "%r = arith.addf %x0, %x0 : f32"
GOLDEN = Path(__file__).parent / "golden"
FLOATS = ["f64", "f32", "bf16", "f16"]
SIZES = [(1,), (127,), (129,), (3, 7), (2, 1, 65)]


def type_of(shape, dtype):
    return f"tensor<{''.join(f'{extent}x' for extent in shape)}{dtype}>"


def widened(body, dtype, inputs):
    """A body over f32 values %v0..., of inputs in `dtype`, rounding %w to %r."""
    if dtype in ("f64", "f32"):
        for i in range(inputs):
            body = body.replace(f"%v{i}", f"%x{i}")
        return body.replace("%w", "%r").replace("f32", dtype)
    wide = "".join(f"%v{i} = arith.extf %x{i} : {dtype} to f32\n" for i in range(inputs))
    return f"{wide}{body}\n%r = arith.truncf %w : f32 to {dtype}"


SWISH = """%one = arith.constant 1.0 : f32
%s = arith.addf %v0, %v1 : f32
%n = arith.negf %s : f32
%e = math.exp %n : f32
%p = arith.addf %e, %one : f32
%w = arith.divf %s, %p : f32"""


def swish(shape, dtype):
    rank = len(shape)
    arguments = {"x": type_of(shape, dtype), "bias": type_of(shape[-1:], dtype)}
    reads = (("x", tuple(range(rank))), ("bias", (rank - 1,)))
    y = Generic("y", reads, type_of(shape, dtype), widened(SWISH, dtype, 2))
    return region_text("swish", arguments, [y], ["y"])


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", SIZES)
def test_pointwise(shape, dtype):
    check(swish(shape, dtype))


def softmax(rows, columns, dtype="f32"):
    """Softmax over `columns` of x scaled per row, half its row maxima, and its logarithmic sum."""
    p, r = len(rows), len(columns)
    full, row = type_of((*rows, *columns), dtype), type_of(rows, "f32")
    every, mine = tuple(range(p + r)), tuple(range(p))
    wide = "" if dtype == "f32" else f"%v = arith.extf %x0 : {dtype} to f32\n"
    value = "%x0" if dtype == "f32" else "%v"
    scaled = f"{wide}%r = arith.mulf {value}, %x1 : f32"
    exp = type_of((*rows, *columns), "f32")
    generics = [
        Generic("scaled", (("x", every), ("t", mine)), exp, scaled),
        Generic("top", (("scaled", every),), row, DOUBLE, "arith.maximumf"),
        Generic("half", (("top", mine),), row, HALF),
        Generic(
            "e",
            (("scaled", every), ("half", mine)),
            exp,
            "%d = arith.subf %x0, %x1 : f32\n%r = math.exp %d : f32",
        ),
        Generic("total", (("e", every),), row, COPY, "arith.addf"),
        Generic(
            "lse",
            (("total", mine), ("half", mine)),
            row,
            "%l = math.log %x0 : f32\n%r = arith.addf %l, %x1 : f32",
        ),
        Generic(
            "y",
            (("e", every), ("total", mine)),
            full,
            "%q = arith.divf %x0, %x1 : f32\n"
            + (
                f"%r = arith.truncf %q : f32 to {dtype}"
                if dtype != "f32"
                else "%c = arith.constant 1.0 : f32\n%r = arith.mulf %q, %c : f32"
            ),
        ),
    ]
    arguments = {"x": full, "t": row}
    return region_text("softmax_like", arguments, generics, ["y", "half", "lse"], (p, r))


def loop(block_p, block_r, slices=1):
    return {
        "block_p": block_p,
        "block_r": block_r,
        "slices": slices,
        "num_warps": 4,
        "num_stages": 2,
    }


@pytest.mark.parametrize(
    "config", [None, loop(4, 64), loop(2, 16), loop(1, 16, 2), loop(4, 8, 8)], ids=str
)
@pytest.mark.parametrize(("rows", "columns"), [((5,), (37,)), ((2, 3), (4, 8)), ((), (50,))])
def test_reductions(rows, columns, config):
    if config and not rows:
        config = config | {"block_p": 1}
    check(softmax(rows, columns), config)


@pytest.mark.parametrize("config", [loop(2, 16, 2), loop(1, 1, 4), loop(4, 8, 4)], ids=str)
def test_slices_that_reach_beyond_rows_of_whole_tiles(config):
    """48 columns are whole tiles, yet two slices of two tiles of 16 cover 64."""
    check(softmax((5,), (48 if config["block_r"] > 1 else 33,)), config)


@pytest.mark.parametrize("dtype", ["bf16", "f16"])
@pytest.mark.parametrize("config", [None, loop(2, 16, 2)], ids=["whole", "split"])
def test_half_precision_rows(dtype, config):
    check(softmax((7,), (33,), dtype), config)


@pytest.mark.parametrize("config", [None, loop(8, 8), loop(16, 4, 4)], ids=str)
@pytest.mark.parametrize("shape", [(33, 19), (3, 11, 19)])
def test_column_sums(shape, config):
    """The sum over all leading axes, as a bias gradient takes it, and its double."""
    *leading, columns = shape
    every = (*range(1, len(shape)), 0)
    row = f"tensor<{columns}xf32>"
    generics = [
        Generic("total", (("g", every),), row, COPY, "arith.addf"),
        Generic("twice", (("total", (0,)),), row, DOUBLE),
    ]
    arguments = {"g": type_of(shape, "f32")}
    text = region_text("bias_grad", arguments, generics, ["total", "twice"], (1, len(leading)))
    check(text, config)


def test_batch_statistics():
    """Mean, variance and normalized values of columns: two levels, then a pass over all."""
    rows, columns = 70, 12
    matrix, row = type_of((rows, columns), "f32"), type_of((columns,), "f32")
    turned = type_of((columns, rows), "f32")
    scale = f"%n = arith.constant {1 / rows} : f32\n%r = arith.mulf %x0, %n : f32"
    generics = [
        Generic("total", (("x", (1, 0)),), row, COPY, "arith.addf"),
        Generic("mean", (("total", (0,)),), row, scale),
        Generic(
            "centred", (("x", (1, 0)), ("mean", (0,))), turned, "%r = arith.subf %x0, %x1 : f32"
        ),
        Generic("squares", (("centred", (0, 1)),), row, SQUARE, "arith.addf"),
        Generic("variance", (("squares", (0,)),), row, scale),
        Generic("moving", (("m", (0,)), ("variance", (0,))), row, "%r = arith.addf %x0, %x1 : f32"),
        Generic(
            "y",
            (("centred", (0, 1)), ("variance", (0,))),
            turned,
            "%d = math.rsqrt %x1 : f32\n%r = arith.mulf %x0, %d : f32",
        ),
    ]
    text = region_text(
        "batch_norm", {"x": matrix, "m": row}, generics, ["y", "mean", "moving"], (1, 1)
    )
    for config in (None, loop(4, 16), loop(16, 8, 4)):
        check(text, config)


def test_permuted_and_broadcast_reads():
    kind = "tensor<3x4x5xf32>"
    arguments = {
        "turned": "tensor<5x3x4xf32>", "middle": "tensor<4xf32>", "first": "tensor<3x1x1xf32>",
        "pair": "tensor<4x5xf32>", "corner": "tensor<3x1x5xf32>", "one": "tensor<f32>",
    }  # fmt: skip
    reads = (
        ("turned", (2, 0, 1)), ("middle", (1,)), ("first", (0, None, None)), ("pair", (1, 2)),
        ("corner", (0, None, 2)), ("one", ()),
    )  # fmt: skip
    body = "%s0 = arith.addf %x0, %x1 : f32\n" + "".join(
        f"%s{i} = arith.mulf %s{i - 1}, %x{i + 1} : f32\n" for i in range(1, 4)
    )
    y = Generic("y", reads, kind, f"{body}%r = arith.addf %s3, %x5 : f32")
    check(region_text("reads", arguments, [y], ["y"]))


def test_full_values_of_rows_and_columns_only():
    """Reductions of values that do not vary along all of the tile."""
    row, column = "tensor<6xf32>", "tensor<8xf32>"
    generics = [
        Generic("rows", (("a", (0,)), ("k", (1,))), row, DOUBLE, "arith.addf"),
        Generic(
            "columns",
            (("a", (0,)), ("k", (1,))),
            row,
            "%r = arith.addf %x1, %x1 : f32",
            "arith.addf",
        ),
        Generic(
            "count", (("a", (0,)), ("k", (1,))), row, "%r = arith.constant 1.0 : f32", "arith.addf"
        ),
    ]
    text = region_text(
        "thin", {"a": row, "k": column}, generics, ["rows", "columns", "count"], (1, 1)
    )
    for config in (loop(4, 8), loop(4, 2), loop(4, 2, 2)):
        check(text, config)


def test_scalars():
    body = "%c = arith.constant 1 : i64\n%r = arith.addi %x0, %c : i64"
    step = Generic("next", (("step", ()),), "tensor<i64>", body)
    check(region_text("count", {"step": "tensor<i64>"}, [step], ["next"]))


def test_loss_mean():
    """A reduction of everything to one number, in one program and in several."""
    body = "%e = arith.subf %x0, %x1 : f32\n%r = arith.mulf %e, %e : f32"
    total = Generic("total", (("y", (0, 1)), ("t", (0, 1))), "tensor<f32>", body, "arith.addf")
    mean = Generic("mean", (("total", ()),), "tensor<f32>",
                   "%n = arith.constant 0.01 : f32\n%r = arith.mulf %x0, %n : f32")  # fmt: skip
    arguments = {"y": "tensor<50x37xf32>", "t": "tensor<50x37xf32>"}
    text = region_text("mse", arguments, [total, mean], ["mean"], (0, 2))
    for config in (None, loop(1, 256), loop(1, 128, 8)):
        check(text, config)


def test_nothing_to_do():
    empty = Generic("y", (("x", (0,)),), "tensor<0xf32>", DOUBLE)
    check(region_text("empty", {"x": "tensor<0xf32>"}, [empty], ["y"]))
    total = Generic("y", (("x", (0, 1)),), "tensor<3xf32>", COPY, "arith.addf")
    check(region_text("sums", {"x": "tensor<3x0xf32>"}, [total], ["y"], (1, 1)))


@pytest.mark.parametrize(
    "config", [None, loop(2, 16), loop(2, 16, 2)], ids=["whole", "loop", "split"]
)
def test_in_place(config):
    """An output may lie where an input does that is read where it is written."""
    module, function = kernel_of(softmax((5,), (37,)))
    loaded = emit_triton.load(emit_triton.emit(function, config))
    x, t = inputs_of(function)
    expected = interpret.run(module, [x, t])
    loaded.run([x, t, x, t, torch.empty(5)], interpret=True)
    compare(x, expected[0])
    compare(t, expected[1])


def test_offsets_beyond_31_bits_are_64_bits_wide():
    """A tensor of 3 G elements, of which nothing is allocated."""
    big = "tensor<65536x49152xbf16>"
    body = widened("%w = arith.addf %v0, %v0 : f32", "bf16", 1)
    y = Generic("y", (("x", (0, 1)),), big, body)
    _module, function = kernel_of(region_text("big", {"x": big}, [y], ["y"]))
    assert "tl.program_id(0).to(tl.int64)" in emit_triton.emit(function).source


def test_random_words_are_the_reference_ones():
    """One round of Philox on the element's index: unsigned products of 32 bits."""
    body = """%i = linalg.index 0 : index
%c = arith.index_cast %i : index to i32
%m = arith.constant -766435501 : i32
%low, %high = arith.mului_extended %c, %m : i32
%k = arith.trunci %x0 : i64 to i32
%w = arith.xori %high, %k : i32
%e = arith.constant 8 : i32
%s = arith.shrui %w, %e : i32
%f = arith.uitofp %s : i32 to f32
%u = arith.constant 5.9604644775390625e-08 : f32
%r = arith.mulf %f, %u : f32"""
    y = Generic("y", (("key", ()),), "tensor<1000xf32>", body)
    text = region_text("draw", {"key": "tensor<i64>"}, [y], ["y"])
    check(text, inputs=[torch.tensor(2**31 + 12345)], elementwise=True)


def test_what_triton_cannot_express_is_named():
    y = Generic("y", (("x", (0,)),), "tensor<4xf32>", "%r = math.cbrt %x0 : f32")
    _module, function = kernel_of(region_text("root", {"x": "tensor<4xf32>"}, [y], ["y"]))
    with pytest.raises(EmitError, match=r"math\.cbrt on f32.*Triton"):
        emit_triton.emit(function)


def test_unknown_configurations_are_refused():
    _module, function = kernel_of(swish((64,), "f32"))
    with pytest.raises(ValueError, match="block_p"):
        emit_triton.emit(function, loop(3, 1))


SOURCES = {
    "pointwise": lambda: (swish((64, 10), "bf16"), None),
    "softmax": lambda: (softmax((60,), (1000,)), None),
    "columns": lambda: (column_sum(4096, 64), loop(32, 64, 16)),
    "multi": lambda: (sgd(), None),
}


def column_sum(rows, columns):
    total = Generic("total", (("g", (1, 0)),), f"tensor<{columns}xf32>", COPY, "arith.addf")
    arguments = {"g": type_of((rows, columns), "f32")}
    return region_text("bias_grad", arguments, [total], ["total"], (1, 1))


@pytest.mark.parametrize("name", SOURCES)
def test_source_stays_as_it_is(name):
    """The text a person reads; after a change of the emitter, read the difference."""
    text, config = SOURCES[name]()
    _module, function = kernel_of(text)
    source = emit_triton.emit(function, config).source
    golden = GOLDEN / f"triton_{name}.py.txt"
    assert source == golden.read_text(), f"{golden} differs from:\n{source}"


@pytest.mark.parametrize(
    ("name", "capability"), [(name, 90) for name in SOURCES] + [("softmax", 80), ("softmax", 100)]
)
def test_compiles_without_spills(name, capability):
    text, config = SOURCES[name]()
    _module, function = kernel_of(text)
    loaded = emit_triton.load(emit_triton.emit(function, config))
    for launch in loaded.program.launches:
        assert compile_offline(launch, loaded.dtypes(), capability).spills == 0


def test_the_first_guess_is_in_the_space():
    for make in SOURCES.values():
        _module, function = kernel_of(make()[0])
        space, problem = emit_triton.space(function)
        for device in (A100, H200, B200):
            guess = space.guess(problem, device)
            assert space.refuse(guess, problem, device) is None
            assert space.parse(space.record(guess)) == guess
