"""Gradients of what jitted functions return, and gradients taken inside of them."""

import keras
import pytest
import torch
from jit_cases import close, counts, tensor, weight
from keras import layers, ops

import keras_triton


def gradients(function, *tensors, variables=()):
    """A weighted sum's gradients with respect to tensors and variables."""
    for owner in (*tensors, *(v._value for v in variables)):
        owner.grad = None
    results = [r for r in torch.utils._pytree.tree_leaves(function(*tensors)) if r.requires_grad]
    total = sum((torch.cos(torch.arange(r.numel())).reshape(r.shape) * r).sum() for r in results)
    total.backward()
    return [owner.grad for owner in (*tensors, *(v._value for v in variables))]


def test_results_are_differentiable_in_arguments_and_variables():
    w, frozen = weight(4, 3), weight(3, trainable=False)
    norm = layers.LayerNormalization()
    norm.build((None, 3))

    def apply(x, y):
        hidden = norm(ops.tanh(ops.matmul(x, w))) + frozen
        return {"a": ops.softmax(hidden) * y, "b": ops.argmax(hidden, -1), "c": ops.sum(x)}

    fast = keras_triton.jit(apply)
    x, y = tensor(5, 4, grad=True), tensor(5, 3, grad=True)
    variables = [w, *norm.trainable_variables]
    want = gradients(apply, x, y, variables=variables)
    for got, wanted in zip(gradients(fast, x, y, variables=variables), want, strict=True):
        close(got, wanted)
    result = fast(x, y)
    assert [result[key].requires_grad for key in "abc"] == [True, False, True]
    assert frozen.value.grad is None
    assert counts(fast) == (1, 2, 0)


FUNCTIONS = {
    "scan": lambda x: ops.scan(lambda c, v: (c * 0.5 + v, ops.tanh(c)), ops.zeros((3, 2)), x)[1],
    "loop": lambda x: ops.fori_loop(0, 4, lambda i, c: ops.tanh(c) * 1.1, x),
    "branch": lambda x: ops.cond(ops.sum(x) > 0, lambda: x * 2, lambda: ops.sin(x)),
    "vectorized": lambda x: ops.vectorized_map(lambda v: ops.sum(v**2), x),
    "in place": lambda x: (x * 1).mul_(2).add_(x),
    "sorted": lambda x: torch.topk(ops.sort(x, -1), 1)[0],
    "inverse": lambda x: torch.linalg.inv(x[:, :2] + 3 * torch.eye(2)),
    "complex": lambda x: torch.fft.fft(x).abs(),
    "rematerialized": keras.remat(lambda x: ops.tanh(x) ** 2),
    "stopped": lambda x: x * ops.stop_gradient(x),
    "own rule": lambda x: Squared.apply(x),
    "nothing to save": lambda x: x.reshape(4, 2, 3) + 1,
}


class Squared(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, tangent):
        (x,) = ctx.saved_tensors
        return 20 * tangent * x


@pytest.mark.parametrize("name", FUNCTIONS)
def test_gradients_of_many_kinds_of_functions(name):
    fast = keras_triton.jit(FUNCTIONS[name])
    x = tensor(4, 3, 2, grad=True)
    (got,) = gradients(fast, x)
    (want,) = gradients(FUNCTIONS[name], x)
    close(got, want)
    assert counts(fast) == (1, 1, 0)


def test_gradients_pass_through_on_both_sides():
    w = weight(3, 3)
    fast = keras_triton.jit(lambda x: ops.tanh(ops.matmul(x, w)))
    x = tensor(2, 3, grad=True)
    (got,) = torch.autograd.grad(fast(fast(x.exp()).sin()).sum(), x)
    slow = fast.fn
    (want,) = torch.autograd.grad(slow(slow(x.exp()).sin()).sum(), x)
    close(got, want)


def test_only_what_requires_gradients_gets_them():
    fast = keras_triton.jit(lambda x, y: x * y)
    x, y = tensor(3, grad=True), tensor(3, seed=1)
    assert not fast(y, y).requires_grad
    fast(x, y).sum().backward()
    close(x.grad, y)
    assert y.grad is None
    with torch.no_grad():
        assert not fast(x, y).requires_grad
    with torch.inference_mode():
        assert not fast(x, y).requires_grad
    assert counts(fast) == (3, 4, 0), (
        "without gradients and in inference mode the same program runs"
    )


def test_a_state_that_changes_between_the_passes_is_remembered_or_refused():
    mean = keras.Variable(2.0, trainable=False, name="mean")

    def apply(x):
        result = x * x * (mean + 0.0)
        mean.assign(mean * 3.0)
        return result

    x = tensor(3, grad=True)
    keras_triton.jit(apply)(x).sum().backward()
    close(x.grad, 4 * x.detach())
    assert float(mean) == 6.0
    w = weight(3)
    result = keras_triton.jit(lambda x: x * w)(x)
    with torch.no_grad():
        w.value.add_(1.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        result.sum().backward()


def test_dropout_has_one_mask_in_both_passes():
    drop = layers.Dropout(0.5, seed=1)
    fast = keras_triton.jit(lambda x: drop(x, training=True))
    x = torch.ones(64, requires_grad=True)
    result = fast(x)
    result.sum().backward()
    close(x.grad, result.detach())
    assert 10 < torch.count_nonzero(x.grad) < 54


def test_gradients_of_gradients_raise_outside_and_work_inside():
    fast = keras_triton.jit(lambda x: ops.sin(x))
    x = tensor(3, grad=True)
    with pytest.raises(RuntimeError, match="take gradients of gradients inside"):
        torch.autograd.grad(fast(x).sum(), x, create_graph=True)

    def slope(x):
        return torch.autograd.grad(ops.sin(x).sum(), x, create_graph=True)[0]

    fast = keras_triton.jit(slope)
    fast(x).sum().backward()
    close(x.grad, -torch.sin(x.detach()))
    assert counts(fast) == (1, 1, 0)


@pytest.mark.parametrize("clears", [True, False])
def test_gradients_left_in_grad_are_seen_outside(clears):
    """`backward` inside adds to what is there, unless the function clears it first."""
    w = weight(3)

    def step(x):
        if clears:
            w.value.grad = None
        loss = (x * w).sum()
        loss.backward()
        return loss

    fast, x = keras_triton.jit(step), tensor(3)
    for calls in (1, 2, 3):
        fast(x)
        close(w.value.grad, x if clears else calls * x)
    assert counts(fast) == ((1 if clears else 2), 3, 0), "none before, and one before"


def test_gradients_from_outside_are_read_inside():
    w = weight(3)
    descend = keras_triton.jit(lambda rate: w.assign_sub(rate * w.value.grad))
    before, x = w.numpy(), tensor(3)
    (w * x).sum().backward()
    with torch.no_grad():
        descend(torch.tensor(0.5))
    close(w.value.detach(), torch.as_tensor(before) - 0.5 * x)
    close(w.value.grad, x)


def test_keras_and_torch_modules_clear_their_gradients_inside():
    dense, linear = layers.Dense(2), torch.nn.Linear(3, 2)
    dense.build((None, 3))

    @keras_triton.jit
    def clear():
        dense.zero_grad()
        linear.zero_grad()

    x = tensor(4, 3)
    (dense(x) + linear(x)).sum().backward()
    clear()
    assert all(v.value.grad is None for v in dense.trainable_variables)
    assert all(p.grad is None for p in linear.parameters())
