"""Two-dimensional convolution of NHWC images with HWIO kernels, and its two gradients.

pads is (top, bottom, left, right); kernels are [KH, KW, C / groups, F]. Each gradient is linear in
both of its tensors, so the three ops are each other's gradients.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .define import define

WINDOW = "int[2] strides, int[4] pads, int[2] dilations, int groups"


def _image(x: Tensor) -> Tensor:
    """NHWC to torch's NCHW without moving data."""
    return x.permute(0, 3, 1, 2)


def _kernel(w: Tensor) -> Tensor:
    """HWIO to torch's OIHW, in the memory order that torch's NHWC kernels read."""
    return w.permute(3, 2, 0, 1).contiguous(memory_format=torch.channels_last)


def padding_of(pads: Sequence[int]) -> tuple[list[int], list[int] | None]:
    """Padding for torch's convolution, and what must be padded by hand as it is lopsided."""
    top, bottom, left, right = pads
    if top == bottom and left == right:
        return [top, left], None
    return [0, 0], [left, right, top, bottom]


def _extent(size: Any, kernel: int, stride: int, before: int, after: int, dilation: int) -> Any:
    return (size + before + after - dilation * (kernel - 1) - 1) // stride + 1


def _fake_conv2d(x: Tensor, w: Tensor, strides, pads, dilations, groups) -> Tensor:
    rows = _extent(x.shape[1], w.shape[0], strides[0], pads[0], pads[1], dilations[0])
    columns = _extent(x.shape[2], w.shape[1], strides[1], pads[2], pads[3], dilations[1])
    return x.new_empty((x.shape[0], rows, columns, w.shape[3]))


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(inputs[0], inputs[1])
    ctx.window = inputs[-4:]


def _conv2d_backward(ctx: Any, g: Tensor) -> tuple[Any, ...]:
    x, w = ctx.saved_tensors
    dx = dw = None
    if ctx.needs_input_grad[0]:
        dx = conv2d_input_grad(g, w, x.shape, *ctx.window)
    if ctx.needs_input_grad[1]:
        dw = conv2d_kernel_grad(g, x, w.shape, *ctx.window)
    return dx, dw, None, None, None, None


@define(f"conv2d(Tensor x, Tensor w, {WINDOW}) -> Tensor", _fake_conv2d, _conv2d_backward, _save)
def conv2d(x: Tensor, w: Tensor, strides, pads, dilations, groups) -> Tensor:
    """x [N, H, W, C] and w [KH, KW, C / groups, F] to [N, OH, OW, F]."""
    padding, by_hand = padding_of(pads)
    image = _image(x) if by_hand is None else torch.nn.functional.pad(_image(x), by_hand)
    y = torch.nn.functional.conv2d(
        image, _kernel(w), None, list(strides), padding, list(dilations), groups
    )
    return y.permute(0, 2, 3, 1)


def _gradients(
    g: Tensor, image: Tensor, kernel: Tensor, padding: list[int], window: tuple[Any, ...], of: int
) -> Tensor:
    """Torch's gradient of a convolution by its image (of=0) or kernel (of=1), in torch's layout."""
    strides, _, dilations, groups = window
    return torch.ops.aten.convolution_backward(
        _image(g), image, kernel, None, list(strides), padding, list(dilations),
        False, [0, 0], groups, [of == 0, of == 1, False],
    )[of]  # fmt: skip


def _input_grad_backward(ctx: Any, gg: Tensor) -> tuple[Any, ...]:
    g, w = ctx.saved_tensors
    dg = dw = None
    if ctx.needs_input_grad[0]:
        dg = conv2d(gg, w, *ctx.window)
    if ctx.needs_input_grad[1]:
        dw = conv2d_kernel_grad(g, gg, w.shape, *ctx.window)
    return dg, dw, None, None, None, None, None


@define(
    f"conv2d_input_grad(Tensor g, Tensor w, SymInt[4] x_shape, {WINDOW}) -> Tensor",
    lambda g, w, x_shape, *window: g.new_empty(x_shape),
    _input_grad_backward,
    _save,
)
def conv2d_input_grad(g: Tensor, w: Tensor, x_shape, strides, pads, dilations, groups) -> Tensor:
    """Gradient by the image x of conv2d(x, w) whose result has gradient g."""
    padding, by_hand = padding_of(pads)
    n, h, width, c = x_shape
    top, bottom, left, right = (0, 0, 0, 0) if by_hand is None else pads
    # Only its shape matters.
    image = _image(g.new_empty((n, h + top + bottom, width + left + right, c)))
    window = (strides, pads, dilations, groups)
    dx = _gradients(g, image, _kernel(w), padding, window, of=0).permute(0, 2, 3, 1)
    return dx[:, top : top + h, left : left + width]


def _kernel_grad_backward(ctx: Any, gg: Tensor) -> tuple[Any, ...]:
    g, x = ctx.saved_tensors
    dg = dx = None
    if ctx.needs_input_grad[0]:
        dg = conv2d(x, gg, *ctx.window)
    if ctx.needs_input_grad[1]:
        dx = conv2d_input_grad(g, gg, x.shape, *ctx.window)
    return dg, dx, None, None, None, None, None


@define(
    f"conv2d_kernel_grad(Tensor g, Tensor x, SymInt[4] w_shape, {WINDOW}) -> Tensor",
    lambda g, x, w_shape, *window: x.new_empty(w_shape),
    _kernel_grad_backward,
    _save,
)
def conv2d_kernel_grad(g: Tensor, x: Tensor, w_shape, strides, pads, dilations, groups) -> Tensor:
    """Gradient by the kernel w of conv2d(x, w) whose result has gradient g."""
    padding, by_hand = padding_of(pads)
    image = _image(x) if by_hand is None else torch.nn.functional.pad(_image(x), by_hand)
    # Only its shape matters; in any other order torch refuses a kernel of one filter.
    height, width, channels, filters = w_shape
    kernel = x.new_empty((filters, channels, height, width))
    window = (strides, pads, dilations, groups)
    return _gradients(g, image, kernel, padding, window, of=1).permute(2, 3, 1, 0)
