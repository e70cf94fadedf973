"""Keras ops of the backend: equal to Keras's for torch where those define them, and traceable."""

import keras
import pytest
import torch
from keras.src.backend.torch.ops import core as torch_core
from keras.src.backend.torch.ops import math as torch_math
from keras.src.backend.torch.ops import nn as torch_nn
from torch.fx.experimental.proxy_tensor import make_fx

from keras_triton.src.ops import core, math, nn

IMAGE = (2, 7, 8, 4)


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def doubles(*shape):
    return torch.randn(shape, dtype=torch.float64)


def targets_of(function, *args):
    """Names of our operators in the trace of a call."""
    graph = make_fx(function)(*args)
    names = (str(node.target) for node in graph.graph.nodes)
    return [name.split(".")[1] for name in names if name.startswith("keras_triton")]


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(("strides", "dilation"), [(1, 1), (2, 1), ((1, 3), 1), (1, 2)])
def test_conv(data_format, padding, strides, dilation):
    x, kernel = doubles(*IMAGE), doubles(3, 2, 2, 6)
    if data_format == "channels_first":
        x = x.permute(0, 3, 1, 2)
    arguments = (strides, padding, data_format, dilation)
    torch.testing.assert_close(nn.conv(x, kernel, *arguments), torch_nn.conv(x, kernel, *arguments))


@pytest.mark.parametrize("op", ["depthwise_conv", "separable_conv"])
def test_grouped_convolutions(op):
    arguments = [doubles(*IMAGE), doubles(3, 3, 4, 2), doubles(1, 1, 8, 5)]
    if op == "depthwise_conv":
        arguments.pop()
    ours, theirs = (getattr(module, op)(*arguments, 2, "same") for module in (nn, torch_nn))
    torch.testing.assert_close(ours, theirs)


def test_conv_of_other_ranks_is_keras_own():
    x, kernel = doubles(2, 9, 4), doubles(3, 4, 5)
    torch.testing.assert_close(nn.conv(x, kernel), torch_nn.conv(x, kernel))


def test_conv_names_the_shapes_that_do_not_fit():
    with pytest.raises(ValueError, match=r"channels, 4, must be a multiple of the kernel's, 3"):
        nn.conv(doubles(*IMAGE), doubles(3, 3, 3, 5))


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(("size", "strides"), [(2, None), ((3, 2), 1), (3, 2)])
def test_max_pool(padding, size, strides):
    x = doubles(*IMAGE)
    arguments = (x, size, strides, padding)
    torch.testing.assert_close(nn.max_pool(*arguments), torch_nn.max_pool(*arguments))


@pytest.mark.parametrize(
    ("padding", "size", "strides"), [("valid", 2, None), ("valid", (3, 2), 1), ("same", 3, 1)]
)
def test_average_pool(padding, size, strides):
    x = doubles(*IMAGE)
    arguments = (x, size, strides, padding)
    torch.testing.assert_close(nn.average_pool(*arguments), torch_nn.average_pool(*arguments))


def test_average_pool_does_not_count_lopsided_padding():
    """As on TensorFlow and JAX; Keras's torch backend repeats the border there."""
    y = nn.average_pool(torch.ones(1, 4, 4, 1).cumsum(1), 3, 2, "same")
    assert y[0, :, 0, 0].tolist() == [2.0, 3.5]


@pytest.mark.parametrize("op", ["one_hot", "multi_hot"])
@pytest.mark.parametrize("axis", [-1, 0, 1])
@pytest.mark.parametrize("dtype", [None, "float32", "bool"])
def test_hot_encodings(op, axis, dtype):
    x = torch.tensor([[0, 2, -1], [1, 3, 3]])
    ours, theirs = (getattr(module, op)(x, 4, axis, dtype) for module in (nn, torch_nn))
    assert torch.equal(ours, theirs)
    assert ours.dtype == theirs.dtype


def test_one_hot_of_a_class_too_large_is_zero():
    assert nn.one_hot(torch.tensor([7]), 4).tolist() == [[0, 0, 0, 0]]


@pytest.mark.parametrize("from_logits", [True, False])
@pytest.mark.parametrize(
    ("shape", "target_shape", "axis"),
    [((5, 7), (5,), -1), ((5, 7), (5, 1), -1), ((2, 3, 7), (2, 3), 2), ((2, 7, 3), (2, 3), 1),
     ((7,), (), -1)],
)  # fmt: skip
def test_sparse_categorical_crossentropy(from_logits, shape, target_shape, axis):
    output = doubles(*shape) if from_logits else doubles(*shape).softmax(axis)
    target = torch.randint(0, 7, target_shape)
    arguments = (target, output, from_logits, axis)
    torch.testing.assert_close(
        nn.sparse_categorical_crossentropy(*arguments),
        torch_nn.sparse_categorical_crossentropy(*arguments),
    )


def test_sparse_categorical_crossentropy_of_images_has_a_gradient():
    # torch's own loss of several dimensions refuses one, as the classes are last in memory.
    output = doubles(2, 4, 4, 3).softmax(-1).requires_grad_()
    losses = nn.sparse_categorical_crossentropy(torch.randint(0, 3, (2, 4, 4)), output)
    losses.sum().backward()
    assert losses.shape == (2, 4, 4)
    assert torch.count_nonzero(output.grad) > 0


def test_sparse_categorical_crossentropy_refuses_other_shapes():
    with pytest.raises(ValueError, match="must have the same shape"):
        nn.sparse_categorical_crossentropy(torch.zeros(4), doubles(5, 7), from_logits=True)


@pytest.mark.parametrize("axis", [1, -1])
@pytest.mark.parametrize("affine", [True, False])
def test_batch_normalization(axis, affine):
    x = doubles(3, 4, 4)
    mean, variance, offset, scale = doubles(4), doubles(4).square(), doubles(4), doubles(4)
    arguments = (x, mean, variance, axis, *((offset, scale) if affine else ()))
    before = x.clone()
    torch.testing.assert_close(
        nn.batch_normalization(*arguments), torch_nn.batch_normalization(*arguments)
    )
    assert torch.equal(x, before)


@pytest.mark.parametrize(
    "options",
    [{}, {"is_causal": True}, {"scale": 0.1}, {"mask": True}, {"mask": True, "is_causal": True},
     {"bias": True}, {"heads": 2}],
)  # fmt: skip
def test_dot_product_attention(options):
    options = dict(options)
    heads = options.pop("heads", 4)
    query, key, value = doubles(2, 5, 4, 8), doubles(2, 5, heads, 8), doubles(2, 5, heads, 8)
    if options.get("mask"):
        options["mask"] = torch.rand(2, 1, 5, 5) < 0.5
        options["mask"] |= torch.eye(5, dtype=torch.bool)
    if options.get("bias"):
        options["bias"] = doubles(2, 4, 5, 5)
    arguments = (query, key, value)
    torch.testing.assert_close(
        nn.dot_product_attention(*arguments, **options),
        torch_nn.dot_product_attention(*arguments, **options),
    )


def test_layers_become_one_operator_each():
    layers = [
        keras.layers.Conv2D(4, 3, padding="same"),
        keras.layers.DepthwiseConv2D(3),
        keras.layers.MaxPooling2D(),
        keras.layers.AveragePooling2D(2, padding="same"),
        keras.layers.Dropout(0.5, seed=1),
    ]
    model = keras.Sequential([keras.Input((12, 12, 3)), *layers])
    found = targets_of(lambda x: model(x, training=True), torch.ones(2, 12, 12, 3))
    assert found == ["conv2d", "conv2d", "max_pool2d", "avg_pool2d", "dropout"]


def test_optimizer_updates_leave_no_gradient_tape():
    layer = keras.layers.Dense(2)
    layer.build((None, 3))
    optimizer = keras.optimizers.AdamW(0.1)
    before = [v.value.detach().clone() for v in layer.trainable_variables]
    optimizer.apply([torch.ones_like(v.value) for v in layer.trainable_variables],
                    layer.trainable_variables)  # fmt: skip
    for old, variable in zip(before, layer.trainable_variables, strict=True):
        assert not torch.equal(old, variable.value)
        assert variable.value.is_leaf
    assert type(optimizer) is keras.optimizers.AdamW


def test_polar_finds_the_private_function_it_uses():
    y = keras.ops.polar(torch.tensor([2.0]), torch.tensor([0.0]))
    assert complex(y[0]) == 2


@pytest.mark.parametrize("dtype", ["float32", "int64"])
@pytest.mark.parametrize("shape", [(4,), (4, 2), (4, 3, 2)])
def test_scatter(dtype, shape):
    indices = torch.randint(0, 4, (7, 2))
    values = (8 * torch.randn(7, *shape[1:])).to(getattr(torch, dtype))
    arguments = (indices, values, (4, *shape))
    ours, theirs = core.scatter(*arguments), torch_core.scatter(*arguments)
    torch.testing.assert_close(ours, theirs)
    make_fx(lambda i, v: core.scatter(i, v, (4, *shape)), tracing_mode="fake")(indices, values)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int64"])
@pytest.mark.parametrize("shape", [(9,), (9, 2), (9, 3, 2)])
def test_segment_sum(dtype, shape):
    """Ids -1 and 4 are outside of the four segments."""
    data = (8 * torch.randn(shape)).to(getattr(torch, dtype))
    ids = torch.tensor([0, 2, -1, 2, 1, 4, 0, 0, 2])
    ours, theirs = (module.segment_sum(data, ids, 4) for module in (math, torch_math))
    torch.testing.assert_close(ours, theirs)
    make_fx(lambda d, i: math.segment_sum(d, i, 4), tracing_mode="fake")(data, ids)


def test_segment_sum_counts_the_segments_itself():
    assert math.segment_sum(torch.ones(3), torch.tensor([0, 2, 2])).tolist() == [1, 0, 2]
