"""Along an axis, in order: what has been folded so far, and elements sorted."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..dialect import Attributes, define
from ..errors import DialectError
from ..mlir import TensorType
from ..sizes import is_symbolic
from .common import require_axes

Types = Sequence[TensorType]
Tensors = Sequence[torch.Tensor]

CUMULATIONS = {"sum": torch.cumsum, "prod": torch.cumprod}
"""What `cumulate` folds with -> torch's op."""

MOST = 64
"""Elements that are found by `top`; of more, a row is sorted."""


def _infer_cumulate(types: Types, attributes: Attributes) -> list[TensorType]:
    (x,) = types
    require_axes((attributes["axis"],), x.rank)
    if x.dtype == "i1":
        raise DialectError("x must be a number, not bool (i1)")
    if attributes["fold"] not in CUMULATIONS:
        allowed = ", ".join(CUMULATIONS)
        raise DialectError(f"fold must be one of {allowed}, not {attributes['fold']!r}")
    return [x]


@define("cumulate", "x", _infer_cumulate, attributes="axis fold")
def _cumulate(xs: Tensors, attributes: Attributes) -> list[torch.Tensor]:
    """At each place along `axis`, the sum or product of the elements up to there, with that one."""
    (x,) = xs
    return [CUMULATIONS[attributes["fold"]](x, attributes["axis"], dtype=x.dtype)]


def _infer_sort(types: Types, attributes: Attributes) -> list[TensorType]:
    (x,) = types
    if not x.rank:
        raise DialectError("x must have an axis to sort along")
    if x.dtype == "i1":
        raise DialectError("x must be a number, not bool (i1)")
    return [x, TensorType(x.shape, "i64")]


@define("sort", "x", _infer_sort, results="values places", attributes="descending")
def _sort(xs: Tensors, attributes: Attributes) -> list[torch.Tensor]:
    """The elements of each row (along the last axis) in order, and where in the row they stood.

    Equal elements stay in their order; NaN is greater than all others.
    """
    return list(torch.sort(xs[0], dim=-1, descending=attributes["descending"], stable=True))


def _infer_top(types: Types, attributes: Attributes) -> list[TensorType]:
    values, places = _infer_sort(types, attributes)
    k, length = attributes["k"], values.shape[-1]
    if is_symbolic(k) or not 0 < k <= min(length, MOST):
        raise DialectError(f"k must be from 1 to {MOST}, and within rows of {length}, not {k}")
    return [kind.with_shape((*kind.shape[:-1], k)) for kind in (values, places)]


@define("top", "x", _infer_top, results="values places", attributes="k descending")
def _top(xs: Tensors, attributes: Attributes) -> list[torch.Tensor]:
    """The first `k` of what `sort` gives."""
    return [part[..., : attributes["k"]] for part in _sort(xs, attributes)]
