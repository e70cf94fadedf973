"""Two-dimensional convolution over NHWC images and HWIO kernels, and its two gradients.

`pads` is (top, bottom, left, right). The gradients carry the shape of what they are a gradient of.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..dialect import Attributes, define
from ..errors import DialectError
from ..mlir import TensorType
from .common import require_float, require_ints, require_rank, require_type, same_dtype

Types = Sequence[TensorType]
Tensors = Sequence[torch.Tensor]
WINDOW = "strides pads dilations groups"


def output_shape(x: TensorType, w: TensorType, attributes: Attributes) -> TensorType:
    """[N, OH, OW, F] of convolving x [N, H, W, C] with w [KH, KW, C / groups, F]."""
    require_rank(x, 4, "x")
    require_rank(w, 4, "w")
    require_float(x, "x")
    same_dtype((x, w))
    strides = require_ints(attributes, "strides", 2, least=1)
    pads = require_ints(attributes, "pads", 4)
    dilations = require_ints(attributes, "dilations", 2, least=1)
    groups = attributes["groups"]
    if x.shape[3] != w.shape[2] * groups or w.shape[3] % groups:
        raise DialectError(
            f"{x.shape[3]} channels and {w.shape[3]} filters do not fit a kernel of {w.shape[2]} channels "
            f"in {groups} groups"
        )
    extents = []
    for i in range(2):
        span = x.shape[1 + i] + pads[2 * i] + pads[2 * i + 1] - dilations[i] * (w.shape[i] - 1) - 1
        if span < 0:
            raise DialectError(f"the kernel {w.shape[:2]} is larger than the padded image of {x}")
        extents.append(span // strides[i] + 1)
    return x.with_shape((x.shape[0], *extents, w.shape[3]))


def _convolve(x: torch.Tensor, w: torch.Tensor, attributes: Attributes) -> torch.Tensor:
    top, bottom, left, right = attributes["pads"]
    padded = torch.nn.functional.pad(x.permute(0, 3, 1, 2), (left, right, top, bottom))
    y = torch.nn.functional.conv2d(
        padded,
        # In any other order torch refuses the gradient of a kernel of one filter.
        w.permute(3, 2, 0, 1).contiguous(),
        stride=tuple(attributes["strides"]),
        dilation=tuple(attributes["dilations"]),
        groups=attributes["groups"],
    )
    return y.permute(0, 2, 3, 1)


def _infer_conv2d(types: Types, attributes: Attributes) -> list[TensorType]:
    x, w = types
    return [output_shape(x, w, attributes)]


@define("conv2d", "x w", _infer_conv2d, attributes=WINDOW, template=True)
def _conv2d(xs: Tensors, attributes: Attributes) -> list[torch.Tensor]:
    x, w = xs
    return [_convolve(x, w, attributes)]


def _infer_input_grad(types: Types, attributes: Attributes) -> list[TensorType]:
    g, w = types
    x = w.with_shape(require_ints(attributes, "shape", 4))
    require_type(g, output_shape(x, w, attributes), "g")
    return [x]


def _gradient(
    g: torch.Tensor, x: torch.Tensor, w: torch.Tensor, attributes: Attributes, of: int
) -> torch.Tensor:
    with torch.enable_grad():
        leaves = x.detach().requires_grad_(), w.detach().requires_grad_()
        return torch.autograd.grad(_convolve(*leaves, attributes), leaves[of], g)[0]


@define("conv2d_input_grad", "g w", _infer_input_grad, attributes=f"shape {WINDOW}", template=True)
def _conv2d_input_grad(xs: Tensors, attributes: Attributes) -> list[torch.Tensor]:
    g, w = xs
    return [_gradient(g, torch.zeros(attributes["shape"], dtype=w.dtype), w, attributes, of=0)]


def _infer_kernel_grad(types: Types, attributes: Attributes) -> list[TensorType]:
    g, x = types
    w = x.with_shape(require_ints(attributes, "shape", 4))
    require_type(g, output_shape(x, w, attributes), "g")
    return [w]


@define(
    "conv2d_kernel_grad", "g x", _infer_kernel_grad, attributes=f"shape {WINDOW}", template=True
)
def _conv2d_kernel_grad(xs: Tensors, attributes: Attributes) -> list[torch.Tensor]:
    g, x = xs
    return [_gradient(g, x, torch.zeros(attributes["shape"], dtype=x.dtype), attributes, of=1)]
