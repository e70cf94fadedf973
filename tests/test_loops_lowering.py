"""Loops from the captured graph to the plan and its runs."""
# ruff: noqa: E501 (MLIR text)

import gc
import io
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from golden_files import compare, golden_input
from loop_cases import CASES, lstm_case
from rich.console import Console

from keras_triton.compile import compile_module
from keras_triton.kernels.device import of_capability
from keras_triton.kernels.offline import compile_offline
from keras_triton.lowering import interpret
from keras_triton.lowering.errors import DialectError
from keras_triton.lowering.mlir import parse, stage_of, text
from keras_triton.lowering.pipeline import lower, pipeline
from keras_triton.lowering.plan import Call, Copy, Loop
from keras_triton.lowering.plan_reader import read_plan
from keras_triton.targets.choice import choose
from keras_triton.targets.sources import load

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
}"""  # fmt: skip

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


NOTHING = """module attributes {keras.stage = "keras"} {
  func.func private @scan0(tensor<0x4xf32>, tensor<3x2xf32>, tensor<3x0xf32>) -> (tensor<0x4xf32>, tensor<3x2xf32>, tensor<3x0x2xf32>)
    attributes {keras.scan = {body = @body, carries = 1 : i64, scanned = 2 : i64, length = 3 : i64, reverse = false}}
  func.func private @body(%s: tensor<0x4xf32>, %x: tensor<2xf32>, %e: tensor<0xf32>)
      -> (tensor<0x4xf32>, tensor<2xf32>, tensor<0x2xf32>) {
    %0 = "keras.tanh"(%s) : (tensor<0x4xf32>) -> tensor<0x4xf32>
    %1 = "keras.sum"(%e) {axes = array<i64: 0>} : (tensor<0xf32>) -> tensor<f32>
    %2 = "keras.add"(%x, %1) : (tensor<2xf32>, tensor<f32>) -> tensor<2xf32>
    %3 = "keras.broadcast_to"(%x) {shape = array<i64: 0, 2>} : (tensor<2xf32>) -> tensor<0x2xf32>
    return %0, %2, %3 : tensor<0x4xf32>, tensor<2xf32>, tensor<0x2xf32>
  }
  func.func @main(%s: tensor<0x4xf32> {keras.name = "s"}, %x: tensor<3x2xf32> {keras.name = "x"}, %e: tensor<3x0xf32> {keras.name = "e"})
      -> (tensor<0x4xf32>, tensor<3x2xf32>, tensor<3x0x2xf32>) {
    %0:3 = call @scan0(%s, %x, %e) : (tensor<0x4xf32>, tensor<3x2xf32>, tensor<3x0xf32>) -> (tensor<0x4xf32>, tensor<3x2xf32>, tensor<3x0x2xf32>)
    return %0#0, %0#1, %0#2 : tensor<0x4xf32>, tensor<3x2xf32>, tensor<3x0x2xf32>
  }
}"""  # fmt: skip


@pytest.mark.parametrize("target", ["cpu", "interpret"])
def test_tensors_of_no_elements_go_through_a_loop(target):
    module, x = parse(NOTHING), torch.randn(3, 2)
    inputs = [torch.empty(0, 4), x, torch.empty(3, 0)]
    program = compile_module(module, choose(target, CPU), CPU, name="nothing")
    assert not program.report.fallbacks
    for made in (program(inputs), interpret.run(module, inputs)):
        assert_results(made, [inputs[0], x, torch.empty(3, 0, 2)], **ROUNDED)


def test_golden(request):
    """One module with a recurrence and a search, after every pass."""
    module = parse(golden_input("loops"))
    for step in pipeline(decompose=True, epilogues=False):
        module = step.run(module)
        name = f"loops_{step.name}"
        compare(name, str(module), request.config.getoption("--update-golden"))


def test_lowering_goes_on_from_the_text_of_any_stage():
    seen = []
    lower(parse(golden_input("loops")), "plan", seen.append)
    for stage in seen:
        assert str(lower(parse(text(stage)))) == str(seen[-1])
    inputs = [torch.randn(3, 2, 8), torch.randn(4, 8), torch.tensor(1)]
    expected = interpret.run(seen[0], inputs)
    for stage in seen[1:]:
        assert_results(interpret.run(stage, inputs), expected, **ROUNDED)


def test_size_does_not_grow_with_the_length():
    plans = [text(lower(lstm_case(length).module())) for length in (5, 500)]
    assert len(plans[1]) <= len(plans[0]) + 200  # a few digits more


def test_no_copy_in_an_iteration_of_a_recurrence():
    """Carries are read where the iteration before put them."""
    for name in ("lstm", "lstm in reverse", "old and new carry stacked"):
        plan = read_plan(lower(CASES[name].module(), decompose=True, epilogues=False))
        (loop,) = (step for step in plan.steps if isinstance(step, Loop))
        assert not [step for step in loop.steps if isinstance(step, Copy)], name


def test_a_swap_needs_no_copy_either():
    plan = read_plan(lower(CASES["product of a carry"].module()))
    (loop,) = (step for step in plan.steps if isinstance(step, Loop))
    assert [type(step) for step in loop.steps] == [Call]


def test_report_counts_what_loops_launch():
    case = CASES["lstm"]
    report = compile_module(case.module(), choose("cpu", CPU), CPU, name="loop").report
    inside = [row for row in report.rows if row.times == case.length]
    assert len(inside) == 3  # two products, one kernel
    assert "with those of loops" in report.summary()
    product = next(row for row in inside if row.how == "torch.mm")
    assert product.bytes % case.length == 0
    searching = compile_module(CASES["while"].module(), choose("cpu", CPU), CPU, name="loop").report
    assert None in {row.times for row in searching.rows}
    assert "while" in printed(searching)


def printed(report):
    console = Console(width=200, record=True, file=io.StringIO())
    report.print(console)
    return console.export_text()


def test_runs_of_threads_do_not_meet():
    """The arena and the tables of a program serve one call at a time."""
    case = CASES["lstm"]
    program = compile_module(case.module(), choose("cpu", CPU), CPU, name="loop").program
    inputs = [case.inputs(seed) for seed in range(8)]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(program, inputs))
    for given, made in zip(inputs, results, strict=True):
        assert_results(made, case.expected(given), **ROUNDED)


def test_a_program_keeps_no_batch_alive():
    case = CASES["lstm"]
    program = compile_module(case.module(), choose("cpu", CPU), CPU, name="loop").program
    inputs = case.inputs()
    results = program(inputs)
    seen = [weakref.ref(tensor) for tensor in (*inputs, *results)]
    del inputs, results
    gc.collect()
    assert not [tensor for tensor in (ref() for ref in seen) if tensor is not None]


@pytest.mark.parametrize("capability", [80, 100])
def test_kernels_of_bodies_build_for_gpus(capability):
    plan = read_plan(lower(CASES["lstm"].module()))
    for function in plan.kernels.values():
        loaded = load(function, None, of_capability(capability))
        for launch in loaded.program.launches:
            assert compile_offline(launch, loaded.dtypes(), capability).registers
