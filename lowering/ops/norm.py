"""Normalizations of the last axis: softmax, log-softmax, layer normalization, and their gradients."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..dialect import Attributes, define
from ..errors import DialectError
from ..mlir import TensorType
from .common import require_float, require_type

Types = Sequence[TensorType]
Tensors = Sequence[torch.Tensor]


def _infer_rows(types: Types, attributes: Attributes) -> list[TensorType]:
    require_float(types[0], "x")
    if types[0].rank == 0:
        raise DialectError("x needs at least one axis")
    for kind in types[1:]:
        require_type(kind, types[0], "y")
    return [types[0]]


@define("softmax", "x", _infer_rows, template=True)
def _softmax(xs: Tensors, attributes: Attributes) -> list[torch.Tensor]:
    return [torch.softmax(xs[0], -1)]


@define("softmax_grad", "g y", _infer_rows, results="dx", template=True)
def _softmax_grad(xs: Tensors, attributes: Attributes) -> list[torch.Tensor]:
    """y (g - Σ g y), y being softmax's result."""
    g, y = xs
    return [y * (g - (g * y).sum(-1, keepdim=True))]


@define("log_softmax", "x", _infer_rows, template=True)
def _log_softmax(xs: Tensors, attributes: Attributes) -> list[torch.Tensor]:
    return [torch.log_softmax(xs[0], -1)]


@define("log_softmax_grad", "g y", _infer_rows, results="dx", template=True)
def _log_softmax_grad(xs: Tensors, attributes: Attributes) -> list[torch.Tensor]:
    """g - exp(y) Σ g, y being log-softmax's result."""
    g, y = xs
    return [g - torch.exp(y) * g.sum(-1, keepdim=True)]


def _statistics(x: TensorType) -> TensorType:
    """Mean and reciprocal deviation: a value a row, in float32 for the half types."""
    return TensorType(x.shape[:-1], "f64" if x.dtype == "f64" else "f32")


def _infer_layer_norm(types: Types, attributes: Attributes) -> list[TensorType]:
    x, weight, bias = types
    _infer_rows((x,), attributes)
    for kind, operand in ((weight, "weight"), (bias, "bias")):
        require_type(kind, x.with_shape(x.shape[-1:]), operand)
    return [x, _statistics(x), _statistics(x)]


@define(
    "layer_norm",
    "x weight bias",
    _infer_layer_norm,
    results="y mean rstd",
    attributes="epsilon",
    template=True,
)
def _layer_norm(xs: Tensors, attributes: Attributes) -> list[torch.Tensor]:
    """y = (x - mean) rstd weight + bias, rstd = (variance + epsilon)^-1/2, variance without
    correction.
    """
    x, weight, bias = xs
    compute = torch.promote_types(x.dtype, torch.float32)
    mean = x.to(compute).mean(-1)
    variance = x.to(compute).var(-1, correction=0)
    rstd = torch.rsqrt(variance + attributes["epsilon"])
    y = (x.to(compute) - mean.unsqueeze(-1)) * rstd.unsqueeze(-1) * weight + bias
    return [y.to(x.dtype), mean, rstd]


def _infer_layer_norm_grad(types: Types, attributes: Attributes) -> list[TensorType]:
    g, x, mean, rstd, weight = types
    _infer_layer_norm((x, weight, weight), attributes)
    require_type(g, x, "g")
    require_type(mean, _statistics(x), "mean")
    require_type(rstd, _statistics(x), "rstd")
    return [x, weight, weight]


@define(
    "layer_norm_grad",
    "g x mean rstd weight",
    _infer_layer_norm_grad,
    results="dx dweight dbias",
    template=True,
)
def _layer_norm_grad(xs: Tensors, attributes: Attributes) -> list[torch.Tensor]:
    """dx = rstd (gw - mean(gw) - z mean(gw z)) with z = (x - mean) rstd and gw = g weight."""
    g, x, mean, rstd, weight = xs
    compute = torch.promote_types(x.dtype, torch.float32)
    z = (x.to(compute) - mean.unsqueeze(-1)) * rstd.unsqueeze(-1)
    gw = g.to(compute) * weight
    dx = (gw - gw.mean(-1, keepdim=True) - z * (gw * z).mean(-1, keepdim=True)) * rstd.unsqueeze(-1)
    rows = tuple(range(x.dim() - 1))
    dweight, dbias = (g.to(compute) * z), g.to(compute)
    if rows:
        dweight, dbias = dweight.sum(rows), dbias.sum(rows)
    return [dx.to(x.dtype), dweight.to(x.dtype), dbias.to(x.dtype)]
