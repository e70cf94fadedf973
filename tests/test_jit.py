"""`keras_triton.jit`: any function of Keras ops, variables and torch tensors behaves as if uncompiled."""

import warnings

import keras
import numpy as np
import pytest
import torch
from keras import layers, ops
from keras.src.backend.common.variables import AutocastScope

import keras_triton
from keras_triton import compiled_function
from keras_triton.capture_errors import CaptureError


def weight(*shape, trainable=True):
    value = np.random.default_rng(0).normal(size=shape).astype("float32")
    return keras.Variable(value, trainable=trainable, name="w")


def tensor(*shape, seed=0, grad=False):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator).requires_grad_(grad)


def counts(function):
    return tuple(vars(function.counts).values())


def close(got, want):
    # The same roundings in another order.
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-6)


# Arguments and results


def test_nested_arguments_and_results():
    @keras_triton.jit
    def mix(pair, *, named, scale=2.0, name="unused"):
        left, right = pair
        return {"sum": left + right, "rest": [named["x"] * scale, None, name, (scale,)]}

    x = tensor(3)
    found = mix((x, x.numpy()), named={"x": x})
    assert list(found) == ["sum", "rest"]
    close(found["sum"], 2 * x)
    close(found["rest"][0], 2 * x)
    assert found["rest"][1:] == [None, "unused", (2.0,)]
    mix((x, x), named={"x": x}, scale=2.0)
    assert counts(mix) == (2, 2, 0), "defaults are not part of what is given"
    mix((x, x), named={"x": x})
    assert counts(mix) == (2, 3, 0)


def test_plain_values_are_fixed_and_tensors_are_not():
    double = keras_triton.jit(lambda x, n: x * n)
    x = tensor(4)
    for n in (2, 2.0, True, 3, 2):
        close(double(x, n), x * n)
    assert counts(double) == (4, 5, 0)
    for n in (2.0, 5.0):
        close(double(x, torch.tensor(n)), x * n)
        close(double(x, np.float32(n)), x * n)
    assert counts(double) == (5, 9, 0)
    keyed = keras_triton.jit(lambda x, zero: torch.copysign(x, torch.tensor(zero)))
    close(keyed(x, 0.0), x.abs())
    close(keyed(x, -0.0), -x.abs())


def test_a_new_shape_dtype_or_floatx_compiles_anew():
    twice = keras_triton.jit(lambda x: x * 2)
    for x in (tensor(3), tensor(4), tensor(3).double(), tensor(3), torch.arange(3)):
        found = twice(x)
        close(found, x * 2)
        assert found.dtype == x.dtype
    assert counts(twice) == (4, 5, 0)
    try:
        keras.config.set_floatx("float64")
        filled = keras_triton.jit(lambda x: ops.ones(3) + ops.cast(x, keras.config.floatx()))
        assert filled(tensor(3)).dtype == torch.float64
        keras.config.set_floatx("float32")
        assert filled(tensor(3)).dtype == torch.float32
    finally:
        keras.config.set_floatx("float32")


def test_views_of_arguments_are_taken_as_they_are():
    total = keras_triton.jit(lambda x: ops.sum(x, axis=0))
    x = tensor(4, 6)
    close(total(x.T), x.T.sum(0))
    close(total(x[::2, 1:]), x[::2, 1:].sum(0))


def test_results_share_no_memory_with_arguments_or_variables():
    w = weight(3)
    give = keras_triton.jit(lambda x: (x, w, w.value))
    x = tensor(3)
    same, variable, value = give(x)
    w.assign(ops.zeros(3))
    x.zero_()
    assert torch.count_nonzero(same) == torch.count_nonzero(variable) == 3
    close(value, variable)


def test_objects_are_fixed_by_their_own_equality_and_variables_by_identity():
    act = keras_triton.jit(lambda fn, x, v: fn(x) + v)
    x, first, second = tensor(3), weight(3), weight(3)
    for fn, v in ((ops.tanh, first), (ops.relu, first), (ops.tanh, second), (ops.tanh, first)):
        close(act(fn, x, v), fn(x) + v.value)
    assert counts(act) == (3, 4, 0)


def test_an_argument_that_is_neither_runs_op_by_op_with_one_warning():
    class Point:
        __hash__ = None
        x = 2.0

    move = keras_triton.jit(lambda x, point: x + point.x)
    with pytest.warns(
        UserWarning, match="an argument of type Point is neither a tensor nor a fixed"
    ):
        close(move(tensor(3), Point()), tensor(3) + 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        move(tensor(3), Point())
    assert counts(move) == (0, 0, 2)
    assert [error.reason for error in move.refused] == [
        "an argument of type Point is neither a tensor nor a fixed value"
    ]


def test_programs_are_forgotten_when_there_are_too_many(monkeypatch):
    monkeypatch.setattr(compiled_function, "PROGRAMS", 2)
    scale = keras_triton.jit(lambda x, n: x * n)
    scale(tensor(2), 1)
    scale(tensor(2), 2)
    scale(tensor(2), 1)
    with pytest.warns(UserWarning, match="give numbers that change from call to call as tensors"):
        scale(tensor(2), 3)
    assert len(scale.captured) == 2
    scale(tensor(2), 1)
    assert scale.counts.captures == 3, "the one that ran longest ago went"
    scale(tensor(2), 2)
    assert scale.counts.captures == 4


def test_functions_of_nothing_and_of_no_result():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert keras_triton.jit(lambda: None)() is None
        assert keras_triton.jit(lambda x: "fixed")(tensor(3)) == "fixed"
        close(keras_triton.jit(lambda: ops.ones(3))(), torch.ones(3))


# State


def test_variables_are_read_at_each_call_and_updated_after_it():
    count = keras.Variable(0.0, trainable=False, name="count")
    w = weight(3)

    @keras_triton.jit
    def step(x):
        count.assign_add(1.0)
        w.assign(w * 2.0)
        return x * w + count

    x, before = tensor(3), w.numpy()
    close(step(x), x * 2 * before + 1)
    w.assign(ops.ones(3))
    count.assign(10.0)
    close(step(x), x * 2 + 11)
    assert (float(count), w.numpy().tolist()) == (11.0, [2.0] * 3)
    assert counts(step) == (1, 2, 0)


def test_seeds_advance_and_draw_as_op_by_op():
    found = []
    for wrap in (keras_triton.jit, lambda f: f):
        seed = keras.random.SeedGenerator(3)
        draw = wrap(lambda seed=seed: keras.random.normal((4,), seed=seed))
        found.append([draw().numpy() for _ in range(3)])
    np.testing.assert_allclose(*found, rtol=1e-6)
    assert not np.array_equal(found[0][0], found[0][1])


def test_an_unbuilt_layer_is_built_by_the_first_call():
    dense = layers.Dense(3)
    fast = keras_triton.jit(dense)
    x = tensor(2, 4)
    first = fast(x)
    close(fast(x), first)
    assert counts(fast) == (1, 1, 1)
    assert (fast.name, fast.__name__) == (dense.name, dense.name)


def test_a_function_that_makes_its_layer_is_captured_later():
    made = []

    @keras_triton.jit
    def apply(x):
        if not made:
            made.append(layers.Dense(3))
        return made[0](x)

    first = apply(tensor(2, 4))
    close(apply(tensor(2, 4)), first)
    assert apply.counts.compiled >= 1
    assert apply.refused == []


def test_other_trainable_flags_compile_anew_and_both_programs_stay():
    norm = layers.BatchNormalization()
    norm.build((None, 3))
    train = keras_triton.jit(lambda x: norm(x, training=True))
    x = tensor(5, 3)
    for trainable in (True, False, True, False):
        norm.trainable = trainable
        close(train(x).mean(0).abs().max() < 1e-5, torch.tensor(trainable))
    assert counts(train) == (2, 4, 0)


def test_one_function_of_a_whole_training_step():
    """A loop of one's own, outside of `fit`: backward pass and optimizer inside."""
    found = []
    for wrap in (keras_triton.jit, lambda f: f):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((4,)), layers.Dense(8, "relu"), layers.Dense(1)])
        optimizer = keras.optimizers.Adam(0.05)
        optimizer.build(model.trainable_variables)

        @wrap
        def step(x, y, model=model, optimizer=optimizer):
            model.zero_grad()
            loss = ops.mean(ops.square(model(x, training=True) - y))
            loss.backward()
            variables = model.trainable_variables
            with torch.no_grad():
                optimizer.apply([v.value.grad for v in variables], variables)
            return loss

        losses = [step(tensor(6, 4), tensor(6, 1, seed=1)).item() for _ in range(5)]
        gradients = [v.value.grad.clone() for v in model.trainable_variables]
        found.append([torch.tensor(losses), *gradients])
        if wrap is keras_triton.jit:
            assert counts(step) == (1, 5, 0)
    for got, want in zip(*found, strict=True):
        close(got, want)


# Gradients


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


# Where it is used


def test_decorator_with_arguments_and_method():
    class Scale:
        def __init__(self, factor):
            self.factor = factor

        @keras_triton.jit(name="scaled")
        def apply(self, x):
            """Scale."""
            return x * self.factor

    first, second = Scale(2.0), Scale(3.0)
    close(first.apply(tensor(3)), 2 * tensor(3))
    close(second.apply(tensor(3)), 3 * tensor(3))
    assert (Scale.apply.name, Scale.apply.__doc__) == ("scaled", "Scale.")
    assert counts(Scale.apply) == (2, 2, 0)
    assert Scale.apply.captured[0].name == "scaled"
    bound = keras_triton.jit(first.apply.__func__.fn.__get__(first))
    close(bound(tensor(3)), 2 * tensor(3))
    with pytest.raises(TypeError, match="jit takes a function"):
        keras_triton.jit(3)


def test_a_model_predicts_and_differentiates_as_it_does():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3), layers.BatchNormalization()])
    fast = keras_triton.jit(model)
    x = tensor(5, 4, grad=True)
    close(fast(x), model(x))
    moving = model.layers[1].moving_mean
    before = moving.numpy()
    fast(x, training=True).sum().backward()
    assert not np.allclose(moving.numpy(), before)
    assert x.grad is not None
    assert counts(fast) == (2, 2, 0)


def test_inside_of_other_traces_it_is_the_function():
    inner = keras_triton.jit(lambda x: ops.tanh(x))
    outer = keras_triton.jit(lambda x: inner(x) + 1)
    x = tensor(3)
    close(outer(x), torch.tanh(x) + 1)
    assert counts(inner) == (0, 0, 0)

    inputs = keras.Input((3,))
    outputs = layers.Lambda(inner)(layers.Dense(3)(inputs))
    model = keras.Model(inputs, outputs)
    assert model.predict(np.zeros((2, 3), "float32"), verbose=0).shape == (2, 3)
    close(torch.func.grad(lambda x: inner(x).sum())(x), 1 - torch.tanh(x) ** 2)
    close(torch.func.vmap(inner)(x), torch.tanh(x))
    exported = torch.export.export(_Module(inner), (x,)).module()
    close(exported(x), torch.tanh(x))


class _Module(torch.nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def test_mixed_precision_scopes_compile_anew():
    w = weight(4, 4)
    apply = keras_triton.jit(lambda x: torch.mm(x, w.value))
    with torch.no_grad():
        assert apply(tensor(2, 4)).dtype == torch.float32
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert apply(tensor(2, 4)).dtype == torch.bfloat16
        with AutocastScope("bfloat16"):
            assert apply(tensor(2, 4).bfloat16()).dtype == torch.bfloat16


# What cannot be captured


def test_a_branch_on_values_runs_op_by_op_with_one_warning():
    @keras_triton.jit
    def absolute(x):
        return x if ops.sum(x) > 0 else -x

    x = tensor(3).abs()
    with pytest.warns(
        UserWarning, match=r"absolute cannot be captured: .*needs the value of a tens"
    ):
        close(absolute(-x), x)
    close(absolute(x), x)
    assert counts(absolute) == (0, 0, 2)
    (refused,) = absolute.refused
    assert refused.__traceback__ is refused.__cause__ is None
    with pytest.raises(CaptureError, match="absolute cannot be captured"):
        absolute.explain(x)


def test_writing_to_an_argument_is_refused():
    @keras_triton.jit
    def bump(x):
        x += 1
        return x

    x = torch.zeros(2)
    with pytest.warns(UserWarning, match="an argument is written in place"):
        bump(x)
    assert x.tolist() == [1.0, 1.0]


def test_writing_to_a_tensor_from_outside_is_refused():
    total = torch.zeros(2)

    @keras_triton.jit
    def add(x):
        total.add_(x)
        return total * 1

    with pytest.warns(UserWarning, match=r"cannot be captured: in step, "):
        add(torch.ones(2))
    assert total.tolist() == [1.0, 1.0]


def test_a_closed_over_tensor_that_requires_gradients_is_refused():
    loose = tensor(3, grad=True)
    scale = keras_triton.jit(lambda x: x * loose)
    with pytest.warns(UserWarning, match=r"requires gradients is used directly instead of through"):
        scale(tensor(3)).sum().backward()
    close(loose.grad, tensor(3))


def test_errors_of_the_function_itself_surface():
    @keras_triton.jit
    def fail(x):
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        fail(tensor(3))


# Reports


def test_explain_lists_both_passes_and_runs_nothing():
    w, count = weight(4, 3), keras.Variable(0.0, trainable=False)

    @keras_triton.jit
    def apply(x):
        count.assign_add(1.0)
        return ops.tanh(ops.matmul(x, w))

    report = apply.explain(tensor(2, 4))
    assert (report.step, report.fallbacks, float(count)) == ("apply", (), 0.0)
    kernels = [row.kernel for row in report.rows]
    assert any(name.startswith("backward/") for name in kernels)
    with torch.no_grad():
        forward = apply.explain(tensor(2, 4))
    assert not any(row.kernel.startswith("backward/") for row in forward.rows)
    assert counts(apply) == (0, 0, 0)


def test_stats_count_functions_too():
    before = keras_triton.stats()
    refuse = keras_triton.jit(lambda x: x if x.sum() > 0 else -x, name="refuse")
    fine = keras_triton.jit(lambda x: ops.sort(x), name="fine")
    with pytest.warns(UserWarning, match="refuse cannot be captured"):
        refuse(tensor(3))
    fine(tensor(3))
    fine(tensor(3))
    after = keras_triton.stats()
    assert after.counts.captures - before.counts.captures == 1
    assert after.counts.compiled - before.counts.compiled == 2
    assert after.counts.op_by_op - before.counts.op_by_op == 1
    assert after.reports[-1].step == "fine"
    assert after.refused[-1] is refuse.refused[0]
    reason = "aten._local_scalar_dense.default needs the value of a tensor in Python"
    assert after.refusals[reason] == before.refusals.get(reason, 0) + 1
    assert after.launches > before.launches
