"""The same seed gives the same numbers: op by op, compiled for the CPU, in Triton's interpreter."""

import dataclasses

import keras
import pytest
import torch
from keras import layers, random
from random_draws import DRAWS

from keras_triton.capture import capture
from keras_triton.compile import compile_quietly
from keras_triton.settings import settings

pytestmark = pytest.mark.filterwarnings("error:keras-triton could not compile")

TARGETS = ("cpu", "interpret", "reference")
IMAGES = torch.rand((2, 6, 6, 3), generator=torch.Generator().manual_seed(0))
STEPS = 3


def compiled(fn, data, target):
    """`fn(*data)` as a compiled step; calling it reads and advances the variables that fn uses."""
    captured = capture(fn, data, name="draw")
    program = compile_quietly(captured, dataclasses.replace(settings(), target=target))
    count = sum(spec.kind == "result" for spec in captured.outputs)

    def run():
        states = [s.variable.value.detach() for s in captured.inputs if s.kind == "state"]
        constants = [s.tensor for s in captured.inputs if s.kind == "constant"]
        outputs = [output.clone() for output in program([*data, *states, *constants])]
        for spec, new in zip(captured.outputs[count:], outputs[count:], strict=True):
            spec.variable.assign(new)
        return captured.result.build(outputs[:count])

    return run


def same(ours, theirs, dtype):
    """Bit for bit. In float64 nothing is rounded that would hide the last digits of the targets'
    elementary functions and of fused multiply-adds."""
    tolerance = 1e-14 if dtype == torch.float64 else 0
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", DRAWS)
def test_same_seed_same_numbers(name, target):
    seed = random.SeedGenerator(5)
    expected = [DRAWS[name](seed) for _ in range(STEPS)]
    after = seed.state.numpy().tolist()
    assert after == [5, STEPS]
    seed.state.assign([5, 0])
    draw = compiled(lambda: DRAWS[name](seed), (), target)
    for theirs in expected:
        same(draw(), theirs, theirs.dtype)
    assert seed.state.numpy().tolist() == after


@pytest.mark.parametrize("target", TARGETS)
def test_draws_without_a_seed_advance_the_global_one_alike(target):
    def draw():
        return random.normal((4,)), random.randint((4,), 0, 100)

    def start():
        keras.utils.set_random_seed(1)
        random.uniform(())  # makes the global generator

    start()
    expected = [draw() for _ in range(STEPS)]
    start()
    run = compiled(draw, (), target)
    for theirs in expected:
        for a, b in zip(run(), theirs, strict=True):
            same(a, b, b.dtype)


LAYERS = {
    "Dropout": lambda: layers.Dropout(0.3, seed=1),
    "Dropout of channels": lambda: layers.Dropout(0.3, noise_shape=(None, 1, 1, None), seed=1),
    "SpatialDropout2D": lambda: layers.SpatialDropout2D(0.3, seed=1),
    "GaussianNoise": lambda: layers.GaussianNoise(0.3, seed=1),
    "GaussianDropout": lambda: layers.GaussianDropout(0.3, seed=1),
    "AlphaDropout": lambda: layers.AlphaDropout(0.3, seed=1),
    "RandomFlip": lambda: layers.RandomFlip(seed=1),
    "RandomContrast": lambda: layers.RandomContrast(0.3, seed=1),
    "RandomErasing": lambda: layers.RandomErasing(seed=1, value_range=(0, 1)),
    "RandomInvert": lambda: layers.RandomInvert(value_range=(0, 1), seed=1),
    "RandomTranslation": lambda: layers.RandomTranslation(0.3, 0.3, seed=1),
    "MixUp": lambda: layers.MixUp(seed=1),
    "CutMix": lambda: layers.CutMix(seed=1),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_draw_the_same_numbers_compiled(name):
    def built():
        layer = LAYERS[name]()
        layer.build(IMAGES.shape)
        return layer, lambda x: layer(x, training=True)

    def state(layer):
        return [v.numpy().tolist() for v in layer.variables]

    eager, call = built()
    expected = [call(IMAGES) for _ in range(STEPS)]
    layer, call = built()
    run = compiled(call, (IMAGES,), "cpu")
    for theirs in expected:
        # Around the draws there is arithmetic in float32, which fuses.
        torch.testing.assert_close(run(), theirs, rtol=1e-6, atol=1e-6)
    assert state(layer) == state(eager)
    assert any(not torch.equal(expected[0], later) for later in expected[1:])


def test_training_with_dropout_advances_seeds_and_weights_as_op_by_op():
    def trained(**options):
        keras.utils.set_random_seed(0)
        model = keras.Sequential(
            [
                keras.Input((6,)),
                layers.GaussianNoise(0.1),
                layers.Dense(8, activation="relu"),
                layers.Dropout(0.5),
                layers.Dense(1),
            ]
        )
        model.compile("sgd", "mse", **options)
        x = torch.linspace(-1, 1, 48).reshape(8, 6)
        losses = [model.train_on_batch(x, x[:, :1]) for _ in range(STEPS)]
        seeds = [v.numpy().tolist() for v in model.non_trainable_variables]
        return losses, seeds

    losses, seeds = trained()
    eager_losses, eager_seeds = trained(run_eagerly=True)
    assert seeds == eager_seeds
    assert [used for _, used in seeds] == [STEPS, STEPS]
    # Both compute in float32; only the order of roundings differs.
    assert losses == pytest.approx(eager_losses, rel=1e-5)
