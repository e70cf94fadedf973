"""Neural-network ops: Keras's for torch, with one operator of ours where the compiler has a kernel.

Two-dimensional convolution and pooling in channels_last, cross-entropy against class indices, CTC and
attention become ``torch.ops.keras_triton`` operators. Batch normalization writes to no tensor.
All else, such as other ranks and channels_first, stays with Keras's functions.
"""

import math

import torch
from keras.src import backend
from keras.src.backend.common.backend_utils import check_conv_input_channels
from keras.src.backend.torch.ops import nn as torch_nn
from keras.src.backend.torch.ops.core import cast, convert_to_tensor
from keras.src.backend.torch.ops.nn import *  # noqa: F403
from keras.src.backend.torch.ops.nn import _compute_padding_length, _get_large_negative
from keras.src.utils.argument_validation import standardize_tuple

from keras_triton import torch_ops


def _is_nhwc(x, data_format):
    return x.ndim == 4 and backend.standardize_data_format(data_format) == "channels_last"


def _pads(sizes, kernel, strides, dilations, padding):
    """(top, bottom, left, right) of Keras's "same" or "valid" padding."""
    if padding != "same":
        return [0, 0, 0, 0]
    axes = zip(sizes, kernel, strides, dilations, strict=True)
    return [extent for axis in axes for extent in _compute_padding_length(*axis)]


def conv(
    inputs,
    kernel,
    strides=1,
    padding="valid",
    data_format=None,
    dilation_rate=1,
):
    inputs, kernel = convert_to_tensor(inputs), convert_to_tensor(kernel)
    if not _is_nhwc(inputs, data_format) or inputs.dtype != kernel.dtype:
        return torch_nn.conv(inputs, kernel, strides, padding, data_format, dilation_rate)
    channels, kernel_channels = inputs.shape[3], kernel.shape[2]
    if channels % kernel_channels:
        raise ValueError(
            f"The number of input channels, {channels}, must be a multiple of the kernel's, "
            f"{kernel_channels}. Received: inputs.shape={tuple(inputs.shape)}, "
            f"kernel.shape={tuple(kernel.shape)}"
        )
    strides = standardize_tuple(strides, 2, "strides")
    dilations = standardize_tuple(dilation_rate, 2, "dilation_rate")
    pads = _pads(inputs.shape[1:3], kernel.shape[:2], strides, dilations, padding)
    groups = channels // kernel_channels
    return torch_ops.conv2d(inputs, kernel, strides, pads, dilations, groups)


def depthwise_conv(
    inputs,
    kernel,
    strides=1,
    padding="valid",
    data_format=None,
    dilation_rate=1,
):
    inputs, kernel = convert_to_tensor(inputs), convert_to_tensor(kernel)
    data_format = backend.standardize_data_format(data_format)
    check_conv_input_channels(inputs, kernel, data_format)
    # One group a channel: [.., C, M] is a kernel of one channel and C * M filters.
    kernel = kernel.reshape((*kernel.shape[:-2], 1, kernel.shape[-2] * kernel.shape[-1]))
    return conv(inputs, kernel, strides, padding, data_format, dilation_rate)


def separable_conv(
    inputs,
    depthwise_kernel,
    pointwise_kernel,
    strides=1,
    padding="valid",
    data_format=None,
    dilation_rate=1,
):
    features = depthwise_conv(
        inputs, depthwise_kernel, strides, padding, data_format, dilation_rate
    )
    return conv(features, pointwise_kernel, 1, "valid", data_format, dilation_rate)


def _pool(inputs, pool_size, strides, padding):
    """The window, strides and pads of pooling NHWC inputs."""
    window = standardize_tuple(pool_size, 2, "pool_size")
    steps = window if strides is None else standardize_tuple(strides, 2, "strides")
    return window, steps, _pads(inputs.shape[1:3], window, steps, (1, 1), padding)


def max_pool(
    inputs,
    pool_size,
    strides=None,
    padding="valid",
    data_format=None,
):
    inputs = convert_to_tensor(inputs)
    if not _is_nhwc(inputs, data_format) or not inputs.is_floating_point():
        return torch_nn.max_pool(inputs, pool_size, strides, padding, data_format)
    return torch_ops.max_pool2d(inputs, *_pool(inputs, pool_size, strides, padding))[0]


def average_pool(
    inputs,
    pool_size,
    strides=None,
    padding="valid",
    data_format=None,
):
    inputs = convert_to_tensor(inputs)
    if not _is_nhwc(inputs, data_format) or not inputs.is_floating_point():
        return torch_nn.average_pool(inputs, pool_size, strides, padding, data_format)
    return torch_ops.avg_pool2d(inputs, *_pool(inputs, pool_size, strides, padding))


def one_hot(x, num_classes, axis=-1, dtype=None, sparse=False):
    """Classes outside of [0, num_classes) give zeros: torch's check would wait for the device."""
    if sparse:
        raise ValueError("Unsupported value `sparse=True` with the triton backend")
    x = convert_to_tensor(x, dtype="int64")
    shape = [1] * (x.ndim + 1)
    shape[axis] = num_classes
    classes = torch.arange(num_classes, device=x.device).reshape(shape)
    hot = x.unsqueeze(axis) == classes
    return hot.to(torch.int64) if dtype is None else cast(hot, dtype)


def multi_hot(x, num_classes, axis=-1, dtype=None, sparse=False):
    x = convert_to_tensor(x)
    hot = one_hot(cast(x, "int32"), num_classes, axis=axis, dtype=dtype, sparse=sparse)
    return torch.amax(hot, dim=1 if x.ndim > 1 else 0)


def sparse_categorical_crossentropy(target, output, from_logits=False, axis=-1):
    target, output = convert_to_tensor(target, dtype="int64"), convert_to_tensor(output)
    if target.ndim == output.ndim and output.ndim and target.shape[axis] == 1:
        target = target.squeeze(axis)
    classes_last = output.ndim >= 1 and axis in (-1, output.ndim - 1)
    if not (classes_last and target.shape == output.shape[:-1]):
        return torch_nn.sparse_categorical_crossentropy(target, output, from_logits, axis)
    # Rows also of probabilities: torch cannot differentiate the loss of channels_last images.
    rows, classes = output.reshape(-1, output.shape[-1]), target.reshape(-1)
    if from_logits:
        losses = torch_ops.cross_entropy(rows, classes)[0]
    else:
        losses = torch_nn.sparse_categorical_crossentropy(classes, rows)
    return losses.reshape(target.shape)


def ctc_loss(target, output, target_length, output_length, mask_index=0):
    output = convert_to_tensor(output)
    output = cast(output, backend.result_type(output.dtype, "float32"))
    log_probs = torch.log_softmax(output.transpose(0, 1), dim=-1)
    target, target_length, output_length = (
        convert_to_tensor(x, dtype="int64") for x in (target, target_length, output_length)
    )
    return torch_ops.ctc_loss(log_probs, target, output_length, target_length, mask_index)[0]


def batch_normalization(x, mean, variance, axis, offset=None, scale=None, epsilon=1e-3):
    x, mean, variance = (convert_to_tensor(value) for value in (x, mean, variance))
    shape = [1] * x.ndim
    shape[axis] = mean.shape[0]
    factor = torch.rsqrt(variance.reshape(shape) + epsilon)
    if scale is not None:
        factor = factor * convert_to_tensor(scale).reshape(shape)
    result = (x - mean.reshape(shape)) * factor
    if offset is not None:
        result = result + convert_to_tensor(offset).reshape(shape)
    return result


def _attention_bias(bias, mask, dtype):
    """What is added to the scores: the bias, or a large negative number outside of the mask."""
    if mask is not None:
        mask = convert_to_tensor(mask, dtype="bool")
        return torch.where(mask, 0.0, _get_large_negative(dtype))
    return None if bias is None else convert_to_tensor(bias, dtype=dtype)


def dot_product_attention(
    query,
    key,
    value,
    bias=None,
    mask=None,
    scale=None,
    is_causal=False,
    flash_attention=None,
    attn_logits_soft_cap=None,
):
    query, key, value = (convert_to_tensor(x) for x in (query, key, value))
    if query.ndim != 4 or key.ndim != 4 or value.ndim != 4:
        raise ValueError(
            "`dot_product_attention` only supports 4D inputs. "
            f"Received: query.shape={query.shape}, key.shape={key.shape}, "
            f"value.shape={value.shape}."
        )
    if bias is not None and mask is not None:
        raise ValueError("Only one of `bias` and `mask` can be provided. Received both.")
    dtype = backend.result_type(query.dtype, key.dtype, value.dtype)
    query, key, value = (cast(x, dtype) for x in (query, key, value))
    bias = _attention_bias(bias, mask, dtype)
    groups = query.shape[2] // key.shape[2]
    if groups > 1:
        key, value = (x.repeat_interleave(groups, dim=2) for x in (key, value))
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else float(scale)
    attended, _ = torch_ops.attention(query, key, value, bias, scale, bool(is_causal))
    return attended
