"""Exported programs: torch's own operators only, and the numbers that `predict` gives."""

import json
import subprocess
import sys

import exchange_models
import keras
import numpy as np
import pytest
import torch
from exchange_models import MODELS
from keras import layers
from torch.fx.experimental.proxy_tensor import make_fx

# What torch says of its own exporters, and of Keras's code when tracing it.
pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::torch.jit.TracerWarning"
)
# Torch's kernels against compiled ones, over eight rows.
TOLERANCE = 1e-5
# Loads programs where neither Keras nor this package is imported; prints operators and results.
RUN = """
import json, sys, torch
def run(path, inputs):
    program = torch.export.load(path)
    targets = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    inputs = [torch.tensor(x, dtype=getattr(torch, dtype)) for x, dtype in inputs]
    results = program.module()(inputs if len(inputs) > 1 else inputs[0])
    results = results if isinstance(results, (list, tuple)) else [results]
    return sorted(targets), torch.cat(list(results), -1).tolist()
jobs = json.load(sys.stdin)
print(json.dumps([run(*job) for job in jobs]))
assert not any(name.startswith("keras") for name in sys.modules)
"""


def run_elsewhere(jobs):
    """(operators, results) of each (path of a program, its inputs), from a Python without Keras."""
    jobs = [(str(path), [(x.tolist(), str(x.dtype)) for x in inputs]) for path, inputs in jobs]
    done = subprocess.run(
        [sys.executable, "-c", RUN], input=json.dumps(jobs), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def trained():
    """Every model after a few compiled steps, with what it predicts."""
    made = {name: exchange_models.trained(name) for name in MODELS}
    return {name: (model, exchange_models.outputs(model, name)) for name, model in made.items()}


def inputs_of(name):
    x = MODELS[name][1]
    return x if isinstance(x, list) else [x]


def static_signature(name):
    """The shapes of the data themselves, in the nesting that `export` wants."""
    specs = [keras.InputSpec(shape=x.shape, dtype=str(x.dtype)) for x in inputs_of(name)]
    return [specs] if len(specs) > 1 else specs


def test_torch_programs_load_without_us(trained, tmp_path):
    for name, (model, _) in trained.items():
        path = tmp_path / f"{name}.pt2"
        model.export(path, "torch", verbose=False, input_signature=static_signature(name))
    programs = [(tmp_path / f"{name}.pt2", inputs_of(name)) for name in trained]
    for (name, (_, expected)), (operators, results) in zip(
        trained.items(), run_elsewhere(programs), strict=True
    ):
        assert {op for op in operators if not op.startswith(("aten.", "<built-in"))} == set()
        np.testing.assert_allclose(results, expected, rtol=0, atol=TOLERANCE, err_msg=name)


@pytest.mark.parametrize("name", ["cnn", "transformer"])
def test_torch_programs_of_any_batch(name, trained, tmp_path):
    model, expected = trained[name]
    rows = torch.export.Dim("rows", min=1, max=64)
    path = tmp_path / "model.pt2"
    model.export(path, "torch", verbose=False, dynamic_shapes={0: rows})
    program = torch.export.load(path).module()
    for count in (1, 5):
        results = program(torch.from_numpy(MODELS[name][1][:count]))
        np.testing.assert_allclose(
            results.detach(), expected[:count], rtol=0, atol=TOLERANCE, err_msg=str(count)
        )


# Torch's TorchScript exporter refuses a layer normalization whose batch is open, under any backend.
@pytest.mark.parametrize(
    ("name", "batch"),
    [(name, "as traced") for name in MODELS]
    + [(name, "any") for name in MODELS if name != "transformer"],
)
def test_onnx(name, batch, trained, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model, expected = trained[name]
    signature = static_signature(name) if batch == "as traced" else None
    path = tmp_path / "model.onnx"
    model.export(path, "onnx", verbose=False, input_signature=signature)
    session = onnxruntime.InferenceSession(path)
    inputs = {spec.name: x for spec, x in zip(session.get_inputs(), inputs_of(name), strict=True)}
    results = np.concatenate(session.run(None, inputs), axis=-1)
    np.testing.assert_allclose(results, expected, rtol=0, atol=TOLERANCE)


def test_traced_models_hold_operators_of_torch(trained):
    model, expected = trained["cnn"]
    images = torch.from_numpy(MODELS["cnn"][1])
    program = torch.jit.trace(model, images, check_trace=False)
    assert "keras_triton" not in str(program.inlined_graph)
    np.testing.assert_allclose(program(images).detach(), expected, rtol=0, atol=TOLERANCE)


def test_compiled_steps_outlive_an_export(tmp_path):
    model = exchange_models.trained("cnn")
    before = exchange_models.outputs(model, "cnn")
    model.export(tmp_path / "model.pt2", "torch", verbose=False)
    np.testing.assert_array_equal(exchange_models.outputs(model, "cnn"), before)
    exchange_models.train(model, "cnn")
    for function in (model.train_function, model.predict_function):
        assert function.step.counts.captures == 1
        assert function.step.counts.op_by_op == 0


def test_ops_of_ours_give_way_only_while_exporting():
    class Pooled(torch.nn.Module):
        def forward(self, x):
            return keras.ops.max_pool(x, 2)

    x = torch.ones(1, 4, 4, 2)
    program = torch.export.export(Pooled(), (x,))
    assert "keras_triton" not in str(program.graph)
    traced = make_fx(lambda x: keras.ops.max_pool(x, 2))(x)
    assert "keras_triton.max_pool2d" in str(traced.graph)


def test_random_layers_are_refused_as_by_torch(tmp_path):
    class Noisy(layers.Layer):
        def call(self, x):
            return x + keras.random.normal((3,), seed=1)

    model = keras.Sequential([keras.Input((3,)), Noisy()])
    with pytest.raises(RuntimeError, match="Failed to export model to PyTorch format"):
        model.export(tmp_path / "model.pt2", "torch", verbose=False)


def test_saved_models_are_refused_as_by_torch():
    pytest.importorskip("tensorflow")
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
    with pytest.raises(NotImplementedError, match="not supported for `Layer`s and `Model`s"):
        keras.export.ExportArchive().track(model)
