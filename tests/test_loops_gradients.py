"""Gradients of loops: one loop forward, one backward, and the numbers of op-by-op execution."""

import keras
import numpy as np
import pytest
import torch
from captured_loops import compare
from keras import ops
from numerics import float64

from keras_triton import torch_ops
from keras_triton.capture import capture

MATRIX = np.random.default_rng(0).normal(size=(3, 3))


@pytest.fixture(autouse=True)
def double():
    with float64():
        yield


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
