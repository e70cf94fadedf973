"""Cross-entropy of rows of logits against class indices, and its gradient."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..dialect import Attributes, define
from ..mlir import TensorType
from .common import require_float, require_rank, require_type

Types = Sequence[TensorType]
Tensors = Sequence[torch.Tensor]


def _infer(types: Types, attributes: Attributes) -> list[TensorType]:
    logits, target = types
    require_rank(logits, 2, "logits")
    require_float(logits, "logits")
    require_type(target, TensorType(logits.shape[:1], "i64"), "target")
    row = logits.with_shape(logits.shape[:1])
    return [row, row]


@define("cross_entropy", "logits target", _infer, results="loss lse", template=True)
def _cross_entropy(xs: Tensors, attributes: Attributes) -> list[torch.Tensor]:
    """loss = lse - logits[target] with lse = log Σ exp(logits), a value a row."""
    logits, target = xs
    lse = torch.logsumexp(logits, -1)
    return [lse - logits.gather(1, target.unsqueeze(1)).squeeze(1), lse]


def _infer_grad(types: Types, attributes: Attributes) -> list[TensorType]:
    g, logits, target, lse = types
    loss, _ = _infer((logits, target), attributes)
    require_type(g, loss, "g")
    require_type(lse, loss, "lse")
    return [logits]


@define("cross_entropy_grad", "g logits target lse", _infer_grad, results="dlogits", template=True)
def _cross_entropy_grad(xs: Tensors, attributes: Attributes) -> list[torch.Tensor]:
    """g (exp(logits - lse) - onehot(target))."""
    g, logits, target, lse = xs
    hot = torch.nn.functional.one_hot(target, logits.shape[1]).to(logits.dtype)
    return [g.unsqueeze(1) * (torch.exp(logits - lse.unsqueeze(1)) - hot)]
