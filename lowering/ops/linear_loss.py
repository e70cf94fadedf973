"""Cross-entropy of logits that a last product makes, and its gradients: ops that need no logits stored."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..build import compute_dtype
from ..dialect import Attributes, define
from ..errors import DialectError
from ..mlir import TensorType
from .common import require_float, require_rank, require_type, same_dtype

Types = Sequence[TensorType]
Tensors = Sequence[torch.Tensor]
OPERANDS = "x w bias target"
HEADS = (
    "linear_cross_entropy",
    "linear_cross_entropy_input_grad",
    "linear_cross_entropy_weight_grad",
)
"""The ops, by name."""


def _infer(types: Types, attributes: Attributes) -> list[TensorType]:
    x, w, bias, target = types
    for kind, operand in ((x, "x"), (w, "w")):
        require_rank(kind, 2, operand)
        require_float(kind, operand)
    same_dtype((x, w))
    depth, classes = w.shape[::-1] if attributes["transpose_w"] else w.shape
    if x.shape[1] != depth:
        raise DialectError(f"inner extents {x.shape[1]} and {depth} differ")
    require_float(bias, "bias")
    if bias.shape not in ((classes,), (1,)):
        raise DialectError(f"bias {bias} must have an element for each class, or one for all")
    rows = x.shape[:1]
    require_type(target, TensorType(rows, "i64"), "target")
    row = TensorType(rows, compute_dtype(x.dtype))
    return [row, row, TensorType(rows, "i64")]


def _logits(xs: Tensors, attributes: Attributes) -> torch.Tensor:
    """In the compute dtype: logits are rounded no further."""
    x, w, bias = (tensor if tensor.dtype == torch.float64 else tensor.float() for tensor in xs[:3])
    return x @ (w.mT if attributes["transpose_w"] else w) + bias


@define(
    "linear_cross_entropy",
    OPERANDS,
    _infer,
    results="loss lse best",
    attributes="transpose_w",
    template=True,
)
def _linear_cross_entropy(xs: Tensors, attributes: Attributes) -> list[torch.Tensor]:
    """Of logits z = x w + bias: lse = log Σ exp(z), loss = lse - z[target], best = argmax z, a value a
    row. w has an element [depth, class], transposed [class, depth].
    """
    z = _logits(xs, attributes)
    lse = torch.logsumexp(z, -1)
    return [lse - z.gather(1, xs[3].unsqueeze(1)).squeeze(1), lse, z.argmax(-1)]


def _infer_grad(types: Types, attributes: Attributes) -> TensorType:
    """The type of a value a row."""
    *given, lse, g = types
    loss, *_ = _infer(given, attributes)
    require_type(lse, loss, "lse")
    require_type(g, loss, "g")
    return loss


def _infer_input_grad(types: Types, attributes: Attributes) -> list[TensorType]:
    _infer_grad(types, attributes)
    return [types[0]]


def _infer_weight_grad(types: Types, attributes: Attributes) -> list[TensorType]:
    _infer_grad(types, attributes)
    _, w, bias, *_ = types
    return [w, bias.with_shape((w.shape[0 if attributes["transpose_w"] else 1],))]


def _logits_grad(xs: Tensors, attributes: Attributes) -> torch.Tensor:
    """g (exp(z - lse) - onehot(target)), rounded as the operands of a product are."""
    z, (target, lse, g) = _logits(xs, attributes), xs[3:]
    hot = torch.nn.functional.one_hot(target, z.shape[1]).to(z.dtype)
    return g.unsqueeze(1) * (torch.exp(z - lse.unsqueeze(1)) - hot)


@define(
    "linear_cross_entropy_input_grad",
    f"{OPERANDS} lse g",
    _infer_input_grad,
    results="dx",
    attributes="transpose_w",
    template=True,
)
def _input_grad(xs: Tensors, attributes: Attributes) -> list[torch.Tensor]:
    """The gradient by x of a loss whose gradient by the rows' losses is g."""
    dz, w = _logits_grad(xs, attributes).to(xs[1].dtype), xs[1]
    return [dz @ (w if attributes["transpose_w"] else w.mT)]


@define(
    "linear_cross_entropy_weight_grad",
    f"{OPERANDS} lse g",
    _infer_weight_grad,
    results="dw dbias",
    attributes="transpose_w",
    template=True,
)
def _weight_grad(xs: Tensors, attributes: Attributes) -> list[torch.Tensor]:
    """The same by w, as w lies, and by a bias that has an element for each class."""
    exact, x, bias = _logits_grad(xs, attributes), xs[0], xs[2]
    dz = exact.to(x.dtype)
    return [dz.mT @ x if attributes["transpose_w"] else x.mT @ dz, exact.sum(0).to(bias.dtype)]
