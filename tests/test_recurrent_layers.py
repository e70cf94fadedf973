"""Recurrent layers train compiled as they do op by op, in graphs that do not grow with time."""

import json
import operator
import os
import subprocess
import sys
import warnings

import keras
import numpy as np
import pytest
import torch
from keras import layers
from numerics import float64
from recurrent_models import ALIKE_ON_TORCH, CASES, build, data, results_on, train

from keras_triton import compiled_function
from keras_triton.capture import capture
from keras_triton.src import rnn as rnn_module
from keras_triton.src.rnn import rnn

pytestmark = pytest.mark.filterwarnings("ignore:.*does not support masking")
TOLERANCE = 1e-9  # of the largest entry; sums over time come in another order


@pytest.fixture
def double():
    with float64():
        yield


@pytest.fixture
def on_torch(monkeypatch):
    """Captured graphs run as they are: what they say is tested here, not what becomes of it."""
    program = lambda captured: lambda arguments: list(captured.graph(*arguments))  # noqa: E731
    monkeypatch.setattr(compiled_function, "default_compile", program)


def assert_alike(found, expected):
    assert len(found) == len(expected)
    for got, wanted in zip(found, expected, strict=True):
        wanted = np.asarray(wanted)
        scale = np.abs(wanted).max() if wanted.size else 0.0
        np.testing.assert_allclose(got, wanted, rtol=0, atol=TOLERANCE * scale)


def bodies(module):
    """The bodies of all loops in a graph, nested ones too."""
    found = [child for child in module.children() if isinstance(child, torch.fx.GraphModule)]
    return [*found, *(inner for body in found for inner in bodies(body))]


def size(module):
    return sum(len(graph.graph.nodes) for graph in (module, *bodies(module)))


def train_step(model):
    x, y = (torch.as_tensor(part) for part in data(model.input_shape[1]))
    model._symbolic_build(data_batch=(x, y))
    return capture(lambda data: model.train_step(data), ((x, y),), name="train_step")


@pytest.mark.parametrize("name", CASES)
def test_trains_as_op_by_op(name, double, on_torch):
    eager = build(name)
    eager.run_eagerly = True
    expected = train(eager)
    model = build(name)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*unrolled")
        found = train(model)
    assert_alike(found, expected)
    for function in (model.train_function, model.predict_function):
        assert not function.step.refused
        assert function.step.counts.op_by_op == 0


@pytest.mark.parametrize("name", ["lstm of all times, masked", "bidirectional", "stacked cells"])
def test_trains_as_op_by_op_through_the_whole_compiler(name, double):
    eager = build(name)
    eager.run_eagerly = True
    expected = train(eager)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # what a step on torch would give
        assert_alike(train(build(name)), expected)


ON_TORCH = """
import json, sys
sys.path.insert(0, sys.argv[1])
from recurrent_models import results_on
print(json.dumps(results_on(sys.argv[2:])))
"""


def test_trains_as_keras_on_torch(on_torch):
    ours = results_on(ALIKE_ON_TORCH)
    environment = {**os.environ, "KERAS_BACKEND": "torch"}
    command = [sys.executable, "-c", ON_TORCH, os.path.dirname(__file__), *ALIKE_ON_TORCH]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    theirs = json.loads(run.stdout.splitlines()[-1])
    for name in ALIKE_ON_TORCH:
        assert_alike(ours[name], theirs[name])


@pytest.mark.parametrize(
    "name",
    ["lstm", "gru with both dropouts", "bidirectional, masked", "stacked cells", "own cell"],
)
def test_a_graph_does_not_grow_with_time(name):
    assert size(train_step(build(name, 8)).graph) == size(train_step(build(name, 64)).graph)


def test_unroll_is_respected():
    assert not bodies(train_step(build("unrolled lstm")).graph)


def test_bodies_are_pure_graphs_that_name_their_layer():
    model = build("lstm of all times, masked")
    captured = train_step(model)
    forward, backward = bodies(captured.graph)
    (layer,) = (layer for layer in model.layers if isinstance(layer, layers.LSTM))
    places = []
    for body in (forward, backward):
        calls = [node for node in body.graph.nodes if node.op == "call_function"]
        for node in calls:
            is_op = isinstance(node.target, torch._ops.OpOverload)
            assert (is_op and not node.target._schema.is_mutable) or node.target is operator.getitem
            assert node.meta["val"] is not None
        places.append({node.meta["keras_layer"] for node in calls})
        assert all(place.startswith(layer.path) for place in places[-1])
    assert not any(place.endswith("/grad") for place in places[0])
    assert any(place.endswith("/grad") for place in places[1])
    # Weights and what only depends on them are the same in every step: operands, not computed.
    scan = next(n for n in captured.graph.graph.nodes if str(n.target) == "keras_triton_scan")
    assert {tuple(node.meta["val"].shape) for node in scan.args[3]} >= {(4, 16), (16,)}


def test_mixed_precision_casts_weights_before_the_loop():
    model = keras.Sequential([keras.Input((8, 3)), layers.SimpleRNN(4, dtype="mixed_bfloat16")])
    x = torch.randn(2, 8, 3)
    captured = capture(lambda x: model(x), (x,), name="predict_step")
    (body,) = bodies(captured.graph)
    casts = body.graph.find_nodes(op="call_function", target=torch.ops.aten._to_copy.default)
    assert not any(tuple(node.meta["val"].shape) == (4, 4) for node in casts)


def reference(x, mask, backwards, zeros):
    """The sum so far of each sequence, twice that as output; a numpy loop."""
    states, outputs, output = np.zeros(x.shape[0]), [], np.zeros(x.shape[0])
    for t in reversed(range(x.shape[1])) if backwards else range(x.shape[1]):
        new = states + x[:, t]
        output = np.where(mask[:, t], 2 * new, 0 * new if zeros else output)
        states = np.where(mask[:, t], new, states)
        outputs.append(output)
    return output, np.stack(outputs, 1), states


@pytest.mark.parametrize("unroll", [False, True])
@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("time_major", [False, True])
def test_masks_in_every_arrangement(unroll, zeros, backwards, time_major):
    generator = np.random.default_rng(0)
    x, mask = generator.normal(size=(4, 6)), generator.integers(0, 2, (4, 6)).astype(bool)
    arranged = [torch.as_tensor(part.T.copy() if time_major else part) for part in (x, mask)]
    last, outputs, states = rnn(
        lambda x, states: (2 * (states[0] + x), [states[0] + x]),
        arranged[0].unsqueeze(-1),
        [torch.zeros(4, 1, dtype=torch.float64)],
        mask=arranged[1],
        go_backwards=backwards,
        unroll=unroll,
        time_major=time_major,
        zero_output_for_mask=zeros,
    )
    expected = reference(x, mask, backwards, zeros)
    outputs = outputs.transpose(0, 1) if time_major else outputs
    for got, wanted in zip((last, outputs, *states), expected, strict=True):
        np.testing.assert_allclose(got.squeeze(-1), wanted)


def test_lengths_mask_the_rest():
    x = torch.arange(12.0).reshape(3, 4, 1)
    last, _, _ = rnn(
        lambda x, states: (states[0] + x, [states[0] + x]),
        x,
        [torch.zeros(3, 1)],
        input_length=torch.tensor([1, 4, 2]),
    )
    assert last.flatten().tolist() == [0.0, 22.0, 17.0]


def test_no_time_is_refused():
    with pytest.raises(ValueError, match="at least one time step"):
        rnn(lambda x, states: (x, states), torch.zeros(2, 0, 3), [torch.zeros(2, 3)])


def test_states_of_a_batch_reach_the_next(double, on_torch):
    layer = layers.LSTM(4, stateful=True)
    model = keras.Sequential([keras.Input(batch_shape=(2, 3, 2)), layer])
    x = np.random.default_rng(0).normal(size=(2, 6, 2))
    in_parts = [model.predict_on_batch(x[:, :3]), model.predict_on_batch(x[:, 3:])]
    whole = keras.Sequential([keras.Input(batch_shape=(2, 6, 2)), layers.LSTM(4)])
    whole.set_weights(model.get_weights())
    np.testing.assert_allclose(in_parts[1], whole.predict_on_batch(x), rtol=1e-12)


class Peeks(layers.SimpleRNNCell):
    """A cell that reads a value in Python."""

    def call(self, x, states, training=False):
        return super().call(x if keras.ops.sum(x) > 0 else -x, states, training)


def test_a_cell_that_cannot_be_captured_trains_op_by_op_with_its_masks():
    layer = layers.RNN(Peeks(4, dropout=0.5, recurrent_dropout=0.5))
    model = keras.Sequential([keras.Input((6, 3)), layer])
    model.compile("sgd", "mse")
    with pytest.warns(
        UserWarning, match="cannot be captured: in .*peeks.*a tensor needs its value"
    ):
        model.train_on_batch(np.ones((2, 6, 3)), np.ones((2, 4)))
    assert model.train_function.step.counts.op_by_op == 1
    assert layer.cell._dropout_mask is None


@pytest.fixture
def as_if_cudnn(monkeypatch):
    """Layers take the way to cuDNN; its ops run on torch's own loops here."""
    monkeypatch.setattr(rnn_module, "fits_cudnn", lambda x, a, ra, unroll, bias: bias is not None)


@pytest.mark.parametrize(
    "name", ["lstm", "lstm of all times", "gru, backwards", "bidirectional", "stateful lstm"]
)
def test_layers_that_fit_cudnn_are_ops(name, double, on_torch, as_if_cudnn, monkeypatch):
    model = build(name)
    found = train(model)
    targets = {str(node.target) for node in train_step(model).graph.graph.nodes}
    monkeypatch.undo()
    expected = build(name)
    expected.run_eagerly = True
    assert_alike(found, train(expected))
    op = "gru" if "gru" in name else "lstm"
    wanted = {f"keras_triton.{op}_layer.default", f"keras_triton.{op}_layer_grad.default"}
    assert wanted <= targets


def test_cudnn_is_chosen_on_a_gpu_for_layers_it_has(monkeypatch):
    class OnGpu(torch.Tensor):
        device = torch.device("cuda")

    monkeypatch.setattr(rnn_module, "cudnn_ok", lambda *args, use_bias: use_bias)
    x = torch.zeros(2, 3, 4).as_subclass(OnGpu)
    tanh, sigmoid = keras.activations.tanh, keras.activations.sigmoid
    assert rnn_module.fits_cudnn(x, tanh, sigmoid, False, torch.zeros(4))
    assert not rnn_module.fits_cudnn(x, tanh, sigmoid, False, None)
    assert not rnn_module.fits_cudnn(torch.zeros(2, 3, 4), tanh, sigmoid, False, torch.zeros(4))


def test_use_cudnn_runs_without_a_gpu_too():
    model = keras.Sequential([keras.Input((6, 3)), layers.LSTM(4, use_cudnn=True)])
    assert model.predict_on_batch(np.ones((2, 6, 3))).shape == (2, 4)


def products(body):
    return len(body.graph.find_nodes(op="call_function", target=torch.ops.aten.mm.default))


@pytest.mark.parametrize("layer", [layers.SimpleRNN, layers.GRU, layers.LSTM])
def test_only_products_of_states_are_taken_step_by_step(layer):
    """Those of inputs are taken before the loop, those with the gradient by inputs after it."""
    options = {"reset_after": False} if layer is layers.GRU else {}
    model = keras.Sequential(
        [
            keras.Input((6, 3)),
            layers.Masking(),
            layer(4, return_sequences=True, **options),
            layer(4, **options),
        ]
    )
    model.compile("sgd", "mse")
    x = torch.randn(2, 6, 3)
    captured = capture(
        lambda data: model.train_step(data), ((x, torch.zeros(2, 4)),), name="train_step"
    )
    found = [products(body) for body in bodies(captured.graph)]
    states = 2 if options else 1  # a GRU of this kind multiplies its state twice
    # In a backward step each gives two, and the kernel's gradient is added up.
    assert found == [states, states, 2 * states + 1, 2 * states + 1]
