"""Cross-entropy of rows of logits against class indices, and its gradient."""

from typing import Any

import torch
from torch import Tensor

from .define import define


def _fake(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    rows = logits.shape[:1]
    return logits.new_empty(rows), logits.new_empty(rows)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs, output[1])
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, g: Tensor | None, _: None) -> tuple[Tensor | None, None]:
    return (None if g is None else cross_entropy_grad(g, *ctx.saved_tensors)), None


@define(
    "cross_entropy(Tensor logits, Tensor target) -> (Tensor loss, Tensor lse)",
    _fake,
    _backward,
    _save,
)
def cross_entropy(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """loss [N] = lse - logits[target], lse [N] = log Σ exp(logits), of logits [N, C], int64 [N]."""
    lse = torch.logsumexp(logits, -1)
    return lse - logits.gather(1, target.unsqueeze(1)).squeeze(1), lse


def _save_grad(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _grad_backward(ctx: Any, gg: Tensor) -> tuple[Any, ...]:
    """Second derivatives, by g and by logits (lse counts as a function of them)."""
    g, logits, target, lse = ctx.saved_tensors
    probabilities = torch.exp(logits - lse.unsqueeze(1))
    mean = (gg * probabilities).sum(1, keepdim=True)
    dg = mean.squeeze(1) - gg.gather(1, target.unsqueeze(1)).squeeze(1)
    return dg, g.unsqueeze(1) * probabilities * (gg - mean), None, None


@define(
    "cross_entropy_grad(Tensor g, Tensor logits, Tensor target, Tensor lse) -> Tensor",
    lambda g, logits, target, lse: logits.new_empty(logits.shape),
    _grad_backward,
    _save_grad,
)
def cross_entropy_grad(g: Tensor, logits: Tensor, target: Tensor, lse: Tensor) -> Tensor:
    """g (softmax(logits) - onehot(target)): the gradient by logits of the loss with gradient g."""
    probabilities = torch.exp(logits - lse.unsqueeze(1))
    one = torch.ones((), dtype=logits.dtype, device=logits.device)
    index = target.unsqueeze(1)
    hit = probabilities.gather(1, index) - one
    return probabilities.scatter_(1, index, hit).mul_(g.unsqueeze(1))
