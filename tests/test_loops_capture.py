"""Loops of a captured step: one node each, with the values of op-by-op execution."""

import keras
import numpy as np
import pytest
import torch
from captured_loops import compare, loop_nodes
from keras import layers, ops
from numerics import float64

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
        (
            lambda x: ops.fori_loop(0, 5, lambda i, c: c + x[range(5)[i]], START),
            "a tensor needs its value",
        ),
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
