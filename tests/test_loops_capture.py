"""Loops of a captured step: one node each, with the values and gradients of op-by-op execution."""

import keras
import numpy as np
import pytest
import torch
from keras import layers, ops
from numerics import float64

from keras_triton import torch_ops
from keras_triton.capture import capture
from keras_triton.capture_errors import CaptureError
from keras_triton.torch_ops import loops

START = torch.arange(3.0, dtype=torch.float64) / 3


@pytest.fixture(autouse=True)
def double():
    with float64():
        yield


@pytest.fixture
def x():
    return torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def replay(captured, data):
    data = iter(data)
    given = {"data": lambda spec: next(data), "constant": lambda spec: spec.tensor}
    inputs = [
        given.get(spec.kind, lambda spec: spec.variable._value)(spec) for spec in captured.inputs
    ]
    with torch.no_grad():
        outputs = list(captured.graph(*inputs))
        for spec, value in zip(captured.outputs, outputs, strict=True):
            if spec.kind == "state":
                spec.variable._value.copy_(value)
    results = [spec.kind for spec in captured.outputs].count("result")
    return captured.result.build(outputs[:results])


def loop_nodes(module):
    return [node for node in module.graph.nodes if node.target in (loops.scan, loops.while_loop)]


def compare(step, *data, variables=(), count=1):
    """`step` captured, with `count` loops, against itself; variables start alike."""
    start = [variable.numpy().copy() for variable in variables]
    expected = keras.tree.flatten(step(*data))
    left = [variable.numpy().copy() for variable in variables]
    for variable, value in zip(variables, start, strict=True):
        variable.assign(value)
    captured = capture(step, data, name="step")
    assert len(loop_nodes(captured.graph)) == count
    found = keras.tree.flatten(replay(captured, data))
    for got, wanted in zip(found, expected, strict=True):
        assert got.dtype == wanted.dtype
        torch.testing.assert_close(got, wanted.detach(), rtol=1e-12, atol=1e-12)
    for variable, value in zip(variables, left, strict=True):
        np.testing.assert_allclose(variable.numpy(), value, rtol=1e-12)
    return captured


def plus(carry, x):
    return carry + x, carry * 2.0


# Name: a function of x [5, 3].
LOOPS = {
    "scan": lambda x: ops.scan(plus, START, x),
    "from the end": lambda x: ops.scan(plus, START, x, reverse=True),
    "without xs or ys": lambda x: ops.scan(lambda c, _: (c * x[0], None), START, length=4),
    "nested structures": lambda x: ops.scan(
        lambda c, t: ({"sum": c["sum"] + t["a"], "n": c["n"] + 1}, [t["b"], c["n"]]),
        {"sum": START, "n": ops.convert_to_tensor(0)},
        {"a": x, "b": 2.0 * x},
    ),
    "carries without use": lambda x: ops.scan(lambda c, t: (c[:1] * 2, t), (START, x[0]), x),
    "one value for two carries": lambda x: ops.scan(
        lambda c, t: ((c[0], c[0]), t), (START, x[0]), x
    ),
    "carry written in place": lambda x: ops.scan(lambda c, t: (c.add_(t), t), START.clone(), x),
    "map": lambda x: ops.map(lambda t: ops.sum(t) * t, x),
    "fori_loop": lambda x: ops.fori_loop(0, 5, lambda i, c: c + x[i] * i, START),
    "fori_loop of integers": lambda x: ops.fori_loop(
        1, 5, lambda i, n: n * i, ops.convert_to_tensor(1)
    ),
    "fori_loop to a tensor": lambda x: ops.fori_loop(
        0, ops.cast(ops.sum(ops.abs(x)), "int32") % 3 + 2, lambda i, c: c + x[i] * i, START
    ),
    "while_loop": lambda x: ops.while_loop(
        lambda i, c: i < 4, lambda i, c: (i + 1, c + x[i]), (ops.convert_to_tensor(0), START)
    ),
    "while_loop, bounded": lambda x: ops.while_loop(
        lambda c: ops.sum(c) < 1e9, lambda c: c * 2, START, maximum_iterations=3
    ),
    "while_loop, forever but bounded": lambda x: ops.while_loop(
        lambda c: True, lambda c: [c * x[0]], [START], maximum_iterations=3
    ),
    "while_loop of no step": lambda x: ops.while_loop(
        lambda c: ops.sum(c) < -1, lambda c: -c, START
    ),
}


@pytest.mark.parametrize("name", [name for name in LOOPS if name != "carries without use"])
def test_a_loop_is_one_node(name, x):
    compare(LOOPS[name], x)


def test_loops_in_loops(x):
    matrix = keras.Variable(np.eye(3) * 0.5, name="matrix")

    def step(x):
        inner = lambda i, c: ops.matmul(c, matrix) + i * x[0]  # noqa: E731
        return ops.scan(lambda c, t: (ops.fori_loop(0, 3, inner, c + t), c), START, x)

    captured = compare(step, x)
    (body,) = captured.graph.children()
    assert len(loop_nodes(body)) == 1


def test_one_step_needs_no_loop(x):
    compare(lambda x: ops.scan(plus, START, x[:1]), x, count=0)


def test_variables_written_in_a_loop(x):
    total = keras.Variable(2.0, trainable=False, name="total")

    def scanned(x):
        def f(carry, t):
            total.assign_add(ops.sum(t))
            return carry + t * total.value, total * 1.0

        return ops.scan(f, START, x)

    def doubled(x):
        def body(i):
            total.assign(total * 2.0)
            return (i + 1,)

        return ops.while_loop(lambda i: total.value < 99.0, body, (ops.convert_to_tensor(0),))

    compare(scanned, x, variables=[total])
    total.assign(2.0)
    compare(doubled, x, variables=[total])


def test_random_numbers_in_and_around_a_loop(x):
    seed = keras.random.SeedGenerator(1)

    def step(x):
        draw = lambda: keras.random.normal((3,), dtype="float64", seed=seed)  # noqa: E731
        before = draw()
        inside = ops.scan(lambda c, t: (c + draw(), c), START, x)
        return before, inside, draw()

    compare(step, x, variables=[seed.state])


def test_conditions_in_loops_and_loops_in_conditions(x):
    count = keras.Variable(0.0, trainable=False, name="count")

    def up(c, t):
        count.assign_add(1.0)
        return c + t

    def inside(x):
        choose = lambda c, t: ops.cond(ops.sum(t) > 0, lambda: up(c, t), lambda: c - t)  # noqa: E731
        return ops.scan(lambda c, t: (choose(c, t), c), START, x)

    def around(x):
        return ops.cond(
            ops.sum(x) > 0,
            lambda: ops.scan(lambda c, t: (up(c, t), c), START, x)[0],
            lambda: ops.fori_loop(0, 4, lambda i, c: up(c, x[i]), START),
        )

    compare(inside, x, variables=[count])
    compare(around, x, variables=[count], count=2)
    compare(around, -x, variables=[count], count=2)


class Scanned(layers.Layer):
    """Calls a layer with a loss of its activity for each row."""

    def __init__(self):
        super().__init__()
        self.inner = layers.ActivityRegularization(l2=0.1)

    def call(self, x):
        return ops.scan(lambda c, t: (self.inner(t[None])[0] + c, c), START, x)[0]


def test_losses_added_in_a_loop_are_added_up(x):
    layer = Scanned()
    compare(lambda x: (layer(x), sum(layer.losses)), x)


def test_a_train_step_in_a_loop(x):
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
    model.compile("adam", "mse")
    model.optimizer.build(model.trainable_variables)

    def step(x):
        def f(carry, t):
            model.zero_grad()
            with torch.enable_grad():
                loss = ops.sum(ops.square(model(t[None])))
                loss.backward()
            variables = model.trainable_variables
            model.optimizer.apply([v.value.grad for v in variables], variables)
            return carry, loss.detach()

        with torch.no_grad():
            return ops.scan(f, START, x)

    compare(step, x, variables=[*model.variables, *model.optimizer.variables])


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        (lambda x: ops.fori_loop(0, 5, lambda i, c: c + x[range(5)[i]], START), "needs the value"),
        (
            lambda x: ops.scan(lambda c, t: (ops.concatenate([c, t]), t), START, x),
            r"makes float64\[6\] of a state that is float64\[3\]",
        ),
    ],
    ids=["a number needed", "a state that grows"],
)
def test_what_is_no_loop_is_unrolled(step, reason, x):
    with pytest.warns(UserWarning, match=f"The loop in step is unrolled, .*{reason}"):
        compare(step, x, count=0)


def written_outside(x):
    total = ops.zeros((3,), dtype="float64")
    return ops.scan(lambda c, t: (c + total.add_(t), c), START, x)


def leaked(x):
    seen = []
    result = ops.scan(lambda c, t: (c + t, seen.append(2.0 * t)), START, x)
    return result, seen[0]


def differentiated(x):
    x = x.clone().requires_grad_()
    return ops.while_loop(lambda c: ops.sum(c) < 9, lambda c: c + ops.exp(x[0]), x[0])


def differentiated_twice(x):
    x = x.clone().requires_grad_()
    result, _ = ops.scan(lambda c, t: (c * t, t), START, x)
    (gradient,) = torch.autograd.grad(ops.sum(result), [x], create_graph=True)
    return torch.autograd.grad(ops.sum(gradient**2), [x])


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        (written_outside, "a tensor made outside of the loop is written to in place"),
        (leaked, "a tensor made inside a loop is used outside of it"),
        (differentiated, "a while loop has no gradient"),
        (differentiated_twice, "the gradient of a loop has no gradient"),
    ],
)
def test_what_no_loop_can_do_is_refused(step, reason, x):
    with pytest.raises(CaptureError, match=reason):
        capture(step, (x,), name="step")


MATRIX = np.random.default_rng(0).normal(size=(3, 3))


@pytest.fixture
def weights():
    return [
        keras.Variable(MATRIX, name="matrix"),
        keras.Variable(MATRIX[0], name="bias"),
        keras.Variable(MATRIX[:2], name="start"),
    ]


@ops.custom_gradient
def tripled_gradient(x):
    return x * 2.0, lambda *args, upstream: 3.0 * upstream


def cell(c, t, matrix, bias):
    return ops.tanh(ops.matmul(c, matrix) + t + bias)


# Name: (result of x [5, 2, 3], matrix, bias, start [2, 3]; loops, forward and backward).
GRADIENTS = {
    "last state": (lambda x, m, b, s: ops.scan(lambda c, t: (cell(c, t, m, b), t), s, x)[0], 2),
    "all steps": (lambda x, m, b, s: ops.scan(lambda c, t: (cell(c, t, m, b), c * t), s, x), 2),
    "from the end": (
        lambda x, m, b, s: ops.scan(lambda c, t: (cell(c, t, m, b), c), s, x, reverse=True)[1],
        2,
    ),
    "slices": (lambda x, m, b, s: ops.scan(lambda c, t: (c * t, c), s, x * b)[1], 2),
    "a computed closure": (
        lambda x, m, b, s: (
            lambda q: ops.scan(lambda c, t: (ops.tanh(ops.matmul(c, q) + t), c), s, x)[1]
        )(ops.transpose(ops.exp(m))),
        2,
    ),
    "a stopped gradient": (
        lambda x, m, b, s: ops.scan(
            lambda c, t: (ops.stop_gradient(cell(c, t, m, b)), cell(c, t, m, b)), s, x
        )[1],
        2,
    ),
    "one of two outputs": (
        lambda x, m, b, s: ops.scan(lambda c, t: (cell(c, t, m, b), (c * 2, c * t)), s, x)[1][1],
        2,
    ),
    "an integer carry": (
        lambda x, m, b, s: ops.scan(
            lambda c, t: ((cell(c[0], t, m, b) * ops.cast(c[1], "float64"), c[1] + 1), c[0]),
            (s, ops.convert_to_tensor(1)),
            x,
        )[1],
        2,
    ),
    "a loop in a loop": (
        lambda x, m, b, s: ops.scan(
            lambda c, t: (ops.fori_loop(0, 3, lambda i, a: cell(a, t, m, b) + i * b, c), c), s, x
        )[1],
        2,
    ),
    "a loop in a loop over all": (
        lambda x, m, b, s: ops.scan(
            lambda c, t: ops.scan(lambda a, u: (cell(a, u, m, b), a * u), c + s, x), s, x
        )[1],
        2,
    ),
    "a loop on a loop": (
        lambda x, m, b, s: ops.scan(
            lambda c, t: (cell(c, t, m, b), c),
            s,
            ops.scan(lambda c, t: (cell(c, t, m, b), c), s, x)[1],
        )[1],
        4,
    ),
    "a condition": (
        lambda x, m, b, s: ops.scan(
            lambda c, t: (ops.cond(ops.sum(t) > 0, lambda: cell(c, t, m, b), lambda: c * b), c),
            s,
            x,
        )[1],
        2,
    ),
    "remat inside": (
        lambda x, m, b, s: ops.scan(
            lambda c, t: (keras.remat(lambda a: cell(a, t, m, b))(c), c), s, x
        )[1],
        2,
    ),
    # The forward loop runs again in the backward pass.
    "remat outside": (
        lambda x, m, b, s: keras.remat(
            lambda x: ops.scan(lambda c, t: (cell(c, t, m, b), c), s, x)[1]
        )(ops.exp(x)),
        2,
    ),
    "a custom gradient": (
        lambda x, m, b, s: ops.scan(lambda c, t: (tripled_gradient(cell(c, t, m, b)), c), s, x)[1],
        2,
    ),
    "softmax and products": (
        lambda x, m, b, s: ops.scan(
            lambda c, t: (ops.softmax(ops.matmul(c, m) * t), ops.einsum("bi,bj->bij", c, t)), s, x
        ),
        2,
    ),
}


def train(result, weights, x):
    """The loss of a result, and the gradients by the weights."""
    for weight in weights:
        weight.value.grad = None
    parts = keras.tree.flatten(result(x, *(weight.value for weight in weights)))
    loss = sum(ops.sum(ops.square(part)) for part in parts if part.is_floating_point())
    loss.backward()
    gradients = (weight.value.grad for weight in weights)
    return [loss, *(ops.zeros(1) if gradient is None else gradient for gradient in gradients)]


@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients(name, weights):
    result, count = GRADIENTS[name]
    x = torch.randn(5, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    compare(lambda x: train(result, weights, x), x, count=count)


def test_gradients_out_of_sight_are_kept_by_unrolling(weights):
    """A custom gradient takes its arguments past everything that watches calls of torch."""
    x = torch.randn(5, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    def result(x, m, b, s):
        doubled = 2.0 * b
        return ops.scan(lambda c, t: (cell(c, t, m, b) + tripled_gradient(doubled), c), s, x)

    with pytest.warns(UserWarning, match="a function with its own gradient takes a tensor"):
        compare(lambda x: train(result, weights, x), x, count=0)


def test_backward_keeps_products_and_computes_the_rest_again(weights):
    x = torch.randn(5, 2, 3, dtype=torch.float64)
    result, _ = GRADIENTS["last state"]
    captured = capture(lambda x: train(result, weights, x), (x,), name="step")
    forward, backward = captured.graph.children()
    products = [
        len(body.graph.find_nodes(op="call_function", target=torch.ops.aten.mm.default))
        for body in (forward, backward)
    ]
    assert products == [1, 2]
    tanh = torch.ops.aten.tanh.default
    assert len(backward.graph.find_nodes(op="call_function", target=tanh)) == 1


def test_associative_scan_grows_with_the_logarithm():
    def size(length):
        x = torch.randn(length, 3, dtype=torch.float64)
        step = lambda x: ops.associative_scan(ops.add, x)  # noqa: E731
        captured = compare(step, x, count=0)
        return len(captured.graph.graph.nodes)

    assert size(256) - size(128) == size(128) - size(64)


def test_vectorized_map(x):
    compare(lambda x: ops.vectorized_map(lambda t: ops.sum(t) * ops.tanh(t), x), x, count=0)


def test_shapes_of_conditions():
    branches = [lambda a: a * 2, lambda a: a * 3]
    spec = ops.switch(keras.KerasTensor((), "int32"), branches, keras.KerasTensor((2, 3)))
    assert spec.shape == (2, 3)


def test_operators_mean_python_loops():
    x, constant = torch.randn(4, 3), torch.tensor(2.0)
    body = lambda c, x_t, k: (c + k * x_t, c)  # noqa: E731
    last, before = loops.scan(body, (torch.zeros(3),), (x,), (constant,), 4, True)
    torch.testing.assert_close(last, 2.0 * x.sum(0))
    torch.testing.assert_close(before[0], 2.0 * x[1:].sum(0))
    torch.testing.assert_close(before[3], torch.zeros(3))
    limit = lambda c, k: (c.sum() < k,)  # noqa: E731
    grown = loops.while_loop(limit, lambda c, k: (c + 1,), (torch.zeros(3),), (torch.tensor(7.0),))
    assert grown[0].tolist() == [3.0] * 3


def test_operators_stay_when_the_package_is_loaded_again():
    from importlib import reload

    before = loops.scan
    assert reload(loops).scan is before


@pytest.mark.parametrize(("op", "gates", "biases"), [("lstm", 4, ()), ("gru", 3, (2,))])
def test_gradients_of_whole_layers(op, gates, biases):
    shapes = [(2, 5, 3), *[(2, 4)] * (gates - 2), (3, 4 * gates), (4, 4 * gates)]
    shapes.append((*biases, 4 * gates))
    if op == "gru":
        shapes = [(2, 5, 3), (2, 4), *shapes[-3:]]
    generator = torch.Generator().manual_seed(0)
    inputs = [
        torch.randn(shape, dtype=torch.float64, generator=generator, requires_grad=True)
        for shape in shapes
    ]
    assert torch.autograd.gradcheck(getattr(torch_ops, f"{op}_layer"), inputs)
