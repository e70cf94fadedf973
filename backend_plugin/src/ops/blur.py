"""Gaussian blur by one convolution; the width of the bell curve may come from a tensor."""

import torch
from keras.src.backend.torch.ops.core import convert_to_tensor

from keras_triton import torch_ops


def gaussian_blur(images, kernel_size=(3, 3), sigma=(1.0, 1.0), data_format=None):
    images, sigma = convert_to_tensor(images), convert_to_tensor(sigma)
    if images.ndim not in (3, 4):
        raise ValueError(
            "Invalid images rank: expected rank 3 (single image) or rank 4 (batch of images). "
            f"Received input with shape: images.shape={tuple(images.shape)}"
        )
    first, second = (int(extent) for extent in kernel_size)
    weights = torch.outer(
        _gaussian(second, sigma[1], images.dtype), _gaussian(first, sigma[0], images.dtype)
    ).reshape(first, second, 1, 1)
    batch = images if images.ndim == 4 else images.unsqueeze(0)
    # As in Keras, what is not said to be channels_last is channels_first.
    channels_last = data_format == "channels_last"
    batch = batch if channels_last else batch.permute(0, 2, 3, 1)
    channels, pad = batch.shape[3], first // 2
    weights = weights.expand(first, second, 1, channels)
    blurred = torch_ops.conv2d(batch, weights, [1, 1], [pad] * 4, [1, 1], channels)
    blurred = blurred if channels_last else blurred.permute(0, 3, 1, 2)
    return blurred if images.ndim == 4 else blurred.squeeze(0)


def _gaussian(size, sigma, dtype):
    """The bell curve at `size` places around 0, of sum 1."""
    x = torch.arange(size, dtype=dtype, device=sigma.device) - (size - 1) / 2
    weights = torch.exp(-0.5 * (x / sigma) ** 2)
    return weights / weights.sum()
