"""Maximum and mean over windows of NHWC images; pads is (top, bottom, left, right)."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .define import define

WINDOW = "int[2] window, int[2] strides, int[4] pads"


def _fake(x: Tensor, window, strides, pads) -> Tensor:
    rows = (x.shape[1] + pads[0] + pads[1] - window[0]) // strides[0] + 1
    columns = (x.shape[2] + pads[2] + pads[3] - window[1]) // strides[1] + 1
    return x.new_empty((x.shape[0], rows, columns, x.shape[3]))


def _padded(x: Tensor, pads: Sequence[int], fill: float) -> Tensor:
    """x in torch's NCHW shape, NHWC in memory, with its padding written out."""
    top, bottom, left, right = pads
    if any(pads):
        x = torch.nn.functional.pad(x, (0, 0, left, right, top, bottom), value=fill)
    return x.permute(0, 3, 1, 2)


def _padded_shape(shape: Sequence[int], pads: Sequence[int]) -> tuple[int, int, int, int]:
    n, h, w, c = shape
    return n, h + pads[0] + pads[1], w + pads[2] + pads[3], c


def _cropped(dx: Tensor, shape: Sequence[int], pads: Sequence[int]) -> Tensor:
    """The image's part of an NCHW gradient of ``_padded``, as NHWC."""
    image = dx.permute(0, 2, 3, 1)
    return image[:, pads[0] : pads[0] + shape[1], pads[2] : pads[2] + shape[2]]


def _origins(like: Tensor, strides: Sequence[int]) -> tuple[Tensor, Tensor]:
    """First row and column of each window of ``like`` [N, OH, OW, C], shaped to broadcast."""
    rows = torch.arange(like.shape[1], device=like.device) * strides[0]
    columns = torch.arange(like.shape[2], device=like.device) * strides[1]
    return rows[:, None, None], columns[:, None]


def _plane_index(index: Tensor, width: int, window, strides) -> Tensor:
    """From a place within the window to a place row * width + column of the padded image."""
    rows, columns = _origins(index, strides)
    place = index.long()
    return (rows + place // window[1]) * width + columns + place % window[1]


def _save_max(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.shape, ctx.window = inputs[0].shape, inputs[1:]
    ctx.save_for_backward(output[1])
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)


def _max_backward(ctx: Any, g: Tensor | None, _: None) -> tuple[Any, ...]:
    (index,) = ctx.saved_tensors
    dx = None if g is None else max_pool2d_grad(g, index, ctx.shape, *ctx.window)
    return dx, None, None, None


def _fake_max(x: Tensor, window, strides, pads) -> tuple[Tensor, Tensor]:
    y = _fake(x, window, strides, pads)
    return y, y.new_empty(y.shape, dtype=torch.int32)


@define(f"max_pool2d(Tensor x, {WINDOW}) -> (Tensor y, Tensor index)",
        _fake_max, _max_backward, _save_max)  # fmt: skip
def max_pool2d(x: Tensor, window, strides, pads) -> tuple[Tensor, Tensor]:
    """The window's maximum, and where: row * window[1] + column of its first occurrence, int32.

    NaN wins over every number; of several NaNs any may be named.
    """
    lowest = -math.inf if x.is_floating_point() else torch.iinfo(x.dtype).min
    padded = _padded(x, pads, lowest)
    y, plane = torch.nn.functional.max_pool2d(
        padded, list(window), list(strides), return_indices=True
    )
    plane = plane.permute(0, 2, 3, 1)
    rows, columns = _origins(plane, strides)
    width = padded.shape[3]
    index = (plane // width - rows) * window[1] + plane % width - columns
    return y.permute(0, 2, 3, 1), index.to(torch.int32)


def _save_max_grad(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(inputs[1])
    ctx.window = inputs[3:]


def _max_grad_backward(ctx: Any, gg: Tensor) -> tuple[Any, ...]:
    """Picks from gg what ``index`` names; the op is linear in g."""
    (index,) = ctx.saved_tensors
    window, strides, pads = ctx.window
    padded = _padded(gg, pads, 0.0)
    places = _plane_index(index, padded.shape[3], window, strides).permute(0, 3, 1, 2)
    picked = padded.flatten(2).gather(2, places.flatten(2)).unflatten(2, places.shape[2:])
    return picked.permute(0, 2, 3, 1), None, None, None, None, None


@define(
    f"max_pool2d_grad(Tensor g, Tensor index, SymInt[4] x_shape, {WINDOW}) -> Tensor",
    lambda g, index, x_shape, window, strides, pads: g.new_empty(x_shape),
    _max_grad_backward,
    _save_max_grad,
)
def max_pool2d_grad(g: Tensor, index: Tensor, x_shape, window, strides, pads) -> Tensor:
    """Gradient by x of shape x_shape: each window's g goes to the element that index names."""
    image = g.new_empty(_padded_shape(x_shape, pads)).permute(0, 3, 1, 2)  # only its shape matters
    plane = _plane_index(index, image.shape[3], window, strides).permute(0, 3, 1, 2)
    dx = torch.ops.aten.max_pool2d_with_indices_backward(
        g.permute(0, 3, 1, 2), image, list(window), list(strides), [0, 0], [1, 1], False, plane
    )
    return _cropped(dx, x_shape, pads)


def _counts(y: Tensor, size: Sequence[int], window, strides, pads) -> Tensor:
    """How many elements of the image lie under each window of y, shaped to broadcast over y."""
    rows, columns = _origins(y, strides)
    covered = []
    for first, extent, before, length in (
        (rows, size[0], pads[0], window[0]),
        (columns, size[1], pads[2], window[1]),
    ):
        end = (first + length).clamp(max=before + extent)
        covered.append(end - first.clamp(min=before))
    return (covered[0] * covered[1]).to(y.dtype)


def _save_avg(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.shape, ctx.window = inputs[0].shape, inputs[1:]


def _avg_backward(ctx: Any, g: Tensor) -> tuple[Any, ...]:
    return avg_pool2d_grad(g, ctx.shape, *ctx.window), None, None, None


@define(f"avg_pool2d(Tensor x, {WINDOW}) -> Tensor", _fake, _avg_backward, _save_avg)
def avg_pool2d(x: Tensor, window, strides, pads) -> Tensor:
    """The mean of the window's elements that lie in the image: padding does not count."""
    image = _padded(x, pads, 0.0)
    mean = torch.nn.functional.avg_pool2d(image, list(window), list(strides))
    mean = mean.permute(0, 2, 3, 1)
    if not any(pads):
        return mean
    area = window[0] * window[1]
    return mean * (area / _counts(mean, x.shape[1:3], window, strides, pads))


def _save_avg_grad(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.window = inputs[2:]


def _avg_grad_backward(ctx: Any, gg: Tensor) -> tuple[Any, ...]:
    return avg_pool2d(gg, *ctx.window), None, None, None, None


@define(
    f"avg_pool2d_grad(Tensor g, SymInt[4] x_shape, {WINDOW}) -> Tensor",
    lambda g, x_shape, window, strides, pads: g.new_empty(x_shape),
    _avg_grad_backward,
    _save_avg_grad,
)
def avg_pool2d_grad(g: Tensor, x_shape, window, strides, pads) -> Tensor:
    """Gradient by x of shape x_shape: each window spreads g evenly over its elements in x."""
    image = g.new_empty(_padded_shape(x_shape, pads)).permute(0, 3, 1, 2)  # only its shape matters
    if any(pads):
        g = g * (window[0] * window[1] / _counts(g, x_shape[1:3], window, strides, pads))
    dx = torch.ops.aten.avg_pool2d_backward(
        g.permute(0, 3, 1, 2), image, list(window), list(strides), [0, 0], False, True, None
    )
    return _cropped(dx, x_shape, pads)
