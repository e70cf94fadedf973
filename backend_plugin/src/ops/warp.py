"""Images moved by affine and perspective transforms, a whole batch at once.

Keras's functions for torch sample image by image (and channel by channel), so that a captured step
would grow with the batch.
"""

import itertools

import torch
from keras.src import backend
from keras.src.backend.torch.ops import image as torch_image
from keras.src.backend.torch.ops.core import convert_to_tensor
from keras.src.backend.torch.ops.image import (
    _INDEX_FIXERS,
    AFFINE_TRANSFORM_INTERPOLATIONS,
    _linear_indices_and_weights,
    _nearest_indices_and_weights,
    compute_homography_matrix,
)

_NODES = {"nearest": _nearest_indices_and_weights, "bilinear": _linear_indices_and_weights}


def affine_transform(
    images,
    transform,
    interpolation="bilinear",
    fill_mode="constant",
    fill_value=0,
    data_format=None,
):
    """The last two numbers of each transform count as 0, which makes it affine."""
    images, transform = convert_to_tensor(images), convert_to_tensor(transform)
    known = interpolation in AFFINE_TRANSFORM_INTERPOLATIONS and fill_mode in _INDEX_FIXERS
    if not known or images.ndim != 4 or transform.shape != (images.shape[0], 8):
        transform = transform.clone()  # Keras's function writes to it
        return torch_image.affine_transform(
            images, transform, interpolation, fill_mode, fill_value, data_format
        )
    images, restore = _channels_last(images, data_format)
    x, y = _grid(images, transform.dtype)
    a0, a1, a2, b0, b1, b2 = transform[:, :6, None, None].unbind(1)
    places = y * b1 + x * b0 + b2, y * a1 + x * a0 + a2
    return restore(_sample(images, places, interpolation, fill_mode, fill_value))


def perspective_transform(
    images,
    start_points,
    end_points,
    interpolation="bilinear",
    fill_value=0,
    data_format=None,
):
    images = convert_to_tensor(images)
    start_points, end_points = (
        convert_to_tensor(points, dtype=backend.standardize_dtype(images.dtype))
        for points in (start_points, end_points)
    )
    shape = (len(images), 4, 2)
    known = interpolation in AFFINE_TRANSFORM_INTERPOLATIONS and images.ndim == 4
    if not known or start_points.shape != shape or end_points.shape != shape:
        return torch_image.perspective_transform(
            images, start_points, end_points, interpolation, fill_value, data_format
        )
    images, restore = _channels_last(images, data_format)
    x, y = _grid(images, images.dtype)
    transforms = compute_homography_matrix(start_points, end_points)
    a0, a1, a2, a3, a4, a5, a6, a7 = transforms[:, :, None, None].unbind(1)
    scale = a6 * x + a7 * y + 1.0
    places = (a3 * x + a4 * y + a5) / scale, (a0 * x + a1 * y + a2) / scale
    return restore(_sample(images, places, interpolation, "constant", fill_value))


def _channels_last(images, data_format):
    """NHWC images, and what puts a result into the format of the given ones."""
    if backend.standardize_data_format(data_format) == "channels_last":
        return images, lambda result: result
    return images.permute(0, 2, 3, 1), lambda result: result.permute(0, 3, 1, 2)


def _grid(images, dtype):
    """Columns [W] and rows [H, 1] of NHWC images."""
    _, height, width, _ = images.shape
    rows = torch.arange(height, dtype=dtype, device=images.device)
    return torch.arange(width, dtype=dtype, device=images.device), rows.unsqueeze(1)


def _sample(images, places, interpolation, fill_mode, fill_value):
    """NHWC images at rows and columns [N, H', W'] that may lie between pixels or outside."""
    count, height, width, channels = images.shape
    pixels = images.reshape(-1, channels)
    first = torch.arange(count, device=images.device).reshape(-1, 1, 1) * (height * width)
    if not images.is_floating_point() and isinstance(fill_value, int | float):
        fill_value = int(fill_value)
    fix, shares = _INDEX_FIXERS[fill_mode], []
    nodes = (_NODES[interpolation](place) for place in places)
    for (row, row_weight), (column, column_weight) in itertools.product(*nodes):
        at = first + fix(row, height) * width + fix(column, width)
        values = pixels.index_select(0, at.reshape(-1)).reshape(*at.shape, channels)
        if fill_mode == "constant":
            inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            values = torch.where(inside.unsqueeze(-1), values, fill_value)
        weight = row_weight * column_weight
        weight = weight.unsqueeze(-1) if isinstance(weight, torch.Tensor) else weight
        shares.append(weight * values)
    total = sum(shares[1:], shares[0])
    if not images.is_floating_point() and total.is_floating_point():
        total = torch.round(total)
    return total.to(images.dtype)
