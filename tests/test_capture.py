"""A captured step replayed equals the same step run op by op, and is one functional graph."""

import re

import keras
import numpy as np
import pytest
import torch
from capture_models import MODELS, cnn, custom, mlp, prepared
from keras import layers, ops
from replay import replay

from keras_triton.capture import capture
from keras_triton.capture_errors import VALUE_READ, CaptureError

STEPS = 5
# The graph runs the same kernels on decomposed ops; only the order of roundings differs.
TOLERANCE = 1e-5


def numbers(values) -> list[np.ndarray]:
    return [keras.ops.convert_to_numpy(v).copy() for v in values]


@pytest.mark.parametrize("make", MODELS, ids=lambda make: make.__name__)
def test_replay_equals_op_by_op(make):
    model, data = prepared(make)
    known = [*model.variables, *model.optimizer.variables, *model.metrics_variables]
    start = numbers(known)
    captured = capture(lambda data: model.train_step(data), (data,), name="train_step")
    np.testing.assert_equal(numbers(known), start)

    variables = [spec.variable for spec in captured.inputs if spec.kind == "state"]
    start = numbers(variables)
    expected_logs = [numbers(model.train_step(data).values()) for _ in range(STEPS)]
    expected = numbers(variables)
    for variable, value in zip(variables, start, strict=True):
        variable.assign(value)
    logs = [numbers(replay(captured, data).values()) for _ in range(STEPS)]

    np.testing.assert_allclose(logs, expected_logs, rtol=TOLERANCE)
    for variable, value in zip(variables, expected, strict=True):
        (got,) = numbers([variable])
        np.testing.assert_allclose(got, value, rtol=TOLERANCE, atol=1e-6, err_msg=variable.path)


@pytest.mark.parametrize("make", [mlp, cnn, custom], ids=lambda make: make.__name__)
def test_one_functional_graph(make):
    model, data = prepared(make)
    captured = capture(lambda data: model.train_step(data), (data,), name="train_step")
    calls = captured.graph.graph.find_nodes
    nodes = [n for n in captured.graph.graph.nodes if n.op == "call_function"]
    assert not calls(op="get_attr")
    for node in nodes:
        if isinstance(node.target, torch._ops.OpOverload):
            assert not node.target._schema.is_mutable, node
        else:
            assert node.target.__name__ == "getitem"
    places = {node.meta["keras_layer"] for node in nodes}
    assert any(place.endswith("/grad") for place in places)
    assert {"optimizer", "metrics"} <= places

    states = {id(s.variable) for s in captured.inputs if s.kind == "state"}
    changed = {id(s.variable) for s in captured.outputs if s.kind == "state"}
    assert changed <= states
    assert {id(v) for v in model.trainable_variables} <= changed
    metric = model.tracker if make is custom else model._loss_tracker
    assert {id(v) for v in metric.variables} <= changed
    assert id(model.optimizer.iterations) in changed
    assert id(model.optimizer._learning_rate) in states - changed


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_branches_that_write_in_place_do_not_see_each_other(sign):
    """Keras's schedule of restarts subtracts in place in one branch, and divides in the other."""

    def step(x):
        shared = x * 1.0

        def halve():
            part = shared
            part /= 2.0
            return part + 0.0

        def move():
            shared.add_(10.0)
            return shared

        return ops.cond(ops.sum(x) > 0.0, halve, move), shared

    x = sign * torch.arange(1.0, 4.0)
    captured = capture(step, (x,), name="step")
    for got, want in zip(captured.graph(x), step(x), strict=True):
        torch.testing.assert_close(got, want)


def test_each_node_names_its_layer():
    model, data = prepared(cnn)
    captured = capture(lambda data: model.train_step(data), (data,), name="train_step")
    places = {node.meta["keras_layer"] for node in captured.graph.graph.nodes}
    for layer in model.layers:
        if layer.variables:
            assert layer.path in places
            assert f"{layer.path}/grad" in places


def test_input_names():
    model, (x, y) = prepared(custom)
    step = lambda data: {"sum": ops.sum(data[0]["a"]) + ops.sum(data[1])}  # noqa: E731
    captured = capture(step, (({"a": x}, y),), name="step")
    assert [(s.kind, s.name) for s in captured.inputs] == [("data", "data/x/a"), ("data", "data/y")]
    train = capture(lambda data: model.train_step(data), ((x, y),), name="train_step")
    assert model.dense.kernel.path in {s.name for s in train.inputs}


def test_variables_in_closures_are_inputs():
    counter = keras.Variable(3.0, name="counter")
    table = torch.arange(100.0)

    def step(x):
        counter.assign_add(1.0)
        return x + counter.value + ops.sum(table)

    captured = capture(step, (torch.zeros(2),), name="step")
    kinds = [spec.kind for spec in captured.inputs]
    assert kinds == ["data", "state", "constant"]
    assert captured.inputs[2].tensor is table
    assert [spec.kind for spec in captured.outputs] == ["result", "state"]
    assert counter.numpy() == 3.0
    for step_number in (1, 2):
        result = replay(captured, (torch.zeros(2),))
        assert result.tolist() == [4953.0 + step_number] * 2
    assert counter.numpy() == 5.0


def test_outputs_do_not_alias_inputs():
    variable = keras.Variable(np.zeros((2, 3), "float32"), name="v")

    def step(x):
        before = ops.transpose(ops.copy(variable.value))
        variable.assign(x)
        return before, x

    captured = capture(step, (torch.ones(2, 3),), name="step")
    before, same = replay(captured, (torch.ones(2, 3),))
    assert before.tolist() == [[0.0] * 2] * 3
    assert same.tolist() == [[1.0] * 3] * 2
    assert variable.numpy().tolist() == [[1.0] * 3] * 2


def test_results_without_tensors():
    captured = capture(lambda x: {"a": None, "b": (x, 3)}, (torch.ones(2),), name="step")
    result = replay(captured, (torch.ones(2),))
    assert result["a"] is None
    assert result["b"][0].tolist() == [1.0, 1.0]
    assert result["b"][1] == 3


@pytest.mark.parametrize(("index", "factor"), [(-1, 1.0), (0, 1.0), (1, 2.0), (2, 3.0), (7, 3.0)])
def test_switch(index, factor):
    scale = [lambda x, k=k: x * k for k in (1.0, 2.0, 3.0)]
    step = lambda i, x: ops.switch(i, scale, x)  # noqa: E731
    arguments = (torch.tensor(index), torch.ones(2))
    captured = capture(step, arguments, name="step")
    assert replay(captured, arguments).tolist() == [factor] * 2


def test_literals_fold_to_scalars():
    count = torch.tensor(4.0)

    def step(x):
        scale = ops.power(ops.convert_to_tensor(0.5), ops.convert_to_tensor(2.0))
        return x * scale + count

    captured = capture(step, (torch.ones(2),), name="step")
    assert [spec.kind for spec in captured.inputs] == ["data", "constant"]
    scalars = captured.graph.graph.find_nodes(
        op="call_function", target=torch.ops.aten.full.default
    )
    assert [node.args for node in scalars] == [([], 0.25)]
    count.fill_(5.0)  # a closed-over tensor is read at each call
    assert replay(captured, (torch.ones(2),)).tolist() == [5.25, 5.25]


def test_parts_of_no_elements_leave_no_trace():
    x = torch.arange(1.0, 8.0)
    captured = capture(lambda x: ops.associative_scan(ops.multiply, x), (x,), name="step")
    assert replay(captured, (x,)).tolist() == x.cumprod(0).tolist()
    assert all(node.meta["val"].numel() for node in captured.graph.graph.nodes if node.users)


def test_unseeded_random_numbers_advance():
    step = lambda x: x + keras.random.uniform((3,))  # noqa: E731
    step(torch.zeros(3))  # Keras makes its global seed generator at the first use
    captured = capture(step, (torch.zeros(3),), name="step")
    first, second = (replay(captured, (torch.zeros(3),)) for _ in range(2))
    assert not torch.equal(first, second)


def test_host_random_numbers_are_refused():
    with pytest.raises(CaptureError, match="random module would be frozen"):
        capture(lambda x: x * np.random.uniform(), (torch.zeros(3),), name="step")


def test_matrix_inverse():
    matrix = torch.eye(3) * 2.0
    captured = capture(lambda x: ops.inv(x), (matrix,), name="step")
    assert replay(captured, (matrix,)).tolist() == (torch.eye(3) / 2.0).tolist()


def test_values_made_of_literals_and_shapes_are_known():
    def step(x):
        batch, length, _ = ops.shape(x)
        places = ops.arange(length)
        mask = ops.cast(places[:, None] >= places, "int32")[None]
        times = ops.concatenate([ops.expand_dims(batch, -1), ops.convert_to_tensor([1, 1])], 0)
        count = torch.zeros(2)
        count[1] = int(ops.max(places)) + times.tolist()[0]
        if ops.any(ops.equal(times, batch)):
            x = x * float(count.sum())
        return ops.tile(mask, times), ops.reshape(x, (times[0], -1))

    x = torch.ones(2, 4, 3)
    mask, flat = replay(capture(step, (x,), name="step"), (x,))
    assert mask.tolist() == [torch.ones(4, 4).tril().tolist()] * 2
    assert flat.tolist() == [[5.0] * 12] * 2


def test_what_tensors_from_outside_hold_is_not_known():
    times = torch.tensor([2, 1])
    with pytest.raises(CaptureError, match="needs the value of a tensor"):
        capture(lambda x: ops.tile(x, times), (torch.ones(2, 2),), name="step")


class Chooses(layers.Layer):
    def call(self, x):
        return x if ops.sum(x) > 0 else -x


class Counts(layers.Layer):
    def call(self, x):
        return ops.nonzero(x)[0]


class ReadsNumpy(layers.Layer):
    def call(self, x):
        return x * float(ops.convert_to_numpy(x).max())


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (Chooses(name="chooser"), VALUE_READ),
        (Counts(name="counter"), "aten.nonzero.default depends on the values of a tensor"),
        (ReadsNumpy(name="reader"), "a conversion to numpy needs the value of a tensor"),
    ],
)
def test_error_names_layer_and_op(layer, reason):
    model = keras.Sequential([keras.Input((4,)), layers.Dense(4)])
    with pytest.raises(CaptureError, match=re.escape(reason)) as caught:
        capture(lambda x: layer(model(x)), (torch.ones(2, 4),), name="predict_step")
    assert caught.value.layer.endswith(layer.name)
    assert str(caught.value).startswith("predict_step cannot be captured: in ")


def test_keras_own_errors_pass():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(4)])
    with pytest.raises(ValueError, match="incompatible with the layer"):
        capture(lambda x: model(x), (torch.ones(2, 5),), name="predict_step")


def test_created_variables_are_transient_errors():
    layer = layers.Dense(3)
    with pytest.raises(CaptureError, match="is created during the step") as caught:
        capture(lambda x: layer(x), (torch.ones(2, 4),), name="predict_step")
    assert caught.value.transient
    assert layer(torch.ones(2, 4)).shape == (2, 3)
