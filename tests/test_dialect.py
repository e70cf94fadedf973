"""Each op of the keras dialect: built, verified, printed, parsed, refused, and what it means."""

import pytest
import torch
from dialect_cases import CASES
from mlir import ir

from keras_triton.lowering import dialect, mlir
from keras_triton.lowering.errors import DialectError
from keras_triton.lowering.mlir import TensorType


def declared(name: str) -> list[TensorType]:
    """The case's operand types; attention's log-sum-exp is f32 whatever the dtype of the rest."""
    types = [TensorType.of_torch(tensor) for tensor in CASES[name].inputs]
    if name == "attention_grad":
        types[-1] = types[-1].with_dtype("f32")
    return types


def module_of(name: str) -> ir.Module:
    """A module whose main is the case's op alone."""
    types = declared(name)
    with mlir.context(), ir.Location.unknown():
        arguments = ", ".join(f"%a{i}: {kind}" for i, kind in enumerate(types))
        header = 'module attributes {keras.stage = "keras"}'
        module = ir.Module.parse(f"{header} {{ func.func @main({arguments}) {{ return }} }}")
        block = mlir.functions(module)["main"].regions[0].blocks[0]
        with ir.InsertionPoint.at_block_begin(block):
            attributes = CASES[name].attributes
            dialect.build(name, list(block.arguments), attributes, loc=ir.Location.name("m/dense"))
    return module


def op_of(module: ir.Module) -> ir.Operation:
    return mlir.functions(module)["main"].regions[0].blocks[0].operations[0].operation


def test_each_op_has_a_case():
    mlir.context()
    assert set(CASES) == set(dialect.OPS)


@pytest.mark.parametrize("name", CASES)
def test_op(name):
    module = module_of(name)
    dialect.verify(module)
    text = mlir.text(module)
    again = mlir.parse(text)
    assert mlir.text(again) == text
    assert mlir.layer_of(op_of(again)) == "m/dense"
    case = CASES[name]
    results = dialect.evaluate(op_of(again), case.inputs)
    case.check(case.inputs, results)
    types = [TensorType.of(value) for value in op_of(again).results]
    assert [kind.shape for kind in types] == [tuple(value.shape) for value in results]
    floats = [kind.is_float for kind in types]
    assert floats == [value.is_floating_point() for value in results]


WINDOW = {"strides": (1, 1), "pads": (0, 0, 0, 0), "dilations": (1, 1), "groups": 1}
F32, I64 = "f32", "i64"
REFUSED = [
    ("add", [((2, 3), F32), ((4,), F32)], {}, "do not broadcast"),
    ("add", [((2,), F32), ((2,), I64)], {}, "share one element type"),
    ("add", [((2,), "i1")] * 2, {}, "not bools"),
    ("add", [((2,), F32)], {}, "takes 2 operands"),
    ("exp", [((2,), I64)], {}, "must be floating point"),
    ("exp", [((2,), F32)], {"base": 2}, "takes the attributes"),
    ("bitwise_and", [((2,), F32)] * 2, {}, "integers or bools"),
    ("logical_not", [((2,), F32)], {}, "must be bools"),
    ("select", [((2,), F32)] * 3, {}, "condition must be bool"),
    ("cast", [((2,), F32)], {"dtype": "u8"}, "dtype must be one of"),
    ("sum", [((2,), F32)], {"axes": (1,)}, "within rank"),
    ("sum", [((2,), F32)], {"axes": ()}, "at least one axis"),
    ("any", [((2,), F32)], {"axes": (0,)}, "must be bool"),
    ("reshape", [((2, 3), F32)], {"shape": (4,)}, "do not fill"),
    ("broadcast_to", [((2, 3), F32)], {"shape": (3,)}, "does not broadcast to"),
    ("broadcast_in_dim", [((2, 3), F32)], {"shape": (2, 3), "dims": (1, 0)}, "ascending"),
    ("broadcast_in_dim", [((2,), F32)], {"shape": (3, 4), "dims": (0,)}, "does not broadcast to"),
    ("transpose", [((2, 3), F32)], {"permutation": (0, 0)}, "each axis"),
    ("slice", [((4,), F32)], {"starts": (1,), "limits": (5,), "strides": (1,)}, "does not lie"),
    ("concat", [((2, 3), F32), ((3, 3), F32)], {"axis": 1}, "b must be"),
    ("pad", [((2,), F32)], {"low": (-1,), "high": (0,), "value": 0.0}, "low must be"),
    (
        "matmul",
        [((2, 3), F32), ((2, 4), F32)],
        {"transpose_a": False, "transpose_b": False},
        "inner extents",
    ),
    (
        "batch_matmul",
        [((2, 3, 3), F32), ((4, 3, 3), F32)],
        {"transpose_a": False, "transpose_b": False},
        "batches",
    ),
    (
        "attention",
        [((1, 2, 3, 4), F32), ((1, 2, 3, 4), F32), ((1, 2, 5, 4), F32), ((1, 1, 1, 1), F32)],
        {"scale": 1.0, "causal": False},
        "v must be",
    ),
    ("conv2d", [((1, 5, 5, 3), F32), ((3, 3, 2, 4), F32)], WINDOW, "do not fit"),
    ("conv2d", [((1, 2, 2, 3), F32), ((3, 3, 3, 4), F32)], WINDOW, "larger than"),
    (
        "max_pool2d",
        [((1, 4, 4, 2), F32)],
        {"window": (2, 2), "strides": (2, 2), "pads": (2, 0, 0, 0)},
        "no element",
    ),
    ("layer_norm", [((2, 3), F32), ((2,), F32), ((3,), F32)], {"epsilon": 0.1}, "weight must be"),
    ("cross_entropy", [((2, 3), F32), ((2,), "i32")], {}, "target must be"),
    (
        "linear_cross_entropy",
        [((2, 3), F32), ((4, 3), F32), ((4,), F32), ((2,), I64)],
        {"transpose_w": False},
        "inner extents",
    ),
    (
        "linear_cross_entropy",
        [((2, 3), F32), ((4, 3), F32), ((3,), F32), ((2,), I64)],
        {"transpose_w": True},
        "an element for each class",
    ),
    (
        "linear_cross_entropy_input_grad",
        [((2, 3), F32), ((3, 4), F32), ((1,), F32), ((2,), I64), ((2,), F32), ((3,), F32)],
        {"transpose_w": False},
        "g must be",
    ),
    ("gather", [((2, 3), F32), ((2,), F32)], {"axis": 0}, "i32 or i64"),
    ("gather", [((2, 0), F32), ((2,), I64)], {"axis": 1}, "nothing to look up"),
    ("scatter", [((2, 3), F32), ((3,), I64)], {"rows": 4, "fold": "sum"}, "a row for each index"),
    ("scatter", [((2, 3), F32), ((2,), I64)], {"rows": 4, "fold": "mean"}, "one of sum, prod"),
    ("cumulate", [((2, 3), F32)], {"axis": 2, "fold": "sum"}, "within rank 2"),
    ("cumulate", [((2, 3), F32)], {"axis": 0, "fold": "mean"}, "one of sum, prod"),
    ("sort", [((), F32)], {"descending": True}, "an axis to sort along"),
    ("top", [((2, 3), F32)], {"k": 4, "descending": True}, "from 1 to 64"),
    ("dropout", [((2, 3), F32), ((3,), I64)], {"rate": 0.5}, "key must be"),
    ("random_uniform", [((2,), F32)], {"shape": (3,)}, "key must be"),
]


@pytest.mark.parametrize(("name", "operands", "attributes", "reason"), REFUSED)
def test_refused(name, operands, attributes, reason):
    types = [TensorType(*operand) for operand in operands]
    mlir.context()
    with pytest.raises(DialectError) as caught:
        dialect.infer(dialect.OPS[name], types, attributes, "m/dense")
    sentence = str(caught.value)
    assert reason in sentence
    assert f"keras.{name}(" in sentence
    assert "layer m/dense" in sentence
    for kind in types:
        assert str(kind) in sentence


def test_a_single_index_looks_up_along_the_last_axis():
    mlir.context()  # defines the ops
    x = torch.arange(6).reshape(2, 3)
    (made,) = dialect.OPS["gather"].reference([x, torch.tensor(2)], {"axis": 1})
    assert made.tolist() == [2, 5]


def test_the_gradient_of_one_filter_in_half_precision_has_a_meaning():
    mlir.context()  # defines the ops
    x, g = torch.ones(2, 4, 5, 4).bfloat16(), torch.ones(2, 3, 5, 1).bfloat16()
    window = {"strides": (2, 1), "pads": (1, 1, 2, 0), "dilations": (1, 1), "groups": 1}
    reference = dialect.OPS["conv2d_kernel_grad"].reference
    (made,) = reference([g, x], window | {"shape": (2, 3, 4, 1)})
    (wanted,) = reference([g.double(), x.double()], window | {"shape": (2, 3, 4, 1)})
    assert torch.equal(made.double(), wanted)


def test_text_with_wrong_result_type_is_refused():
    text = mlir.text(module_of("matmul")).replace("-> tensor<3x5xf64>", "-> tensor<3x4xf64>")
    with pytest.raises(DialectError, match="gives tensor<3x5xf64>, but the module says"):
        mlir.parse(text)


def test_unknown_op_is_refused():
    with mlir.context(), pytest.raises(DialectError, match=r"keras\.absent is not an op"):
        dialect.build("absent", [])


def test_second_definition_is_refused():
    mlir.context()
    with pytest.raises(DialectError, match="defined twice"):
        dialect.define("add", "a b", dialect.OPS["add"].infer)(torch.add)


def test_a_definition_after_the_context_is_made_is_refused():
    mlir.context()
    with pytest.raises(DialectError, match="late_op is defined too late"):
        dialect.define("late_op", "a", dialect.OPS["neg"].infer)(torch.neg)
    assert "late_op" not in dialect.OPS
