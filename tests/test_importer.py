"""Captured graphs written in the keras dialect compute what torch computes."""

import keras
import pytest
import torch
from import_cases import EXTERN, NATIVE, n, x
from mlir import ir
from torch.fx.experimental.proxy_tensor import make_fx

from keras_triton import samples
from keras_triton.capture import capture
from keras_triton.captured import Captured
from keras_triton.lowering import mlir
from keras_triton.lowering.errors import DialectError, ImportGraphError
from keras_triton.lowering.extern import Extern, call_extern, parse_target
from keras_triton.lowering.importer import ImportInput, import_graph, rule
from keras_triton.lowering.interpret import run
from keras_triton.lowering.passes.canonicalize_keras import CanonicalizeKeras

# The graph rounds each op to float32; the interpreter computes in float64 and rounds once.
TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}


def traced(function, inputs) -> torch.fx.GraphModule:
    graph = make_fx(lambda *args: list(function(*args)), tracing_mode="fake")(*inputs)
    graph.graph.eliminate_dead_code()
    return graph


def imported(graph: torch.fx.GraphModule, inputs, donated=None) -> ir.Module:
    names = [ImportInput(f"data/{i}") for i in range(len(inputs))]
    return import_graph(graph, names, donated or {})


def externs(module: ir.Module) -> list[Extern]:
    found = (Extern.of(function) for function in mlir.functions(module).values())
    return [extern for extern in found if extern is not None]


def assert_equal_to_graph(module: ir.Module, graph: torch.fx.GraphModule, inputs) -> None:
    """The module, the module parsed from its text, and the canonical one agree with torch."""
    with torch.no_grad():
        expected = graph(*[value.detach() for value in inputs])
    for variant in (mlir.parse(mlir.text(module)), CanonicalizeKeras().run(module)):
        for made, wanted in zip(run(variant, inputs), expected, strict=True):
            assert made.dtype == wanted.dtype
            # A tensor traced inside the graph may be float16, whose own rounding dominates.
            options = TOLERANCE if wanted.dtype != torch.float16 else {"rtol": 1e-3, "atol": 1e-3}
            torch.testing.assert_close(made, wanted, equal_nan=True, **options)


@pytest.mark.parametrize(("name", "function", "inputs"), NATIVE, ids=[c[0] for c in NATIVE])
def test_native(name, function, inputs):
    graph = traced(function, inputs)
    inputs = [value.detach() for value in inputs]
    module = imported(graph, inputs)
    assert externs(module) == []
    assert_equal_to_graph(module, graph, inputs)


@pytest.mark.parametrize(
    ("name", "function", "inputs", "reasons"), EXTERN, ids=[c[0] for c in EXTERN]
)
def test_extern(name, function, inputs, reasons):
    graph = traced(function, inputs)
    module = imported(graph, inputs)
    assert [extern.reason for extern in externs(module)] == reasons
    assert_equal_to_graph(module, graph, inputs)


def test_arguments_carry_names_and_donations_and_ops_their_layers():
    graph = traced(lambda a, b: [a + b, b * 2], (x(3), x(3)))
    for node in graph.graph.nodes:
        node.meta["keras_layer"] = "model/dense/grad" if "mul" in node.name else "model/dense"
    module = imported(graph, (x(3), x(3)), donated={1: 1})
    main = mlir.functions(module)["main"]
    first, second = (ir.DictAttr(item) for item in main.arg_attrs)
    assert ir.StringAttr(first["keras.name"]).value == "data/0"
    assert "keras.donated" not in first
    assert ir.IntegerAttr(second["keras.donated"]).value == 1
    layers = [mlir.layer_of(op) for op in main.regions[0].blocks[0].operations]
    assert layers[:-1] == ["model/dense", "model/dense/grad", "model/dense/grad"]
    assert mlir.stage_of(module) == "keras"


def test_transposes_fold_into_products():
    module = CanonicalizeKeras().run(imported(traced(lambda a: [a.T @ a], (x(3, 4),)), (x(3, 4),)))
    (op, _) = mlir.functions(module)["main"].regions[0].blocks[0].operations
    assert op.operation.name == "keras.matmul"
    assert op.operation.attributes["transpose_a"].value is True


def test_dtype_without_a_type_is_refused():
    graph = traced(lambda a: [a.to(torch.uint16)], (n(3),))
    for node in graph.graph.nodes:
        node.meta["keras_layer"] = "model/rescaling"
    with pytest.raises(ImportGraphError, match=r"_to_copy.*model/rescaling: torch\.uint16 has no"):
        imported(graph, (n(3),))


def test_wrong_number_of_inputs_is_refused():
    graph = traced(lambda a: [a * 2], (x(3),))
    with pytest.raises(ImportGraphError, match="the graph has 1 inputs, but 0 are described"):
        import_graph(graph, [], {})


def test_second_rule_is_refused():
    with pytest.raises(ImportGraphError, match=r"aten\.add\.Tensor has two import rules"):
        rule("aten.add.Tensor")(lambda b: None)


def test_unknown_targets_are_refused():
    with pytest.raises(DialectError, match=r"torch has no op 'aten\.absent\.default'"):
        parse_target("aten.absent.default")


def test_externs_run_where_the_data_is():
    extern = Extern("aten.rand.default", '[[[2, 3]], {"device": {"device": true}}]', "random")
    (made,) = call_extern(extern, [], torch.device("meta"))
    assert made.device.type == "meta"


def step_of(model: keras.Model, data) -> Captured:
    model._symbolic_build(data_batch=data)
    return capture(lambda data: model.train_step(data), (data,), name="train_step")


def encoder() -> keras.Model:
    tokens = keras.Input((6,), dtype="int32")
    h = keras.layers.Embedding(20, 8, mask_zero=True)(tokens)
    h = keras.layers.LayerNormalization()(h + keras.layers.MultiHeadAttention(2, 4)(h, h))
    h = keras.layers.GlobalAveragePooling1D()(h)
    model = keras.Model(tokens, keras.layers.Dense(10)(h))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.AdamW(1e-3), loss, metrics=["accuracy"])
    return model


STEPS = {
    "mlp": (lambda: samples.mlp(width=16), lambda: x(4, 64)),
    "digits_cnn": (samples.digits_cnn, lambda: x(4, 8, 8, 1)),
    "encoder": (encoder, lambda: n(4, 6, high=20).int()),
}


@pytest.mark.parametrize("name", STEPS)
def test_captured_steps_import_natively(name):
    keras.utils.set_random_seed(0)
    make, data = STEPS[name]
    batch = (data(), n(4, high=10).int())
    captured = step_of(make(), batch)
    given = iter(batch)
    inputs = []
    for spec in captured.inputs:
        if spec.kind == "data":
            inputs.append(next(given))
        else:
            value = spec.tensor if spec.kind == "constant" else spec.variable.value
            inputs.append(value.detach())
    module = imported(captured.graph, inputs)
    assert externs(module) == []
    assert_equal_to_graph(module, captured.graph, inputs)
    named = {mlir.layer_of(op) for op in mlir.functions(module)["main"].regions[0].blocks[0]}
    assert "optimizer" in named
    assert any(layer.endswith("/grad") for layer in named)
