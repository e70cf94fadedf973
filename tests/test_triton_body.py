"""Every op of a body, on ordinary and on special values, against its meaning."""

import pytest
import torch
from triton_cases import Generic, check, region_text

SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.5, -2.5, 1e-7, 3.5, 80.0, -80.0, 1e30]
NOT_FINITE = [float("nan"), float("inf"), float("-inf")]
UNARY = ["negf", "absf", "ceil", "floor", "roundeven", "sqrt", "rsqrt", "erf", "exp", "exp2",
         "expm1", "log", "log1p", "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh",
         "tanh"]  # fmt: skip
BINARY = ["addf", "subf", "mulf", "divf", "remf", "maximumf", "minimumf", "powf", "atan2"]
INTEGER = ["addi", "subi", "muli", "andi", "ori", "xori", "maxsi", "minsi", "divsi", "remsi"]
ARITH = ("negf", "addf", "subf", "mulf", "divf", "remf", "maximumf", "minimumf")


def vector(count, dtype):
    return f"tensor<{count}x{dtype}>"


def pointwise(body, dtypes, result, count):
    arguments = {f"a{i}": vector(count, dtype) for i, dtype in enumerate(dtypes)}
    reads = tuple((name, (0,)) for name in arguments)
    y = Generic("y", reads, vector(count, result), body)
    return region_text("one_op", arguments, [y], ["y"])


def op_of(name):
    return f"{'arith' if name in ARITH else 'math'}.{name}"


@pytest.mark.parametrize("dtype", ["f32", "f64", "bf16"])
@pytest.mark.parametrize("name", UNARY)
def test_unary(name, dtype):
    # The trigonometric meaning of a huge angle depends on its last bit.
    values = (
        SPECIAL[:8]
        if name in ("sin", "cos", "tan", "exp2", "exp", "expm1", "sinh", "cosh")
        else SPECIAL
    )
    x = torch.tensor(values + NOT_FINITE, dtype=torch.float64)
    x = x.to({"f32": torch.float32, "f64": torch.float64, "bf16": torch.bfloat16}[dtype])
    text = pointwise(f"%r = {op_of(name)} %x0 : {dtype}", [dtype], dtype, len(x))
    check(text, inputs=[x], elementwise=True)


@pytest.mark.parametrize("name", BINARY)
def test_binary(name):
    values = torch.tensor(SPECIAL[:8] + NOT_FINITE)
    a, b = (t.flatten().contiguous() for t in torch.meshgrid(values, values, indexing="ij"))
    if name in ("powf", "divf"):
        a, b = a[b.abs() > 1e-3], b[b.abs() > 1e-3]
        a, b = a.contiguous(), b.contiguous()
    if name == "remf":
        # A remainder by 1e-7 depends on the last bit.
        keep = b.abs() > 1e-3
        a, b = a[keep].contiguous(), b[keep].contiguous()
    check(pointwise(f"%r = {op_of(name)} %x0, %x1 : f32", ["f32"] * 2, "f32", len(a)),
          inputs=[a, b], elementwise=True)  # fmt: skip


@pytest.mark.parametrize("dtype", ["i8", "i32", "i64"])
@pytest.mark.parametrize("name", INTEGER)
def test_integers(name, dtype):
    torch_dtype = {"i8": torch.int8, "i32": torch.int32, "i64": torch.int64}[dtype]
    a = torch.tensor([-7, 7, -7, 7, 100, -100, 0, 3], dtype=torch_dtype)
    b = torch.tensor([2, -2, -2, 2, 3, 5, 1, 7], dtype=torch_dtype)
    text = pointwise(f"%r = arith.{name} %x0, %x1 : {dtype}", [dtype] * 2, dtype, len(a))
    check(text, inputs=[a, b], elementwise=True)


@pytest.mark.parametrize("name", ["shli", "shrsi", "shrui"])
def test_shifts(name):
    a = torch.tensor([-7, 7, -(2**31), 2**31 - 1], dtype=torch.int32)
    text = pointwise(
        f"%c = arith.constant 3 : i32\n%r = arith.{name} %x0, %c : i32", ["i32"], "i32", 4
    )
    check(text, inputs=[a])


PREDICATES = ["oeq", "ogt", "oge", "olt", "ole", "one", "ord", "ueq", "ugt", "uge", "ult", "ule",
              "une", "uno"]  # fmt: skip


@pytest.mark.parametrize("predicate", PREDICATES)
def test_float_comparisons(predicate):
    values = torch.tensor([1.0, -1.0, float("nan"), float("inf")])
    a, b = (t.flatten().contiguous() for t in torch.meshgrid(values, values, indexing="ij"))
    text = pointwise(f"%r = arith.cmpf {predicate}, %x0, %x1 : f32", ["f32"] * 2, "i1", len(a))
    check(text, inputs=[a, b], elementwise=True)


@pytest.mark.parametrize(
    "predicate", ["eq", "ne", "slt", "sle", "sgt", "sge", "ult", "ule", "ugt", "uge"]
)
def test_integer_comparisons(predicate):
    values = torch.tensor([1, -1, 0, 2**31 - 1], dtype=torch.int32)
    a, b = (t.flatten().contiguous() for t in torch.meshgrid(values, values, indexing="ij"))
    text = pointwise(f"%r = arith.cmpi {predicate}, %x0, %x1 : i32", ["i32"] * 2, "i1", len(a))
    check(text, inputs=[a, b], elementwise=True)


CONVERSIONS = {
    "bool_to_float": ("%r = arith.uitofp %x0 : i1 to f32", "i1", "f32"),
    "bool_to_signed": ("%r = arith.sitofp %x0 : i1 to f32", "i1", "f32"),
    "bool_extended": ("%r = arith.extui %x0 : i1 to i64", "i1", "i64"),
    "bool_sign_extended": ("%r = arith.extsi %x0 : i1 to i32", "i1", "i32"),
    "unsigned": ("%r = arith.extui %x0 : i32 to i64", "i32", "i64"),
    "unsigned_float": ("%r = arith.uitofp %x0 : i32 to f64", "i32", "f64"),
    "signed": ("%r = arith.extsi %x0 : i8 to i32", "i8", "i32"),
    "truncated": ("%r = arith.trunci %x0 : i64 to i8", "i64", "i8"),
    "lowest_bit": ("%r = arith.trunci %x0 : i32 to i1", "i32", "i1"),
    "to_integer": ("%r = arith.fptosi %x0 : f32 to i32", "f32", "i32"),
    "to_half": ("%r = arith.sitofp %x0 : i32 to bf16", "i32", "bf16"),
    "bits": ("%r = arith.bitcast %x0 : f32 to i32", "f32", "i32"),
    "not": ("%t = arith.constant true\n%r = arith.xori %x0, %t : i1", "i1", "i1"),
    "nan": ("%r = math.isnan %x0 : f32", "f32", "i1"),
    "absolute": ("%r = math.absi %x0 : i32", "i32", "i32"),
    "chosen": ("%c = arith.constant 1.0 : f16\n%d = arith.constant 0.1 : f16\n"
               "%r = arith.select %x0, %c, %d : f16", "i1", "f16"),
    "double": ("%c = arith.constant 0.1 : f64\n%r = arith.mulf %x0, %c : f64", "f64", "f64"),
    "constant": ("%r = arith.constant 0.1 : f64", "f64", "f64"),
    "infinite": ("%c = arith.constant 0xFF800000 : f32\n%r = arith.maximumf %x0, %c : f32",
                 "f32", "f32"),
    "tenth": ("%c = arith.constant 4.0 : f32\n%r = arith.divf %x0, %c : f32", "f32", "f32"),
    "high": ("%c = arith.constant -766435501 : i32\n%l, %r = arith.mului_extended %x0, %c : i32",
             "i32", "i32"),
    "low": ("%c = arith.constant -766435501 : i32\n%r, %h = arith.mului_extended %x0, %c : i32",
            "i32", "i32"),
    "subscript": ("%i = linalg.index 0 : index\n%j = arith.index_cast %i : index to i64\n"
                  "%r = arith.addi %x0, %j : i64", "i64", "i64"),
    "subscript_sum": ("%i = linalg.index 0 : index\n%k = arith.addi %i, %i : index\n"
                      "%r = arith.index_cast %k : index to i32", "i32", "i32"),
}  # fmt: skip


@pytest.mark.parametrize("case", CONVERSIONS)
def test_conversions(case):
    body, dtype, result = CONVERSIONS[case]
    check(pointwise(body, [dtype], result, 37))


@pytest.mark.parametrize("combiner", ["addf", "mulf", "maximumf", "minimumf"])
@pytest.mark.parametrize("block", [32, 8])
def test_float_reductions_with_nan(combiner, block):
    x = torch.linspace(-2, 2, 5 * 19).reshape(5, 19)
    x[1, 4], x[2, 18], x[3, 0] = float("nan"), float("inf"), float("-inf")
    y = Generic(
        "y",
        (("x", (0, 1)),),
        "tensor<5xf32>",
        "%z = arith.constant 1.0 : f32\n%r = arith.mulf %x0, %z : f32",
        f"arith.{combiner}",
    )
    text = region_text("rows", {"x": "tensor<5x19xf32>"}, [y], ["y"], (1, 1))
    config = {"block_p": 2, "block_r": block, "slices": 1, "num_warps": 4, "num_stages": 2}
    check(text, config, inputs=[x], elementwise=True)


@pytest.mark.parametrize(
    ("combiner", "dtype"),
    [("addi", "i64"), ("addi", "i32"), ("maxsi", "i32"), ("minsi", "i32"), ("muli", "i32"),
     ("andi", "i1"), ("ori", "i1"), ("ori", "i32"), ("andi", "i32")],
)  # fmt: skip
@pytest.mark.parametrize("block", [32, 8])
def test_integer_reductions(combiner, dtype, block):
    body = f"%r = arith.ori %x0, %x0 : {dtype}"
    y = Generic("y", (("x", (0, 1)),), f"tensor<3x{dtype}>", body, f"arith.{combiner}")
    text = region_text("rows", {"x": f"tensor<3x19x{dtype}>"}, [y], ["y"], (1, 1))
    config = {"block_p": 2, "block_r": block, "slices": 1, "num_warps": 4, "num_stages": 2}
    check(text, config)
