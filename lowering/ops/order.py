"""Along an axis, in order: what has been folded so far, and elements sorted."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..dialect import Attributes, define
from ..errors import DialectError
from ..mlir import TensorType
from .common import require_axes

Types = Sequence[TensorType]
Tensors = Sequence[torch.Tensor]

CUMULATIONS = {"sum": torch.cumsum, "prod": torch.cumprod}
"""What `cumulate` folds with -> torch's op."""


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
