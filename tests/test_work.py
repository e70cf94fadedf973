"""What a step costs: bytes, operations, the floor below which no fusion goes, and the roofline."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from rich.console import Console

import keras_triton
from keras_triton import cli
from keras_triton.kernels import device
from keras_triton.lowering.errors import LoweringError
from keras_triton.lowering.mlir import functions, parse
from keras_triton.lowering.pipeline import lower
from keras_triton.lowering.plan_reader import read_plan
from keras_triton.lowering.work import Cost, cost_of, floor_of, kernel_flops

ROWS, WIDE, NARROW = 6, 5, 4


def module():
    return parse(f"""module attributes {{keras.stage = "keras"}} {{
      func.func private @scan0(tensor<{ROWS}x{WIDE}xf32>, tensor<3x{WIDE}x{WIDE}xf32>)
          -> tensor<{ROWS}x{WIDE}xf32> attributes {{keras.scan = {{body = @body0,
          carries = 1 : i64, scanned = 1 : i64, length = 3 : i64, reverse = false}}}}
      func.func private @body0(%c: tensor<{ROWS}x{WIDE}xf32>, %w: tensor<{WIDE}x{WIDE}xf32>)
          -> tensor<{ROWS}x{WIDE}xf32> {{
        %0 = "keras.matmul"(%c, %w) {{transpose_a = false, transpose_b = false}}
            : (tensor<{ROWS}x{WIDE}xf32>, tensor<{WIDE}x{WIDE}xf32>) -> tensor<{ROWS}x{WIDE}xf32>
        return %0 : tensor<{ROWS}x{WIDE}xf32> }}
      func.func @main(%x: tensor<{ROWS}x{WIDE}xf32> {{keras.name = "x"}},
          %w: tensor<3x{WIDE}x{WIDE}xf32> {{keras.name = "w"}},
          %v: tensor<{WIDE}x{NARROW}xbf16> {{keras.name = "v"}}) -> tensor<{ROWS}x{NARROW}xbf16> {{
        %0 = func.call @scan0(%x, %w) : (tensor<{ROWS}x{WIDE}xf32>, tensor<3x{WIDE}x{WIDE}xf32>)
            -> tensor<{ROWS}x{WIDE}xf32>
        %1 = "keras.cast"(%0) {{dtype = "bf16"}} : (tensor<{ROWS}x{WIDE}xf32>)
            -> tensor<{ROWS}x{WIDE}xbf16>
        %2 = "keras.matmul"(%1, %v) {{transpose_a = false, transpose_b = false}}
            : (tensor<{ROWS}x{WIDE}xbf16>, tensor<{WIDE}x{NARROW}xbf16>)
            -> tensor<{ROWS}x{NARROW}xbf16>
        %3 = "keras.tanh"(%2) : (tensor<{ROWS}x{NARROW}xbf16>) -> tensor<{ROWS}x{NARROW}xbf16>
        return %3 : tensor<{ROWS}x{NARROW}xbf16> }} }}""")


def test_the_floor_counts_products_each_iteration_and_the_state_once():
    floor = floor_of(module())
    x, w = 4 * ROWS * WIDE, 4 * WIDE * WIDE
    half, v, y = 2 * ROWS * WIDE, 2 * WIDE * NARROW, 2 * ROWS * NARROW
    assert floor.contractions == 3 * (x + w + x) + (half + v + y)
    assert floor.state == x + 3 * w + v + y
    assert floor.bytes == floor.contractions + floor.state
    assert floor.unfused == 3 * (x + w + x) + (x + half) + (half + v + y) + 2 * y
    assert floor.unfused_launches == 6


def test_only_the_imported_module_tells_the_floor():
    with pytest.raises(LoweringError, match="stage 'keras', not 'plan'"):
        floor_of(lower(module()))


def test_pieces_of_a_tensor_cost_what_they_are():
    """Two windows of a joined tensor from two kernels, as the gradients of gates are."""
    source = parse("""module attributes {keras.stage = "keras"} {
      func.func @main(%a: tensor<6x4xf32> {keras.name = "a"}, %b: tensor<6x2xf32> {keras.name = "b"})
          -> (tensor<6x6xf32>, tensor<6x4xf32>) {
        %0 = "keras.exp"(%a) : (tensor<6x4xf32>) -> tensor<6x4xf32>
        %1 = "keras.tanh"(%b) : (tensor<6x2xf32>) -> tensor<6x2xf32>
        %2 = "keras.concat"(%0, %1) {axis = 1 : i64}
            : (tensor<6x4xf32>, tensor<6x2xf32>) -> tensor<6x6xf32>
        return %2, %0 : tensor<6x6xf32>, tensor<6x4xf32> } }""")
    a, b = 4 * 6 * 4, 4 * 6 * 2
    plan = read_plan(lower(source))
    found = [cost_of(step, plan) for step in plan.steps]
    assert sorted((cost.read, cost.written) for cost in found) == [(b, b), (a, 2 * a)]


def test_a_table_costs_what_is_looked_up():
    source = parse("""module attributes {keras.stage = "keras"} {
      func.func @main(%t: tensor<100x4xf32> {keras.name = "t"}, %i: tensor<3xi64> {keras.name = "i"})
          -> tensor<3x4xf32> {
        %0 = "keras.gather"(%t, %i) {axis = 0 : i64}
            : (tensor<100x4xf32>, tensor<3xi64>) -> tensor<3x4xf32>
        %1 = "keras.exp"(%0) : (tensor<3x4xf32>) -> tensor<3x4xf32>
        return %1 : tensor<3x4xf32> } }""")
    indices, rows = 3 * 8, 3 * 4 * 4
    plan = read_plan(lower(source))
    (launch,) = plan.steps
    cost = cost_of(launch, plan)
    assert (cost.read, cost.written) == (rows + indices, rows)
    floor = floor_of(source)
    assert floor.bytes == rows + indices + rows
    assert floor.unfused == (rows + indices + rows) + (rows + rows)


def test_operations_of_a_product_and_its_epilogue():
    regions = lower(module(), "regions", epilogues=True)
    kernels = {name: f for name, f in functions(regions).items() if name.startswith("matmul_tanh")}
    (product,) = kernels.values()
    flops = 2 * ROWS * WIDE * NARROW
    # The rounding of the operand; tanh, between a rounding up and a rounding down of each element.
    assert kernel_flops(product) == flops + ROWS * WIDE + 3 * ROWS * NARROW


def test_what_is_made_as_it_is_loaded_counts_each_time():
    x, w, y = "tensor<1x4x4x8xf32>", "tensor<3x3x8x16xf32>", "tensor<1x2x2x16xf32>"
    regions = lower(
        parse(f"""module attributes {{keras.stage = "keras"}} {{
      func.func @main(%x: {x} {{keras.name = "x"}}, %w: {w} {{keras.name = "w"}}) -> {y} {{
        %0 = "keras.relu"(%x) : ({x}) -> {x}
        %1 = "keras.conv2d"(%0, %w) {{strides = array<i64: 1, 1>, pads = array<i64: 0, 0, 0, 0>,
            dilations = array<i64: 1, 1>, groups = 1 : i64}} : ({x}, {w}) -> {y}
        return %1 : {y} }} }}"""),
        "regions",
    )
    (product,) = (f for name, f in functions(regions).items() if name != "main")
    # An element takes part in 36 multiply-adds on average, 16 each time that a tile loads it: so twice.
    multiply_adds, elements = 4 * 9 * 8 * 16, 4 * 4 * 8
    assert multiply_adds // elements == 36
    assert kernel_flops(product) == 2 * multiply_adds + 2 * elements


def test_the_roofline_takes_the_slower_of_memory_and_arithmetic():
    h200 = device.named("h200")
    assert Cost(4_800, 4_800, 1, False).seconds(h200) == pytest.approx(2e-9)
    assert Cost(1, 1, 67_000, False).seconds(h200) == pytest.approx(1e-9)
    assert Cost(1, 1, 989_000, True).seconds(h200) == pytest.approx(1e-9)
    with pytest.raises(ValueError, match="'H300'; known: A100, H200, H100, B200"):
        device.named("H300")


def attention(causal):
    def attend(q, k, v):
        return ops.dot_product_attention(q, k, v, is_causal=causal)

    return attend


@pytest.mark.parametrize("causal", [False, True])
def test_operations_of_attention(causal):
    q, k, v = (np.ones((2, n, 3, 8), "float32") for n in (6, 6, 6))
    report = keras_triton.explain(attention(causal), q, k, v)
    (row,) = (row for row in report.rows if "attention" in row.ops)
    full = 2 * 2 * (2 * 3 * 6 * 6 * 8)
    assert row.cost.flops == (full // 2 if causal else full)


def test_explain_shows_costs_the_floor_and_a_roofline():
    model = keras.Sequential([keras.Input((16,)), layers.Dense(8, activation="relu")])
    report = keras_triton.explain(model, np.ones((4, 16), "float32"))
    moved = 4 * (4 * 16 + 16 * 8 + 4 * 8)
    assert report.floor.contractions == moved
    assert report.floor.state == moved + 4 * 8
    console = Console(width=200)
    with console.capture() as printed:
        report.print(console, device.named("A100"))
    text = printed.get()
    for shown in ("times the floor of 0.00 MB", "kB read", "Mflop", "flop/B", "µs on A100"):
        assert shown in text


def test_the_command_takes_a_gpu(capsys):
    assert cli.main(["explain", "mlp", "--batch", "4", "--gpu", "H200", "--json"]) == 0
    assert '"seconds"' in capsys.readouterr().out
    with pytest.raises(SystemExit):
        cli.main(["explain", "mlp", "--gpu", "H300"])
    assert "no facts are known of a GPU 'H300'" in capsys.readouterr().err
