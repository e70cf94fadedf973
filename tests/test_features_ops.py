"""Ops whose results have sizes, indices or types that once sent a whole step to torch or to Python.

Each stands between two layers of a model, so it is compiled with its gradient.
"""

import keras
import numpy as np
import pytest
import torch
from keras import layers, ops
from keras.src.backend.torch.ops import core as torch_core
from keras.src.backend.torch.ops import image as torch_image
from keras.src.backend.torch.ops import math as torch_math
from keras.src.backend.torch.ops import nn as torch_nn
from keras.src.backend.torch.ops import numpy as torch_numpy
from numerics import float64
from twins import assert_alike

from keras_triton.src.ops import core, image, math, nn, numpy

RANDOM = np.random.default_rng(0)
X, Y = RANDOM.normal(size=(16, 6)), RANDOM.normal(size=(16, 2))
IDS = np.array([0, 0, 1, 2, 2, 2])
PLACES = np.array([[0], [3], [0]])


class Apply(layers.Layer):
    def __init__(self, function):
        super().__init__(name="op")
        self.function = function

    def call(self, x):
        return self.function(x)


@pytest.fixture
def _double_precision():
    with float64():
        yield


def alike(function, **options):
    """Trains and predicts with `function` of positive numbers [batch, 6] in the middle of a model."""

    def build(run_eagerly):
        inputs = keras.Input((6,), batch_size=8)
        middle = Apply(function)(layers.Dense(6, activation="softplus")(inputs))
        outputs = layers.Dense(2)(layers.Reshape((-1,))(middle))
        model = keras.Model(inputs, outputs)
        model.compile(keras.optimizers.SGD(0.1), "mse", run_eagerly=run_eagerly)
        return model

    def run(model):
        logs = model.fit(X, Y, batch_size=8, epochs=2, shuffle=False, verbose=0).history
        return {**logs, "predictions": model.predict(X, batch_size=8, verbose=0)}

    return assert_alike(build, run, **options)


def by_rows(function):
    """`function` of the transposed input: along axis 0."""
    return lambda x: ops.transpose(function(ops.transpose(x)))


OPS = {
    "repeat all": lambda x: ops.reshape(ops.repeat(x, 2), (8, 12)),
    "repeat an axis": lambda x: ops.repeat(x, 2, axis=1),
    "repeat each its own": lambda x: ops.repeat(x, np.array([1, 2, 1, 0, 3, 1]), axis=1),
    "size": lambda x: x / ops.cast(ops.size(x), x.dtype),
    "eye of a size": lambda x: ops.matmul(ops.eye(ops.size(x[:, 0])), x),
    "bincount": lambda x: x * ops.cast(ops.bincount(_classes(x[0]), minlength=6), x.dtype),
    "bincount of rows": lambda x: x * ops.cast(ops.bincount(_classes(x), minlength=6), x.dtype),
    "scatter_update": by_rows(lambda x: ops.scatter_update(x, PLACES[:2], x[1:3])),
    "segment_sum": by_rows(lambda x: ops.segment_sum(x, IDS)),
    "segment_max": by_rows(lambda x: ops.segment_max(x, IDS, num_segments=3)),
    "fft": lambda x: ops.fft((x, x))[0],
    "complex": lambda x: ops.real(ops.cast(x, "complex128") * 1j * (2 - 1j)),
    "uint8": lambda x: x * ops.cast(ops.cast(x * 10, "uint8") + ops.cast(3, "uint8"), x.dtype),
    "inverse": lambda x: ops.reshape(
        ops.inv(ops.reshape(x[:, :4], (-1, 2, 2)) + 2 * ops.eye(2)), (-1, 4)
    ),
    "sort": lambda x: ops.sort(x),
    "top_k": lambda x: ops.top_k(x, 3)[0],
    "cumsum": lambda x: ops.cumsum(x, 1),
    "quantile": lambda x: x - ops.quantile(x, 0.3, axis=1, keepdims=True),
    "einsum": lambda x: ops.einsum("bi,bj->bij", x, x),
    "searchsorted": lambda x: x * ops.cast(ops.searchsorted(np.array([0.1, 0.5]), x), x.dtype),
    "vectorized_map": lambda x: ops.vectorized_map(lambda row: row / ops.sum(row), x),
}


def _classes(x):
    return ops.cast(x * 3, "int32") % 3


@pytest.mark.parametrize("name", OPS)
@pytest.mark.usefixtures("_double_precision")
def test_op_in_a_step(name):
    # Keras reduces segments in float32.
    alike(OPS[name], tolerance=1e-6 if name.startswith("segment") else 1e-9)


REFLECTED = {
    "columns": lambda x: ops.pad(x, [[0, 0], [2, 5]], mode="reflect"),
    "rows": by_rows(lambda x: ops.pad(x, [[5, 0], [1, 1]], mode="reflect")[:, :8]),
}


@pytest.mark.parametrize("name", REFLECTED)
@pytest.mark.usefixtures("_double_precision")
def test_reflecting_pads_fuse(name):
    assert not alike(REFLECTED[name]).fallbacks


@pytest.mark.parametrize(
    "pads", [((0, 0), (2, 3), (1, 0), (0, 0)), ((0, 0), (4, 0), (0, 0), (2, 2))]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int32])
def test_reflecting_pads_are_keras_own(pads, dtype):
    x = (9 * torch.randn(2, 5, 6, 3)).to(dtype)
    assert torch.equal(numpy.pad(x, pads, "reflect"), torch_numpy.pad(x, pads, "reflect"))


def test_pads_wider_than_the_tensor_are_torchs_to_refuse():
    with pytest.raises(RuntimeError, match="Padding size should be less than"):
        numpy.pad(torch.zeros(2, 5), ((0, 0), (5, 0)), "reflect")


@pytest.mark.parametrize("reduction", ["add", "max", "min", "mul"])
@pytest.mark.usefixtures("_double_precision")
def test_scatter_update_with_a_reduction_in_a_step(reduction):
    alike(by_rows(lambda x: ops.scatter_update(x, PLACES, x[1:4], reduction=reduction)))


@pytest.mark.parametrize("reduction", ["max", "min", "mul"])
@pytest.mark.parametrize("indices", [[[1], [3], [1]], [[1, 0], [-1, 2], [1, 0]]])
def test_scatter_update_is_keras_own(reduction, indices):
    x, indices = torch.randn(4, 3), torch.tensor(indices)
    updates = torch.randn(3, 3) if indices.shape[1] == 1 else torch.randn(3)
    torch.testing.assert_close(
        core.scatter_update(x, indices, updates, reduction),
        torch_core.scatter_update(x, indices, updates, reduction),
    )


@pytest.mark.parametrize("name", ["segment_sum", "segment_max", "segment_min", "segment_prod"])
@pytest.mark.parametrize("segments", [None, 5, 2])
def test_segments_are_keras_own(name, segments):
    # Keras's function fails for ids outside of fewer segments than there are, but for sums.
    ids = torch.tensor([0, 2, 2, -1, 1, 3]) if segments != 2 else torch.tensor([0, 1, 1, -1, 0, 1])
    for data in (torch.randn(6, 3), torch.randint(0, 9, (6,))):
        ours, theirs = (getattr(m, name)(data, ids, segments) for m in (math, torch_math))
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("repeats", [3, [2, 0, 1], np.array([1, 2, 3]), [2]])
@pytest.mark.parametrize("axis", [None, 1, -1])
def test_repeat_is_keras_own(repeats, axis):
    x = torch.arange(3) if axis is None else torch.arange(12).reshape(2, 2, 3)[:, 0]
    given = torch.as_tensor(repeats) if not isinstance(repeats, int) else repeats
    torch.testing.assert_close(
        numpy.repeat(x, repeats, axis), torch_numpy.repeat(x, given, axis), check_dtype=False
    )


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("shape", [(2, 6, 7, 3), (6, 7, 3)])
def test_gaussian_blur_is_keras_own(data_format, shape):
    images = torch.rand(shape)
    if data_format == "channels_first":
        images = images.movedim(-1, -3)
    options = ((5, 5), (0.8, 1.4), data_format)
    torch.testing.assert_close(
        image.gaussian_blur(images, *options), torch_image.gaussian_blur(images, *options)
    )
    with pytest.raises(ValueError, match="Invalid images rank"):
        image.gaussian_blur(torch.rand(3, 3))


def test_ctc_loss_is_keras_own():
    logits = [torch.randn(3, 5, 4, requires_grad=True)]
    logits.append(logits[0].detach().requires_grad_())
    target = torch.tensor([[1, 2, 3], [3, 3, 0], [2, 0, 0]])
    lengths = torch.tensor([2, 2, 1]), torch.tensor([5, 5, 4])
    losses = [
        module.ctc_loss(target, x, *lengths)
        for module, x in zip((nn, torch_nn), logits, strict=True)
    ]
    torch.testing.assert_close(*losses)
    for loss in losses:
        (loss * torch.tensor([1.0, 2.0, 3.0])).sum().backward()
    torch.testing.assert_close(logits[0].grad, logits[1].grad)


@pytest.mark.parametrize("weights", [None, [0.5, 1.0, 2.0, 4.0]])
def test_bincount_outside_of_a_capture_is_keras_own(weights):
    x = torch.tensor([3, 1, 1, 0])
    torch.testing.assert_close(
        numpy.bincount(x, weights, 2), torch_numpy.bincount(x, weights and torch.tensor(weights), 2)
    )
