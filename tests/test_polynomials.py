"""The CPU target's scalar ops: polynomials over all of float32, and every op on special values."""

import pytest
import torch
from test_emit_llvm import call, check, compiled, tensor
from triton_cases import Generic, region_text

from keras_triton.lowering.emit_llvm import polynomials

BOUND = 3e-7
HALF_DENORMAL = 2.0**-150
SPECIAL = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    -2.5,
    1e-7,
    3.5,
    80.0,
    -80.0,
    torch.nan,
    torch.inf,
    -torch.inf,
]
# A stride through all bit patterns of float32 that is coprime to 2^32.
STEP = 9973


def every_float():
    bits = torch.arange(-(2**31), 2**31, STEP, dtype=torch.int64).to(torch.int32)
    return torch.cat([bits.view(torch.float32), torch.tensor(SPECIAL)])


def evaluate(op, *inputs):
    names = ["a", "b"][: len(inputs)]
    size = len(inputs[0])
    body = f"%r = {op} {', '.join(f'%x{k}' for k in range(len(inputs)))} : f32"
    y = Generic("y", tuple((name, (0,)) for name in names), tensor(size), body)
    kernel = compiled(region_text("k", dict.fromkeys(names, tensor(size)), [y], ["y"]))
    output = torch.empty(size)
    call(kernel, inputs, [output])
    return output


def assert_within_bound(got, exact):
    rounded = exact.float()
    special = exact.isnan() | rounded.isinf()
    torch.testing.assert_close(got[special], rounded[special], rtol=0, atol=0, equal_nan=True)
    error = (got.double() - exact).abs()[~special]
    # Near the end of the range, 3e-7 above the largest float is inf.
    error = error[got[~special].isfinite()]
    limit = BOUND * exact.abs()[~special][got[~special].isfinite()]
    assert bool((error <= limit + 2 * HALF_DENORMAL).all())


@pytest.mark.parametrize("name", sorted(polynomials.INLINE - {"powf"}))
def test_polynomials_over_all_floats(name):
    x = every_float()
    if name in ("sin", "cos"):
        x = x[~(x.abs() >= 2.0**50)]
    assert_within_bound(evaluate(f"math.{name}", x), getattr(torch, name)(x.double()))


def test_powers_over_their_range_and_at_special_values():
    generator = torch.Generator().manual_seed(0)
    special = torch.tensor([*SPECIAL, 2.0, 3.0, -3.0, 1e-45, 1e38, -1e38, 16777217.0, 1.5])
    base, power = (axis.flatten() for axis in torch.meshgrid(special, special, indexing="ij"))
    x = torch.cat([base, torch.rand(50_000, generator=generator) * 10])
    y = torch.cat([power, torch.randn(50_000, generator=generator) * 20])
    assert_within_bound(evaluate("math.powf", x, y), x.double() ** y.double())


@pytest.mark.parametrize(
    "name",
    [
        "absf",
        "ceil",
        "floor",
        "roundeven",
        "sqrt",
        "rsqrt",
        "tan",
        "atan",
        "asin",
        "acos",
        "sinh",
        "cosh",
        "exp",
        "erf",
        "log1p",
        "tanh",
    ],
)
@pytest.mark.parametrize("dtype", ["f32", "f64", "bf16", "f16"])
def test_unary(name, dtype):
    x = torch.tensor(SPECIAL, dtype=torch.float64)
    x = x[:8] if name in ("sinh", "cosh", "exp") else x
    x = x.to(
        {"f32": torch.float32, "f64": torch.float64, "bf16": torch.bfloat16, "f16": torch.float16}[
            dtype
        ]
    )
    kind = tensor(len(x), dtype=dtype)
    y = Generic("y", (("x", (0,)),), kind, f"%r = math.{name} %x0 : {dtype}")
    check(region_text("k", {"x": kind}, [y], ["y"]), [x], elementwise=True)


@pytest.mark.parametrize(
    "op",
    [
        "arith.addf",
        "arith.subf",
        "arith.mulf",
        "arith.divf",
        "arith.maximumf",
        "arith.minimumf",
        "math.atan2",
    ],
)
@pytest.mark.parametrize("dtype", ["f32", "f64", "bf16"])
def test_binary(op, dtype):
    values = torch.tensor(SPECIAL).to(
        {"f32": torch.float32, "f64": torch.float64, "bf16": torch.bfloat16}[dtype]
    )
    a, b = (axis.flatten() for axis in torch.meshgrid(values, values, indexing="ij"))
    if op == "arith.divf":
        a, b = a[b.abs() != 0], b[b.abs() != 0]
    kind = tensor(len(a), dtype=dtype)
    y = Generic("y", (("a", (0,)), ("b", (0,))), kind, f"%r = {op} %x0, %x1 : {dtype}")
    check(region_text("k", {"a": kind, "b": kind}, [y], ["y"]), [a, b], elementwise=True)


@pytest.mark.parametrize("dtype", ["i8", "i32", "i64"])
@pytest.mark.parametrize(
    "name", ["addi", "subi", "muli", "andi", "ori", "xori", "maxsi", "minsi", "divsi", "remsi"]
)
def test_integers(name, dtype):
    torch_dtype = {"i8": torch.int8, "i32": torch.int32, "i64": torch.int64}[dtype]
    a = torch.tensor([-7, 7, -7, 7, 100, -100, 0, 3], dtype=torch_dtype)
    b = torch.tensor([2, -2, -2, 2, 3, 5, 1, 7], dtype=torch_dtype)
    kind = tensor(8, dtype=dtype)
    y = Generic("y", (("a", (0,)), ("b", (0,))), kind, f"%r = arith.{name} %x0, %x1 : {dtype}")
    check(region_text("k", {"a": kind, "b": kind}, [y], ["y"]), [a, b])


CASTS = [
    ("sitofp", "i64", "f32"),
    ("sitofp", "i32", "bf16"),
    ("uitofp", "i1", "f32"),
    ("fptosi", "f32", "i32"),
    ("fptosi", "f64", "i64"),
    ("extf", "bf16", "f32"),
    ("extf", "f16", "f64"),
    ("truncf", "f64", "bf16"),
    ("truncf", "f64", "f32"),
    ("extsi", "i8", "i64"),
    ("extui", "i1", "i32"),
    ("trunci", "i64", "i16"),
    ("bitcast", "f32", "i32"),
    ("bitcast", "i16", "bf16"),
]


@pytest.mark.parametrize(("name", "source", "target"), CASTS)
def test_casts(name, source, target):
    y = Generic(
        "y",
        (("x", (0,)),),
        tensor(40, dtype=target),
        f"%r = arith.{name} %x0 : {source} to {target}",
    )
    check(region_text("k", {"x": tensor(40, dtype=source)}, [y], ["y"]), elementwise=True)


@pytest.mark.parametrize(
    "predicate", ["oeq", "olt", "oge", "one", "ueq", "ugt", "une", "uno", "ord"]
)
@pytest.mark.parametrize("dtype", ["f32", "bf16"])
def test_comparisons(predicate, dtype):
    values = torch.tensor(SPECIAL).to({"f32": torch.float32, "bf16": torch.bfloat16}[dtype])
    a, b = (axis.flatten() for axis in torch.meshgrid(values, values, indexing="ij"))
    kind = tensor(len(a), dtype=dtype)
    y = Generic(
        "y",
        (("a", (0,)), ("b", (0,))),
        tensor(len(a), dtype="i1"),
        f"%r = arith.cmpf {predicate}, %x0, %x1 : {dtype}",
    )
    check(region_text("k", {"a": kind, "b": kind}, [y], ["y"]), [a, b])
