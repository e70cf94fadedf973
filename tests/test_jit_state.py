"""Variables, seeds and layers that a jitted function reads, updates or makes."""

import keras
import numpy as np
import torch
from jit_cases import close, counts, tensor, weight
from keras import layers, ops

import keras_triton


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
