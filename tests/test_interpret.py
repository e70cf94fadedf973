"""The reference interpreter on modules of the later stages, against torch and plain Python."""

from collections.abc import Callable

import pytest
import torch

from keras_triton.lowering import mlir
from keras_triton.lowering.errors import DialectError
from keras_triton.lowering.interpret import run
from keras_triton.lowering.interpret.body import BODY

BITS = 32
MASK = (1 << BITS) - 1
INTS = [0, 1, -1, 7, -8, 2**31 - 1, -(2**31), 123456789]
FLOATS = [0.25, 0.75, -0.5, 1.5, float("inf"), float("nan"), -0.0, 2.0]


def wrap(value: int) -> int:
    """A number as 32 bits of two's complement read it."""
    value &= MASK
    return value - (1 << BITS) if value >> (BITS - 1) else value


def body_module(op: str, operands: str, results: str, attributes: str = "") -> str:
    """One generic over 8 elements whose body is the op alone; it yields the op's last result."""
    kinds = operands.split()
    result = results.split()[-1]
    count = len(results.split())
    names = [f"%a{i}" for i in range(len(kinds))]
    maps = ", ".join(["#id"] * (len(kinds) + 1))
    tensors = ", ".join(f"tensor<8x{kind}>" for kind in kinds)
    arguments = ", ".join(
        f"{name}: tensor<8x{kind}>" for name, kind in zip(names, kinds, strict=True)
    )
    scalars = ", ".join(f"%s{i}: {kind}" for i, kind in enumerate(kinds))
    used = ", ".join(f"%s{i}" for i in range(len(kinds)))
    types = results.replace(" ", ", ")
    made = f"%r:{count}" if count > 1 else "%r"
    return f"""
#id = affine_map<(d0) -> (d0)>
module attributes {{keras.stage = "linalg"}} {{
  func.func @main({arguments}) -> tensor<8x{result}> {{
    %e = tensor.empty() : tensor<8x{result}>
    %y = linalg.generic {{indexing_maps = [{maps}], iterator_types = ["parallel"]}}
        ins({", ".join(names)} : {tensors}) outs(%e : tensor<8x{result}>) {{
      ^bb0({scalars}, %o: {result}):
        {made} = "{op}"({used}) {attributes} : ({", ".join(kinds)}) -> ({types})
        linalg.yield %r{f"#{count - 1}" if count > 1 else ""} : {result}
    }} -> tensor<8x{result}>
    return %y : tensor<8x{result}>
  }}
}}"""


PAIRS = [(a, b) for a in INTS for b in INTS]
INTEGER_OPS: dict[str, Callable[[int, int], int]] = {
    "addi": lambda a, b: a + b,
    "subi": lambda a, b: a - b,
    "muli": lambda a, b: a * b,
    "andi": lambda a, b: a & b,
    "ori": lambda a, b: a | b,
    "xori": lambda a, b: a ^ b,
    "maxsi": max,
    "minsi": min,
    "shli": lambda a, b: a << (b & 15),
    "shrsi": lambda a, b: a >> (b & 15),
    "shrui": lambda a, b: (a & MASK) >> (b & 15),
}


@pytest.mark.parametrize("name", INTEGER_OPS)
def test_integers_wrap(name):
    module = mlir.parse(body_module(f"arith.{name}", "i32 i32", "i32"))
    for shift in range(len(INTS)):
        a, b = INTS, INTS[shift:] + INTS[:shift]
        if name.startswith("sh"):
            b = [value & 15 for value in b]
        inputs = [torch.tensor(values, dtype=torch.int32) for values in (a, b)]
        (made,) = run(module, inputs)
        expected = [wrap(INTEGER_OPS[name](*pair)) for pair in zip(a, b, strict=True)]
        assert made.tolist() == expected


def test_products_of_32_bits_keep_both_halves():
    module = mlir.parse(body_module("arith.mului_extended", "i32 i32", "i32 i32"))
    for shift in range(len(INTS)):
        a, b = INTS, INTS[shift:] + INTS[:shift]
        (high,) = run(module, [torch.tensor(values, dtype=torch.int32) for values in (a, b)])
        expected = [wrap(((x & MASK) * (y & MASK)) >> BITS) for x, y in zip(a, b, strict=True)]
        assert high.tolist() == expected


def test_logical_shift_of_64_bits():
    module = mlir.parse(body_module("arith.shrui", "i64 i64", "i64"))
    counts = [0, 1, 2, 31, 32, 33, 62, 63]
    values = [-1, -2, 5, -(2**63), 2**62, -7, 3, -1]
    (made,) = run(module, [torch.tensor(values), torch.tensor(counts)])
    expected = [(value & (2**64 - 1)) >> count for value, count in zip(values, counts, strict=True)]
    assert [value & (2**64 - 1) for value in made.tolist()] == expected


COMPARISONS = [
    lambda a, b: a == b,
    lambda a, b: a != b,
    lambda a, b: a < b,
    lambda a, b: a <= b,
    lambda a, b: a > b,
    lambda a, b: a >= b,
]


@pytest.mark.parametrize("predicate", range(10))
def test_compare_integers(predicate):
    attributes = f"<{{predicate = {predicate} : i64}}>"
    module = mlir.parse(body_module("arith.cmpi", "i32 i32", "i1", attributes))
    unsigned = predicate >= len(COMPARISONS)
    compare = COMPARISONS[predicate - 4 if unsigned else predicate]
    b = INTS[3:] + INTS[:3]
    (made,) = run(module, [torch.tensor(values, dtype=torch.int32) for values in (INTS, b)])
    mask = MASK if unsigned else -1
    assert made.tolist() == [compare(x & mask, y & mask) for x, y in zip(INTS, b, strict=True)]


RELATIONS = {"eq": "==", "gt": ">", "ge": ">=", "lt": "<", "le": "<=", "ne": "<>"}
PREDICATES = ["false", *(f"o{name}" for name in RELATIONS), "ord"]
PREDICATES += [*(f"u{name}" for name in RELATIONS), "uno", "true"]


def holds(predicate: str, x: float, y: float) -> bool:
    """o...: false where an operand is NaN; u...: true there."""
    if predicate in ("false", "true"):
        return predicate == "true"
    if predicate in ("ord", "uno") or x != x or y != y:
        return (x != x or y != y) == (predicate[0] == "u")
    signs = RELATIONS[predicate[1:]]
    return any({"=": x == y, ">": x > y, "<": x < y}[sign] for sign in signs)


@pytest.mark.parametrize("predicate", PREDICATES)
def test_compare_floats(predicate):
    number = PREDICATES.index(predicate)
    attributes = f"<{{predicate = {number} : i64, fastmath = #arith.fastmath<none>}}>"
    module = mlir.parse(body_module("arith.cmpf", "f32 f32", "i1", attributes))
    assert predicate == "false" or f"arith.cmpf {predicate}," in str(module)
    b = FLOATS[1:] + FLOATS[:1]
    (made,) = run(module, [torch.tensor(values) for values in (FLOATS, b)])
    assert made.tolist() == [holds(predicate, x, y) for x, y in zip(FLOATS, b, strict=True)]


CASTS = [
    ("arith.extui", "i1", "i32", [True, False], [1, 0]),
    ("arith.extsi", "i1", "i32", [True, False], [-1, 0]),
    ("arith.uitofp", "i1", "f32", [True, False], [1.0, 0.0]),
    ("arith.sitofp", "i32", "f32", [-3, 2], [-3.0, 2.0]),
    ("arith.uitofp", "i32", "f32", [-1, 2], [4294967296.0, 2.0]),
    ("arith.fptosi", "f32", "i32", [-2.75, 2.75], [-2, 2]),
    ("arith.trunci", "i32", "i8", [257, -1], [1, -1]),
    ("arith.trunci", "i32", "i1", [2, 3], [False, True]),
    ("arith.bitcast", "i32", "f32", [1065353216, 0], [1.0, 0.0]),
    ("arith.bitcast", "f32", "i32", [1.0, 0.0], [1065353216, 0]),
    ("math.roundeven", "f32", "f32", [0.5, 1.5], [0.0, 2.0]),
]


@pytest.mark.parametrize(("op", "source", "target", "given", "expected"), CASTS)
def test_casts(op, source, target, given, expected):
    module = mlir.parse(body_module(op, source, target))
    dtype = mlir.TORCH_DTYPES[source]
    (made,) = run(module, [torch.tensor(given * 4, dtype=dtype)])
    assert made.dtype == mlir.TORCH_DTYPES[target]
    assert made.tolist() == expected * 4


MATH = [name.removeprefix("math.") for name in BODY if name.startswith("math.")]
TORCH_NAMES = {"roundeven": "round", "absf": "abs", "powf": "pow"}


@pytest.mark.parametrize("name", sorted(set(MATH) - {"absi", "fma"}))
def test_math(name):
    binary = name in ("powf", "atan2", "copysign")
    result = "i1" if name.startswith("is") else "f32"
    module = mlir.parse(body_module(f"math.{name}", "f32 f32" if binary else "f32", result))
    inputs = [torch.tensor(FLOATS), torch.tensor(FLOATS[2:] + FLOATS[:2])][: 1 + binary]
    function = getattr(torch, TORCH_NAMES.get(name, name))
    expected = function(*(x.double() for x in inputs))
    (made,) = run(module, inputs)
    torch.testing.assert_close(made, expected.to(made.dtype), equal_nan=True)


def test_op_without_meaning_is_refused():
    module = mlir.parse(body_module("math.ctpop", "i32", "i32"))
    with pytest.raises(DialectError, match=r"math\.ctpop has no meaning in a body"):
        run(module, [torch.zeros(8, dtype=torch.int32)])


REDUCTION = """
#in = affine_map<(d0, d1) -> (d1, d0)>
#row = affine_map<(d0, d1) -> (d0, 0)>
#out = affine_map<(d0, d1) -> (d0)>
module attributes {keras.stage = "linalg"} {
  func.func @main(%x: tensor<3x4xDTYPE>, %w: tensor<4x1xDTYPE>) -> tensor<4xDTYPE> {
    %two = arith.constant 2.0 : DTYPE
    %e = tensor.empty() : tensor<4xDTYPE>
    %i = linalg.fill ins(%two : DTYPE) outs(%e : tensor<4xDTYPE>) -> tensor<4xDTYPE>
    %y = linalg.generic
        {indexing_maps = [#in, #row, #out], iterator_types = ["parallel", "reduction"]}
        ins(%x, %w : tensor<3x4xDTYPE>, tensor<4x1xDTYPE>) outs(%i : tensor<4xDTYPE>) {
      ^bb0(%a: DTYPE, %b: DTYPE, %acc: DTYPE):
        %p = arith.mulf %a, %b : DTYPE
        %j = linalg.index 1 : index
        %k = arith.index_cast %j : index to i64
        %f = arith.sitofp %k : i64 to DTYPE
        %q = arith.addf %p, %f : DTYPE
        %s = COMBINER %acc, %q : DTYPE
        linalg.yield %s : DTYPE
    } -> tensor<4xDTYPE>
    return %y : tensor<4xDTYPE>
  }
}"""
FOLDS = {
    "arith.addf": lambda v: 2 + v.sum(0),
    "arith.mulf": lambda v: 2 * v.prod(0),
    "arith.maximumf": lambda v: v.amax(0).clamp_min(2),
    "arith.minimumf": lambda v: v.amin(0).clamp_max(2),
}


@pytest.mark.parametrize("combiner", FOLDS)
def test_reduction(combiner):
    module = mlir.parse(REDUCTION.replace("DTYPE", "f32").replace("COMBINER", combiner))
    x, w = torch.randn(3, 4), torch.randn(4, 1)
    (made,) = run(module, [x, w])
    values = x.double() * w.double().T + torch.arange(3.0, dtype=torch.float64)[:, None]
    torch.testing.assert_close(made, FOLDS[combiner](values).float())


def test_declared_dtypes_round_where_exact_does_not():
    module = mlir.parse(REDUCTION.replace("DTYPE", "bf16").replace("COMBINER", "arith.addf"))
    x, w = torch.randn(3, 4).bfloat16(), torch.randn(4, 1).bfloat16()
    values = x.double() * w.double().T + torch.arange(3.0, dtype=torch.float64)[:, None]
    exact, rounded = run(module, [x, w])[0], run(module, [x, w], exact=False)[0]
    assert exact.dtype == rounded.dtype == torch.bfloat16
    assert torch.equal(exact, (2 + values.sum(0)).bfloat16())
    products = (x * w.T) + torch.arange(3)[:, None].bfloat16()
    torch.testing.assert_close(rounded, 2 + products.sum(0))


MOVES = """
module attributes {keras.stage = "linalg"} {
  func.func @main(%x: tensor<4x6xf32>) -> (tensor<2x3xf32>, tensor<4x6xf32>, tensor<4x12xf32>,
      tensor<5x9xf32>, tensor<4x3x2xf32>, tensor<3xf32>) {
    %cut = tensor.extract_slice %x[1, 0] [2, 3] [1, 2] : tensor<4x6xf32> to tensor<2x3xf32>
    %put = tensor.insert_slice %cut into %x[2, 3] [2, 3] [1, 1]
        : tensor<2x3xf32> into tensor<4x6xf32>
    %joined = tensor.concat dim(1) %x, %x
        : (tensor<4x6xf32>, tensor<4x6xf32>) -> tensor<4x12xf32>
    %fill = arith.constant 7.0 : f32
    %padded = tensor.pad %x low[1, 0] high[0, 3] {
      ^bb0(%i: index, %j: index):
        tensor.yield %fill : f32
    } : tensor<4x6xf32> to tensor<5x9xf32>
    %wide = tensor.expand_shape %x [[0], [1, 2]] output_shape [4, 3, 2]
        : tensor<4x6xf32> into tensor<4x3x2xf32>
    %places = arith.constant dense<[2, 0, 1]> : tensor<3xi64>
    %e = tensor.empty() : tensor<3xf32>
    %taken = linalg.generic {
        indexing_maps = [affine_map<(d0) -> (d0)>, affine_map<(d0) -> (d0)>],
        iterator_types = ["parallel"]
      } ins(%places : tensor<3xi64>) outs(%e : tensor<3xf32>) {
      ^bb0(%p: i64, %o: f32):
        %r = arith.index_cast %p : i64 to index
        %c = linalg.index 0 : index
        %v = tensor.extract %x[%r, %c] : tensor<4x6xf32>
        linalg.yield %v : f32
    } -> tensor<3xf32>
    return %cut, %put, %joined, %padded, %wide, %taken : tensor<2x3xf32>, tensor<4x6xf32>,
      tensor<4x12xf32>, tensor<5x9xf32>, tensor<4x3x2xf32>, tensor<3xf32>
  }
}"""


def test_moves():
    x = torch.randn(4, 6)
    cut, put, joined, padded, wide, taken = run(mlir.parse(MOVES), [x])
    assert torch.equal(cut, x[1:3, :6:2])
    expected = x.clone()
    expected[2:4, 3:6] = cut
    assert torch.equal(put, expected)
    assert torch.equal(joined, torch.cat([x, x], 1))
    assert torch.equal(padded, torch.nn.functional.pad(x, (0, 3, 1, 0), value=7.0))
    assert torch.equal(wide, x.reshape(4, 3, 2))
    assert torch.equal(taken, x[[2, 0, 1], [0, 1, 2]])


KERNELS = """
  func.func private @scale(%x: tensor<4x3xf32>, %s: tensor<f32>) -> tensor<4x3xf32>
      attributes {keras.kernel = "loop"} {
    %e = tensor.empty() : tensor<4x3xf32>
    %y = linalg.generic {
        indexing_maps = [affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> ()>,
                         affine_map<(d0, d1) -> (d0, d1)>],
        iterator_types = ["parallel", "parallel"]
      } ins(%x, %s : tensor<4x3xf32>, tensor<f32>) outs(%e : tensor<4x3xf32>) {
      ^bb0(%a: f32, %b: f32, %o: f32):
        %p = arith.mulf %a, %b : f32
        linalg.yield %p : f32
    } -> tensor<4x3xf32>
    return %y : tensor<4x3xf32>
  }
  func.func private @product(%x: tensor<3x4xf32>, %w: tensor<4x3xf32>) -> tensor<3x3xf32>
      attributes {keras.kernel = "matmul"} {
    %y = "keras.matmul"(%x, %w) {transpose_a = false, transpose_b = false}
        : (tensor<3x4xf32>, tensor<4x3xf32>) -> tensor<3x3xf32>
    return %y : tensor<3x3xf32>
  }
"""
EXTERN = """attributes {keras.extern = {target = "aten.topk.default",
    args = "[[{\\"t\\": 0}, 2], {\\"dim\\": -1}]", reason = "no dialect op for aten.topk"}"""
REGIONS = f"""module attributes {{keras.stage = "regions"}} {{
  func.func private @ext0(tensor<3x3xf32>) -> (tensor<3x2xf32>, tensor<3x2xi64>) {EXTERN}}}
  {KERNELS}
  func.func @main(%x: tensor<4x3xf32> {{keras.name = "x", keras.donated = 1 : i64}},
      %s: tensor<f32> {{keras.name = "s"}})
      -> (tensor<3x2xf32>, tensor<4x3xf32>, tensor<3x2xi64>) {{
    %y = call @scale(%x, %s) : (tensor<4x3xf32>, tensor<f32>) -> tensor<4x3xf32>
    %flat = tensor.collapse_shape %x [[0, 1]] : tensor<4x3xf32> into tensor<12xf32>
    %r = tensor.expand_shape %flat [[0, 1]] output_shape [3, 4]
        : tensor<12xf32> into tensor<3x4xf32>
    %m = call @product(%r, %y) : (tensor<3x4xf32>, tensor<4x3xf32>) -> tensor<3x3xf32>
    %t:2 = call @ext0(%m) : (tensor<3x3xf32>) -> (tensor<3x2xf32>, tensor<3x2xi64>)
    return %t#0, %y, %t#1 : tensor<3x2xf32>, tensor<4x3xf32>, tensor<3x2xi64>
  }}
}}"""
PLAN = f"""module attributes {{keras.stage = "plan"}} {{
  module @kernels {{ {KERNELS} }}
  module @plan {{
    func.func private @scale(memref<4x3xf32>, memref<f32>, memref<4x3xf32>)
        attributes {{keras.outputs = 1 : i64}}
    func.func private @product(memref<3x4xf32>, memref<4x3xf32>, memref<3x3xf32>)
        attributes {{keras.outputs = 1 : i64}}
    func.func private @ext0(memref<3x3xf32>, memref<3x2xf32>, memref<3x2xi64>)
        {EXTERN}, keras.outputs = 2 : i64}}
    func.func @main(%x: memref<4x3xf32> {{keras.name = "x", keras.donated = 1 : i64}},
        %s: memref<f32> {{keras.name = "s"}}, %out0: memref<3x2xf32>, %out1: memref<3x2xi64>,
        %arena: memref<192xi8>) {{
      %c0 = arith.constant 0 : index
      %c64 = arith.constant 64 : index
      %c128 = arith.constant 128 : index
      %old = memref.view %arena[%c0][] : memref<192xi8> to memref<4x3xf32>
      %m = memref.view %arena[%c64][] : memref<192xi8> to memref<3x3xf32>
      %places = memref.view %arena[%c128][] : memref<192xi8> to memref<3x2xi64>
      memref.copy %x, %old : memref<4x3xf32> to memref<4x3xf32>
      call @scale(%x, %s, %x) : (memref<4x3xf32>, memref<f32>, memref<4x3xf32>) -> ()
      %flat = memref.collapse_shape %old [[0, 1]] : memref<4x3xf32> into memref<12xf32>
      %r = memref.expand_shape %flat [[0, 1]] output_shape [3, 4]
          : memref<12xf32> into memref<3x4xf32>
      call @product(%r, %x, %m) : (memref<3x4xf32>, memref<4x3xf32>, memref<3x3xf32>) -> ()
      call @ext0(%m, %out0, %places)
          : (memref<3x3xf32>, memref<3x2xf32>, memref<3x2xi64>) -> ()
      memref.copy %places, %out1 : memref<3x2xi64> to memref<3x2xi64>
      return
    }}
  }}
}}"""


@pytest.mark.parametrize("text", [REGIONS, PLAN], ids=["regions", "plan"])
def test_kernels_externs_and_buffers(text):
    x, s = torch.randn(4, 3), torch.tensor(1.5)
    given = x.clone()
    values, state, places = run(mlir.parse(text), [x, s])
    expected = (x.reshape(3, 4) @ (x * s)).topk(2, -1)
    torch.testing.assert_close(state, x * s)
    torch.testing.assert_close(values, expected.values)
    assert torch.equal(places, expected.indices)
    assert torch.equal(x, given)


def test_a_view_beyond_the_arena_is_refused():
    text = PLAN.replace("%c128 = arith.constant 128", "%c128 = arith.constant 160")
    with pytest.raises(DialectError, match="does not fit an arena of 192 bytes"):
        run(mlir.parse(text), [torch.zeros(4, 3), torch.tensor(1.0)])


def test_inputs_of_other_types_are_refused():
    with pytest.raises(DialectError, match=r"main takes \(tensor<4x3xf32>, tensor<f32>\), not"):
        run(mlir.parse(REGIONS), [torch.zeros(3, 4), torch.tensor(1.0)])
