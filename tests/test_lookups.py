"""Lookups by index and sums by index: on every target, fused, in whole steps."""

import keras
import numpy as np
import pytest
import test_emit_llvm
import torch
import triton_cases
from golden_files import compare, golden_input
from keras import layers
from lookup_cases import FUNCTIONS, REGIONS, halves, reference, tensor
from test_importer import imported, traced
from triton_cases import Generic, kernel_of, region_text
from twins import assert_alike, calls

import keras_triton
from keras_triton.compile import compile_module
from keras_triton.kernels import compile_offline
from keras_triton.lowering import emit_llvm, emit_triton, interpret
from keras_triton.lowering.errors import EmitError, RegionError
from keras_triton.lowering.mlir import functions, parse, text
from keras_triton.lowering.pipeline import lower, pipeline
from keras_triton.lowering.region import kernel_kind, read_region
from keras_triton.targets.choice import choose

CPU = torch.device("cpu")
TARGETS = ("cpu", "interpret", "reference")
# Of float32 sums of few numbers; a half float is rounded once at its end, or where a kernel stores it.
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 2e-3}


def compiled(function, inputs, target):
    """The function compiled for a target, of inputs like these."""
    graph = traced(function, inputs)
    inputs = [value.detach() for value in inputs]
    return compile_module(imported(graph, inputs), choose(target, CPU), CPU, name="lookup")


def assert_close(made, wanted, dtype):
    """Within rounding of the largest element; integers and bools are equal."""
    assert len(made) == len(wanted)
    for ours, theirs in zip(made, wanted, strict=True):
        if not ours.dtype.is_floating_point:
            assert torch.equal(ours, theirs)
            continue
        limit = TOLERANCE[dtype] * max(1.0, float(theirs.abs().max()))
        torch.testing.assert_close(ours.double(), theirs, rtol=0, atol=limit)


@pytest.mark.parametrize("name", REGIONS)
def test_regions_as_native_loops(name):
    test_emit_llvm.check(REGIONS[name])


@pytest.mark.parametrize("name", REGIONS)
def test_regions_as_triton_kernels(name):
    triton_cases.check(REGIONS[name])


@pytest.mark.parametrize("name", ["ragged", "pooled", "normal rows"])
def test_triton_kernels_compile(name):
    _module, function = kernel_of(REGIONS[name])
    loaded = emit_triton.load(emit_triton.emit(function))
    for launch in loaded.program.launches:
        assert compile_offline(launch, loaded.dtypes(), 90).spills == 0


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name, target):
    function, inputs = FUNCTIONS[name]
    program = compiled(function, inputs, target)
    for made in (program([value.detach() for value in inputs]) for _ in range(2)):
        assert_close(made, reference(function, inputs), torch.float32)
    lacking = {row.fallback for row in program.report.rows if row.fallback}
    assert not lacking or target == "reference"


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("index", [torch.int32, torch.int64], ids=["int32", "int64"])
@pytest.mark.parametrize("dtype", TOLERANCE, ids=lambda dtype: str(dtype).split(".")[1])
@pytest.mark.parametrize("name", ["embedding", "pooled"])
def test_dtypes(name, dtype, index, target):
    function, inputs = FUNCTIONS[name]
    inputs = halves(inputs, dtype, index)
    made = compiled(function, inputs, target)([value.detach() for value in inputs])
    assert_close(made, reference(function, inputs), dtype)


@pytest.mark.parametrize("target", TARGETS)
def test_outside_of_an_axis(target):
    """Nothing is read beyond a tensor: what torch refuses reads NaN, or 0 of integers, and an update
    there is left out."""
    table, indices = torch.randn(4, 3), torch.tensor([0, 4, -1, -5, 3, 2**40])

    def lookups(t, i, g):
        sums = torch.zeros(5, 3).index_put((i,), g, accumulate=True)
        return [t[i], t.int()[i], t[i - i, i], t.index_select(0, i), sums]

    safe = torch.zeros_like(indices)
    updates = torch.ones(6, 3)
    made = compiled(lookups, (table, safe, updates), target)([table, indices, updates])
    inside = [0, 2, 4]  # a negative index counts from the end in t[i]
    outside = [1, 3, 5]
    torch.testing.assert_close(made[0][inside], table[[0, 3, 3]])
    assert made[0][outside].isnan().all()
    assert torch.equal(made[1][inside], table.int()[[0, 3, 3]])
    assert not made[1][outside].any()
    assert torch.equal(made[2].isnan(), torch.tensor([False, True, False, True, True, True]))
    torch.testing.assert_close(made[2][[0, 2]], table[0][[0, 2]])
    torch.testing.assert_close(made[3][[0, 4]], table[[0, 3]])
    assert (
        made[3][[1, 2, 3, 5]].isnan().all()
    )  # where torch refuses negative ones, so does the lookup
    assert torch.equal(made[4].sum(1), torch.tensor([6.0, 0.0, 0.0, 3.0, 6.0]))


def test_sums_do_not_depend_on_threads():
    source = """module attributes {keras.stage = "regions"} {
      func.func private @sums(%i: tensor<3000xi64>, %u: tensor<3000x130xf32>)
          -> tensor<9x130xf32>
          attributes {keras.kernel = "scatter"} {
        %0 = "keras.scatter"(%u, %i) {rows = 9, fold = "sum"}
          : (tensor<3000x130xf32>, tensor<3000xi64>) -> tensor<9x130xf32>
        return %0 : tensor<9x130xf32> }
      func.func @main(%i: tensor<3000xi64>, %u: tensor<3000x130xf32>) -> tensor<9x130xf32> {
        %0 = func.call @sums(%i, %u) : (tensor<3000xi64>, tensor<3000x130xf32>) -> tensor<9x130xf32>
        return %0 : tensor<9x130xf32> } }"""  # fmt: skip
    module, function = kernel_of(source)
    kernel = emit_llvm.compile_kernels({"k": function})["k"]
    assert kernel.threads > 1
    inputs = [torch.randint(-2, 11, (3000,)), torch.randn(3000, 130)]
    made = []
    for threads in (1, 2, 3, 8):
        made.append(torch.full((9, 130), 77.0))
        test_emit_llvm.call(kernel, inputs, made[-1:], threads)
        assert torch.equal(made[0], made[-1])
    torch.testing.assert_close(made[0], interpret.run(module, inputs)[0], rtol=1e-5, atol=1e-4)


def test_sums_of_half_floats_are_refused():
    source = """module attributes {keras.stage = "regions"} {
      func.func private @sums(%i: tensor<7xi64>, %u: tensor<7x1xbf16>) -> tensor<9x1xbf16>
          attributes {keras.kernel = "scatter"} {
        %0 = "keras.scatter"(%u, %i) {rows = 9, fold = "sum"}
          : (tensor<7x1xbf16>, tensor<7xi64>) -> tensor<9x1xbf16>
        return %0 : tensor<9x1xbf16> } }"""  # fmt: skip
    _module, function = kernel_of(source)
    with pytest.raises(EmitError, match="in bf16; they accumulate in f32"):
        emit_llvm.compile_kernels({"k": function})


def kernels(module, **options):
    """The kernels of a module's regions, by name."""
    regions = lower(module, "regions", **options)
    return regions, {name: f for name, f in functions(regions).items() if kernel_kind(f)}


def lookup_module(*ops, size=4):
    result = f"tensor<{size}x3xf32>"
    body = "\n".join(f'%{i} = "keras.{op}' for i, op in enumerate(ops))
    return parse(f"""module attributes {{keras.stage = "keras"}} {{
      func.func @main(%t: tensor<5x3xf32>, %i: tensor<{size}xi64>) -> {result} {{
      {body}
      return %{len(ops) - 1} : {result} }} }}""")


GATHER = 'gather"({}, %i) {{axis = 0 : i64}} : (tensor<5x3xf32>, tensor<4xi64>) -> tensor<4x3xf32>'


def test_a_lookup_is_one_kernel_with_its_index_and_its_reader():
    module = lookup_module(
        'add"(%i, %i) : (tensor<4xi64>, tensor<4xi64>) -> tensor<4xi64>',
        GATHER.format("%t").replace("%i", "%0"),
        'exp"(%1) : (tensor<4x3xf32>) -> tensor<4x3xf32>',
    )
    regions, made = kernels(module)
    (function,) = made.values()
    region = read_region(function)
    assert region.looked_up == {1}
    assert [type.shape for type in region.arguments] == [(4,), (5, 3)]
    (lookup,) = region.stages[-1].lookups.values()
    assert lookup.dims == (None, 1)
    del regions


def test_what_is_looked_up_is_stored_first_and_never_overwritten():
    module = lookup_module(
        'exp"(%t) : (tensor<5x3xf32>) -> tensor<5x3xf32>',
        GATHER.format("%0").replace("4x", "5x").replace("<4", "<5"),
        size=5,
    )
    _regions, made = kernels(module)
    _first, second = made.values()
    assert "looked up, so it is stored first" in str(second.operation.attributes["keras.reason"])


def test_a_table_that_is_looked_up_while_it_changes_is_not_overwritten():
    """Both loops run over 5 rows of 3 and read the table, so they are one kernel; the new table may not
    take the place of the old one."""
    source = parse("""module attributes {keras.stage = "keras"} {
      func.func @main(%t: tensor<5x3xf32> {keras.name = "t", keras.donated = 1 : i64},
                      %i: tensor<5xi64> {keras.name = "i"}) -> (tensor<5x3xf32>, tensor<5x3xf32>) {
        %0 = "keras.gather"(%t, %i) {axis = 0 : i64}
            : (tensor<5x3xf32>, tensor<5xi64>) -> tensor<5x3xf32>
        %1 = "keras.add"(%0, %t) : (tensor<5x3xf32>, tensor<5x3xf32>) -> tensor<5x3xf32>
        %2 = "keras.mul"(%1, %t) : (tensor<5x3xf32>, tensor<5x3xf32>) -> tensor<5x3xf32>
        return %1, %2 : tensor<5x3xf32>, tensor<5x3xf32> } }""")
    _regions, made = kernels(source)
    assert len(made) == 1
    table, indices = torch.randn(5, 3), torch.tensor([4, 3, 2, 1, 0])
    program = compile_module(source, choose("cpu", CPU), CPU, name="update")
    first = table[indices] + table
    results = program([table.clone(), indices])
    torch.testing.assert_close(results[0], first)
    torch.testing.assert_close(results[1], first * table)


def test_a_kernel_looks_up_in_its_arguments_only():
    source = region_text(
        "inner",
        {"ids": tensor(4, dtype="i64"), "x": tensor(4)},
        [
            Generic("table", (("x", (0,)),), tensor(4), "%r = arith.addf %x0, %x0 : f32"),
            Generic(
                "y",
                (("ids", (0,)),),
                tensor(4),
                "%i = arith.index_cast %x0 : i64 to index\n%r = tensor.extract %table[%i] : tensor<4xf32>",
            ),
        ],
        ["y"],
    )
    _module, function = kernel_of(source)
    with pytest.raises(RegionError, match="looked up in tensor<4xf32>, no argument"):
        read_region(function)


def test_golden(request):
    """An embedding with its gradient, after every pass."""
    module = parse(golden_input("lookups"))
    for step in pipeline(decompose=True, epilogues=False):
        module = step.run(module)
        if step.name in ("lower-to-linalg", "fuse-regions", "plan-buffers"):
            update = request.config.getoption("--update-golden")
            compare(f"lookups_{step.name}", str(module), update)


def test_lowering_goes_on_from_the_text_of_any_stage():
    module, seen = parse(golden_input("lookups")), []
    lower(module, on_stage=seen.append)
    inputs = [torch.randn(5, 3), torch.randint(0, 5, (2, 4)), torch.tensor(0.1)]
    expected = interpret.run(module, inputs)
    for stage in seen:
        assert str(lower(parse(text(stage)))) == str(seen[-1])
        for made, wanted in zip(interpret.run(stage, inputs), expected, strict=True):
            torch.testing.assert_close(made, wanted, rtol=1e-5, atol=1e-5)


TOKENS = np.random.default_rng(0).integers(0, 30, (20, 6)).astype("int32")
LABELS = np.random.default_rng(1).integers(0, 4, (20,))


class Positions(layers.Layer):
    """Tokens' vectors with those of their places."""

    def __init__(self):
        super().__init__()
        self.tokens, self.places = layers.Embedding(30, 16), layers.Embedding(6, 16)

    def call(self, tokens):
        return self.tokens(tokens) + self.places(keras.ops.arange(6))


def classifier(run_eagerly):
    inputs = keras.Input((6,), dtype="int32")
    hidden = Positions()(inputs)
    hidden = layers.GlobalAveragePooling1D()(layers.LayerNormalization()(hidden))
    model = keras.Model(inputs, layers.Dense(4)(layers.Dense(8, activation="relu")(hidden)))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=["accuracy"], run_eagerly=run_eagerly)
    return model


def test_a_whole_step_looks_up_and_adds_up_without_torch():
    # Adam divides by the root of gradients that may be no more than roundings.
    outcome = assert_alike(classifier, calls(TOKENS, LABELS), tolerance=1e-3)
    assert not outcome.fallbacks
    rows = keras_triton.explain(outcome.compiled, TOKENS[:8]).rows
    (lookup,) = (row for row in rows if "extract" in row.ops)
    assert {"extract", "addf"} < set(lookup.ops)
    assert lookup.ops.count("extract") == 2, "both tables are looked up in one kernel"
