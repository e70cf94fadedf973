"""Pooling of NHWC images over windows; `pads` is (top, bottom, left, right)."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..dialect import Attributes, define
from ..errors import DialectError
from ..mlir import TensorType
from .common import require_float, require_ints, require_rank, require_type

Types = Sequence[TensorType]
Tensors = Sequence[torch.Tensor]
WINDOW = "window strides pads"


def output_shape(x: TensorType, attributes: Attributes) -> TensorType:
    """[N, OH, OW, C] of pooling x [N, H, W, C]."""
    require_rank(x, 4, "x")
    require_float(x, "x")
    window, strides = (require_ints(attributes, name, 2, least=1) for name in ("window", "strides"))
    pads = require_ints(attributes, "pads", 4)
    extents = []
    for i in range(2):
        if max(pads[2 * i : 2 * i + 2]) >= window[i]:
            raise DialectError(
                f"pads {pads} leave a window of {window} with no element of the image"
            )
        span = x.shape[1 + i] + pads[2 * i] + pads[2 * i + 1] - window[i]
        if span < 0:
            raise DialectError(f"the window {window} is larger than the padded image of {x}")
        extents.append(span // strides[i] + 1)
    return x.with_shape((x.shape[0], *extents, x.shape[3]))


def windows(x: torch.Tensor, attributes: Attributes, fill: float) -> torch.Tensor:
    """The elements under each window: [N, OH, OW, C, KH * KW], `fill` where the window leaves the
    image.
    """
    top, bottom, left, right = attributes["pads"]
    padded = torch.nn.functional.pad(x, (0, 0, left, right, top, bottom), value=fill)
    (kh, kw), (sh, sw) = attributes["window"], attributes["strides"]
    return padded.unfold(1, kh, sh).unfold(2, kw, sw).flatten(-2)


def _infer_max(types: Types, attributes: Attributes) -> list[TensorType]:
    y = output_shape(types[0], attributes)
    return [y, y.with_dtype("i32")]


@define("max_pool2d", "x", _infer_max, results="y index", attributes=WINDOW, template=True)
def _max_pool2d(xs: Tensors, attributes: Attributes) -> list[torch.Tensor]:
    """The window's maximum (NaN wins) and the place kh * KW + kw of its first occurrence."""
    taken = windows(xs[0], attributes, float("-inf"))
    y = taken.amax(-1)
    # A window of -inf only must not choose its padding.
    inside = windows(torch.ones_like(xs[0]), attributes, 0.0).bool()
    wins = ((taken == y.unsqueeze(-1)) | taken.isnan()) & inside
    return [y, torch.argmax(wins.to(torch.int8), -1).to(torch.int32)]


def _infer_max_grad(types: Types, attributes: Attributes) -> list[TensorType]:
    g, index = types
    x = g.with_shape(require_ints(attributes, "shape", 4))
    require_type(g, output_shape(x, attributes), "g")
    require_type(index, g.with_dtype("i32"), "index")
    return [x]


@define("max_pool2d_grad", "g index", _infer_max_grad, attributes=f"shape {WINDOW}", template=True)
def _max_pool2d_grad(xs: Tensors, attributes: Attributes) -> list[torch.Tensor]:
    """Each window's gradient goes to the element that `index` names."""
    g, index = xs
    places = attributes["window"][0] * attributes["window"][1]
    chosen = torch.nn.functional.one_hot(index.long(), places).to(g.dtype)
    return [_scatter_windows(chosen * g.unsqueeze(-1), attributes)]


def _scatter_windows(values: torch.Tensor, attributes: Attributes) -> torch.Tensor:
    """The transpose of `windows`: sums [N, OH, OW, C, KH * KW] back into [N, H, W, C]."""
    with torch.enable_grad():
        x = torch.zeros(attributes["shape"], dtype=values.dtype, requires_grad=True)
        return torch.autograd.grad(windows(x, attributes, 0.0), x, values)[0]


@define(
    "avg_pool2d",
    "x",
    lambda types, a: [output_shape(types[0], a)],
    attributes=WINDOW,
    template=True,
)
def _avg_pool2d(xs: Tensors, attributes: Attributes) -> list[torch.Tensor]:
    """The mean of the window's elements that lie in the image."""
    return [windows(xs[0], attributes, 0.0).sum(-1) / _counts(xs[0], attributes)]


def _counts(x: torch.Tensor, attributes: Attributes) -> torch.Tensor:
    return windows(torch.ones_like(x), attributes, 0.0).sum(-1)


def _infer_avg_grad(types: Types, attributes: Attributes) -> list[TensorType]:
    x = types[0].with_shape(require_ints(attributes, "shape", 4))
    require_type(types[0], output_shape(x, attributes), "g")
    return [x]


@define("avg_pool2d_grad", "g", _infer_avg_grad, attributes=f"shape {WINDOW}", template=True)
def _avg_pool2d_grad(xs: Tensors, attributes: Attributes) -> list[torch.Tensor]:
    places = attributes["window"][0] * attributes["window"][1]
    share = xs[0] / _counts(torch.ones(attributes["shape"], dtype=xs[0].dtype), attributes)
    return [_scatter_windows(share.unsqueeze(-1).repeat_interleave(places, -1), attributes)]
