"""Reductions along axes; the reduced axes leave the shape."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from ..dialect import Attributes, Reference, define
from ..errors import DialectError
from ..mlir import TensorType
from .common import require_axes

Tensors = Sequence[torch.Tensor]


def _over_axes(function: Callable) -> Callable:
    """A reduction of one axis, applied from the last axis to the first."""

    def reduce(x: torch.Tensor, axes: Sequence[int]) -> torch.Tensor:
        for axis in sorted(axes, reverse=True):
            x = function(x, axis)
        return x

    return reduce


REDUCTIONS: dict[str, Callable] = {
    "sum": lambda x, axes: torch.sum(x, dim=tuple(axes), dtype=x.dtype),
    "max": lambda x, axes: torch.amax(x, dim=tuple(axes)),
    "min": lambda x, axes: torch.amin(x, dim=tuple(axes)),
    "prod": _over_axes(lambda x, axis: torch.prod(x, dim=axis, dtype=x.dtype)),
}
BOOL_REDUCTIONS: dict[str, Callable] = {"any": _over_axes(torch.any), "all": _over_axes(torch.all)}


def _infer(boolean: bool) -> Callable:
    def infer(types: Sequence[TensorType], attributes: Attributes) -> list[TensorType]:
        axes = require_axes(attributes["axes"], types[0].rank)
        if not axes:
            raise DialectError("axes must name at least one axis")
        if boolean != (types[0].dtype == "i1"):
            raise DialectError(
                f"x must be {'bool (i1)' if boolean else 'a number'}, not {types[0].dtype}"
            )
        return [types[0].with_shape([n for i, n in enumerate(types[0].shape) if i not in axes])]

    return infer


def _reference(function: Callable) -> Reference:
    return lambda xs, attributes: [function(xs[0], attributes["axes"])]


for _name, _function in (REDUCTIONS | BOOL_REDUCTIONS).items():
    define(_name, "x", _infer(_name in BOOL_REDUCTIONS), attributes="axes")(_reference(_function))


def _infer_argmax(types: Sequence[TensorType], attributes: Attributes) -> list[TensorType]:
    (axis,) = require_axes((attributes["axis"],), types[0].rank)
    return [TensorType(tuple(n for i, n in enumerate(types[0].shape) if i != axis), "i64")]


@define("argmax", "x", _infer_argmax, attributes="axis")
def _argmax(xs: Tensors, attributes: Attributes) -> list[torch.Tensor]:
    """Index of the first maximum; a NaN counts as the maximum, as in torch."""
    return [torch.argmax(xs[0], dim=attributes["axis"])]


@define("argmin", "x", _infer_argmax, attributes="axis")
def _argmin(xs: Tensors, attributes: Attributes) -> list[torch.Tensor]:
    """Index of the first minimum; a NaN counts as the minimum, as in torch."""
    return [torch.argmin(xs[0], dim=attributes["axis"])]
