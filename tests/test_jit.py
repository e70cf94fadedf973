"""`keras_triton.jit`: any function of Keras ops and torch tensors behaves as if uncompiled."""

import warnings
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
import torch
from jit_cases import close, counts, tensor, weight
from keras import layers, ops
from keras.src.backend.common.variables import AutocastScope

import keras_triton
from keras_triton import compiled_function
from keras_triton.capture_errors import VALUE_READ

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


def test_threads_that_call_at_once_share_one_program():
    twice, x = keras_triton.jit(lambda x: ops.tanh(x) * 2), tensor(40, 5)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: twice(x), range(8)):
            close(found, x.tanh() * 2)
    assert counts(twice) == (1, 8, 0)


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


def test_of_many_signatures_those_that_come_again_are_compiled(monkeypatch):
    monkeypatch.setattr(compiled_function, "PATIENCE", 2)
    total = keras_triton.jit(lambda x: ops.sum(x))
    total(torch.ones(1))
    total(torch.ones(2))
    with pytest.warns(UserWarning, match="batches of few different shapes") as caught:
        assert [float(total(torch.ones(n))) for n in (3, 4, 3, 3)] == [3, 4, 3, 3]
    assert len(caught) == 1
    assert counts(total) == (3, 4, 2)
    total(torch.ones(4))
    assert counts(total) == (4, 5, 2), "it had come before"
    for _ in range(3):
        total(torch.ones(5))
    assert counts(total) == (5, 6, 4), "of four programs, a fifth waits twice"


def test_functions_of_nothing_and_of_no_result():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert keras_triton.jit(lambda: None)() is None
        assert keras_triton.jit(lambda x: "fixed")(tensor(3)) == "fixed"
        close(keras_triton.jit(lambda: ops.ones(3))(), torch.ones(3))


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
    reason = VALUE_READ
    assert after.refusals[reason] == before.refusals.get(reason, 0) + 1
    assert after.launches > before.launches
