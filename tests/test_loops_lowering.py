"""Loops from the captured graph to the plan and its runs."""

import pytest
import torch
from loop_cases import CASES

from keras_triton.compile import compile_module
from keras_triton.lowering import interpret
from keras_triton.lowering.errors import DialectError
from keras_triton.lowering.mlir import parse, stage_of, text
from keras_triton.lowering.pipeline import lower
from keras_triton.targets.choice import choose

CPU = torch.device("cpu")

# Stages before the plan are run in float64; there, only sums in another order differ.
EXACT = {"rtol": 1e-6, "atol": 1e-6}
# A plan keeps its buffers in float32.
ROUNDED = {"rtol": 1e-5, "atol": 1e-5}


def assert_results(made, expected, **tolerance):
    assert len(made) == len(expected)
    for got, want in zip(made, expected, strict=True):
        assert got.dtype == want.dtype
        torch.testing.assert_close(got, want, **tolerance)


@pytest.mark.parametrize("name", CASES)
def test_imported_loop_means_what_torch_computes(name):
    case = CASES[name]
    module, inputs = case.module(), case.inputs()
    assert stage_of(module) == "keras"
    for spelled in (module, parse(text(module))):
        assert_results(interpret.run(spelled, inputs), case.expected(inputs), **EXACT)


SUMS = """module attributes {keras.stage = "keras"} {
  func.func private @scan0(tensor<4xf32>, tensor<3x4xf32>) -> (tensor<4xf32>, tensor<3x4xf32>)
    attributes {keras.scan = {body = @body, carries = 1 : i64, scanned = 1 : i64, length = 3 : i64, reverse = false}}
  func.func private @body(%s: tensor<4xf32>, %x: tensor<4xf32>) -> (tensor<4xf32>, tensor<4xf32>) {
    %0 = "keras.add"(%s, %x) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32> loc("sums")
    return %0, %s : tensor<4xf32>, tensor<4xf32>
  }
  func.func @main(%s: tensor<4xf32> {keras.name = "data/s"}, %x: tensor<3x4xf32> {keras.name = "data/x"})
      -> (tensor<4xf32>, tensor<3x4xf32>) {
    %0:2 = call @scan0(%s, %x) : (tensor<4xf32>, tensor<3x4xf32>) -> (tensor<4xf32>, tensor<3x4xf32>) loc("sums")
    return %0#0, %0#1 : tensor<4xf32>, tensor<3x4xf32>
  }
}"""  # fmt: skip # noqa: E501

WRONG = {
    "body = @body": ("body = @nowhere", "no function @nowhere with a body"),
    "length = 3": ("length = 2", "scanned tensors have a first axis of 2, not (tensor<3x4xf32>)"),
    "carries = 1": ("carries = 2", "need as many operands and a result a carry, not 2 operands"),
    "scanned = 1": ("scanned = 0", "@body takes (tensor<4xf32>, tensor<4xf32>), not"),
    "length = 3 : i64, ": ("", "does not name body, carries, scanned, length, reverse"),
    "return %0, %s": ("return %0, %0", ""),
    '%0 = "keras.add"(%s, %x) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32> loc("sums")': (
        '%y = "keras.reshape"(%x) {shape = array<i64: 1, 4>} : (tensor<4xf32>) -> tensor<1x4xf32>\n'
        '%w = "keras.concat"(%y, %y) {axis = 0} : (tensor<1x4xf32>, tensor<1x4xf32>) -> tensor<2x4xf32>\n'
        '%z = "keras.concat"(%w, %y) {axis = 0} : (tensor<2x4xf32>, tensor<1x4xf32>) -> tensor<3x4xf32>\n'
        "%0, %1 = call @scan0(%s, %z) : (tensor<4xf32>, tensor<3x4xf32>) -> (tensor<4xf32>, tensor<3x4xf32>)",
        "@body runs the loop that it is part of",
    ),
}


@pytest.mark.parametrize("part", WRONG)
def test_verifier_names_the_loop_and_what_is_wrong(part):
    wrong, sentence = WRONG[part]
    assert part in SUMS
    if not sentence:  # a change that leaves the loop right
        parse(SUMS.replace(part, wrong))
        return
    with pytest.raises(DialectError) as refused:
        parse(SUMS.replace(part, wrong))
    assert "@scan0" in str(refused.value)
    assert sentence in str(refused.value)


def test_verifier_of_a_while_loop():
    source = text(CASES["while of a swap"].module())
    parse(source)
    with pytest.raises(DialectError, match="@while0 in layer loop: @while0_body returns"):
        parse(source.replace("condition = @while0_condition", "condition = @while0_body"))


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("decompose", [False, True])
def test_values_stay_equal_through_every_pass(name, decompose):
    case = CASES[name]
    inputs = case.inputs()
    seen = []
    lower(case.module(), "plan", seen.append, decompose=decompose, epilogues=not decompose)
    for module in seen:
        tolerance = ROUNDED if stage_of(module) == "plan" else EXACT
        assert_results(interpret.run(module, inputs), case.expected(inputs), **tolerance)


@pytest.mark.parametrize("target", ["reference", "cpu", "interpret"])
@pytest.mark.parametrize("name", CASES)
def test_runs_on_every_target(name, target):
    case = CASES[name]
    compiled = compile_module(case.module(), choose(target, CPU), CPU, name="loop")
    for seed in (0, 1):  # the second run meets other data at other addresses
        inputs = case.inputs(seed)
        expected = case.expected(inputs)
        assert_results(compiled(inputs), expected, **ROUNDED)
