"""canonicalize-keras against its golden file, and rewrites that must not happen."""

from pathlib import Path

import pytest
import torch
from mlir import ir

from keras_triton.lowering import mlir
from keras_triton.lowering.interpret import run
from keras_triton.lowering.passes.base import PassError
from keras_triton.lowering.passes.canonicalize_keras import CanonicalizeKeras
from keras_triton.lowering.pipeline import lower

GOLDEN = Path(__file__).parent / "golden"
INF, NAN = float("inf"), float("nan")


def names(module: ir.Module) -> list[str]:
    main = mlir.functions(module)["main"]
    return [op.operation.name for op in main.regions[0].blocks[0].operations][:-1]


def main_of(body: str, x: str, result: str) -> ir.Module:
    return mlir.parse(
        f'module attributes {{keras.stage = "keras"}} {{ '
        f'func.func @main(%x: {x} {{keras.name = "x"}}) -> {result} {{ {body} '
        f"return %y : {result} }} }}"
    )


def test_golden():
    given = mlir.parse((GOLDEN / "canonicalize_keras.in.mlir").read_text())
    before = mlir.text(given)
    made = CanonicalizeKeras().run(given)
    assert str(made).strip() == (GOLDEN / "canonicalize_keras.out.mlir").read_text().strip()
    assert mlir.text(given) == before
    assert str(CanonicalizeKeras().run(made)) == str(made)
    main = mlir.functions(made)["main"]
    layers = [mlir.layer_of(op) for op in main.regions[0].blocks[0].operations]
    assert layers[:3] == ["m/dense", "m/dense", "m/erfinv"]
    inputs = [torch.rand(2, 3) * 0.1 - 3, torch.randn(3), torch.arange(3, dtype=torch.int32)]
    for new, old in zip(run(made, inputs), run(given, inputs), strict=True):
        assert torch.equal(new, old)


def test_other_stages_are_refused():
    text = 'module attributes {keras.stage = "linalg"} { func.func @main() { return } }'
    with pytest.raises(PassError, match="takes a module of stage 'keras', not 'linalg'"):
        CanonicalizeKeras().run(mlir.parse(text))


FULL = '"keras.full"() {{value = {value}, shape = array<i64>, dtype = "{dtype}"}} : () -> {kind}'


def pair(op: str, value: str, dtype: str = "f32") -> str:
    kind = f"tensor<{dtype}>"
    full = FULL.format(value=value, dtype=dtype, kind=kind)
    return (
        f'%n = {full} %y = "keras.{op}"(%x, %n) : (tensor<5x{dtype}>, {kind}) -> tensor<5x{dtype}>'
    )


SPECIAL = torch.tensor([0.0, -0.0, INF, -INF, NAN])


@pytest.mark.parametrize(
    ("op", "value", "gone"),
    [
        ("mul", "1.0 : f64", True),
        ("div", "1.0 : f64", True),
        ("sub", "0.0 : f64", True),
        ("add", "-0.0 : f64", True),
        ("add", "0.0 : f64", False),
        ("sub", "-0.0 : f64", False),
        ("mul", "0.0 : f64", False),
        ("pow", "1.0 : f64", True),
        ("maximum", "0.0 : f64", False),
    ],
)
def test_neutral_numbers_keep_special_values(op, value, gone):
    module = main_of(pair(op, value), "tensor<5xf32>", "tensor<5xf32>")
    made = CanonicalizeKeras().run(module)
    assert (f"keras.{op}" not in names(made)) == gone
    (expected,), (got,) = run(module, [SPECIAL], exact=False), run(made, [SPECIAL], exact=False)
    torch.testing.assert_close(got, expected, equal_nan=True, rtol=0, atol=0)
    assert torch.equal(got.nan_to_num().signbit(), expected.nan_to_num().signbit())


def test_integer_zero_is_neutral():
    made = CanonicalizeKeras().run(
        main_of(pair("add", "0 : i64", "i32"), "tensor<5xi32>", "tensor<5xi32>")
    )
    assert names(made) == []


@pytest.mark.parametrize(
    ("first", "middle", "last", "merged"),
    [
        ("i32", "i64", "f32", True),
        ("i32", "f32", "i64", False),
        ("f32", "f16", "f32", False),
        ("bf16", "f32", "f16", True),
        ("i1", "f32", "i32", True),
        ("f32", "i1", "f32", False),
        ("f16", "bf16", "f32", False),
        ("i8", "f16", "i32", True),
        ("f32", "f64", "i1", True),
    ],
)
def test_casts_merge_only_through_wider_types(first, middle, last, merged):
    x = f"tensor<5x{first}>"
    body = (
        f'%c = "keras.cast"(%x) {{dtype = "{middle}"}} : ({x}) -> tensor<5x{middle}> '
        f'%y = "keras.cast"(%c) {{dtype = "{last}"}} : (tensor<5x{middle}>) -> tensor<5x{last}>'
    )
    made = CanonicalizeKeras().run(main_of(body, x, f"tensor<5x{last}>"))
    assert len(names(made)) == (1 if merged else 2)


def test_random_numbers_of_one_key_are_drawn_once():
    draw = '"keras.random_uniform"(%x) {shape = array<i64: 4>} : (tensor<2xi64>) -> tensor<4xf32>'
    body = (
        f"%a = {draw} %b = {draw} "
        f'%y = "keras.add"(%a, %b) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>'
    )
    made = CanonicalizeKeras().run(main_of(body, "tensor<2xi64>", "tensor<4xf32>"))
    assert names(made) == ["keras.random_uniform", "keras.add"]


def test_equal_externs_stay_two():
    """An op that torch runs may draw random numbers."""
    text = """module attributes {keras.stage = "keras"} {
      func.func private @ext0() -> tensor<4xf32> attributes {keras.extern =
        {target = "aten.rand.default", args = "[[[4]]]", reason = "no dialect op for aten.rand"}}
      func.func @main() -> tensor<4xf32> {
        %a = call @ext0() : () -> tensor<4xf32>
        %b = call @ext0() : () -> tensor<4xf32>
        %y = "keras.sub"(%a, %b) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
        return %y : tensor<4xf32>
      }
    }"""
    made = CanonicalizeKeras().run(mlir.parse(text))
    assert names(made) == ["func.call", "func.call", "keras.sub"]


def test_unit_axes_that_broadcast_twice_settle():
    row, tall, deep = "tensor<1x3xf32>", "tensor<2x3xf32>", "tensor<1x2x3xf32>"
    body = f"""
      %r = "keras.reshape"(%x) {{shape = array<i64: 1, 3>}} : (tensor<3xf32>) -> {row}
      %b = "keras.broadcast_to"(%r) {{shape = array<i64: 2, 3>}} : ({row}) -> {tall}
      %c = "keras.reshape"(%b) {{shape = array<i64: 1, 2, 3>}} : ({tall}) -> {deep}
      %y = "keras.broadcast_to"(%c) {{shape = array<i64: 4, 2, 3>}} : ({deep}) -> tensor<4x2x3xf32>
    """
    module = main_of(body, "tensor<3xf32>", "tensor<4x2x3xf32>")
    made = CanonicalizeKeras().run(module)
    assert names(made) == ["keras.broadcast_in_dim"]
    x = torch.randn(3)
    assert torch.equal(run(made, [x])[0], x.expand(4, 2, 3))


SLICE = (
    '"keras.slice"(%x) {starts = array<i64: 0>, limits = array<i64: 0>, strides = array<i64: 2>}'
)
NOTHING = {
    "a slice of no elements": (f"%y = {SLICE} : (tensor<5xf32>) -> tensor<0xf32>", "0xf32"),
    "a sum of none": (
        f"%n = {SLICE} : (tensor<5xf32>) -> tensor<0xf32> "
        '%y = "keras.sum"(%n) {axes = array<i64: 0>} : (tensor<0xf32>) -> tensor<f32>',
        "f32",
    ),
    "a product of none": (
        f"%n = {SLICE} : (tensor<5xf32>) -> tensor<0xf32> "
        '%y = "keras.prod"(%n) {axes = array<i64: 0>} : (tensor<0xf32>) -> tensor<f32>',
        "f32",
    ),
    "a pad of none": (
        f"%n = {SLICE} : (tensor<5xf32>) -> tensor<0xf32> "
        '%y = "keras.pad"(%n) {low = array<i64: 1>, high = array<i64: 2>, value = 7.0 : f64} '
        ": (tensor<0xf32>) -> tensor<3xf32>",
        "3xf32",
    ),
    "a matrix product over none": (
        f"%n = {SLICE} : (tensor<5xf32>) -> tensor<0xf32> "
        '%a = "keras.reshape"(%n) {shape = array<i64: 4, 0>} : (tensor<0xf32>) -> tensor<4x0xf32> '
        '%b = "keras.reshape"(%n) {shape = array<i64: 0, 3>} : (tensor<0xf32>) -> tensor<0x3xf32> '
        '%y = "keras.matmul"(%a, %b) {transpose_a = false, transpose_b = false} '
        ": (tensor<4x0xf32>, tensor<0x3xf32>) -> tensor<4x3xf32>",
        "4x3xf32",
    ),
}


@pytest.mark.parametrize(("body", "kind"), NOTHING.values(), ids=NOTHING)
def test_what_has_no_elements_is_not_computed(body, kind):
    given = main_of(body, "tensor<5xf32>", f"tensor<{kind}>")
    made = CanonicalizeKeras().run(given)
    assert names(made) == ["keras.full"]
    assert torch.equal(run(made, [torch.ones(5)])[0], run(given, [torch.ones(5)])[0])
    assert torch.equal(run(lower(given), [torch.ones(5)])[0], run(given, [torch.ones(5)])[0])


def test_a_join_with_nothing_is_the_other_part():
    body = (
        f"%n = {SLICE} : (tensor<5xf32>) -> tensor<0xf32> "
        '%y = "keras.concat"(%n, %x) {axis = 0 : i64} : (tensor<0xf32>, tensor<5xf32>) -> tensor<5xf32>'
    )
    assert names(CanonicalizeKeras().run(main_of(body, "tensor<5xf32>", "tensor<5xf32>"))) == []
