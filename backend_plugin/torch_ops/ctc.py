"""Connectionist temporal classification, with results whose shapes do not depend on the lengths."""

from typing import Any

import torch
from torch import Tensor

from .define import define

aten = torch.ops.aten


def _fake(
    log_probs: Tensor, targets: Tensor, input_lengths: Tensor, target_lengths: Tensor, blank: int
) -> tuple[Tensor, Tensor]:
    times, batch, _ = log_probs.shape
    return (
        log_probs.new_empty(batch),
        log_probs.new_empty(batch, times, 2 * targets.shape[1] + 1),
    )


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, ctx.blank = inputs
    ctx.save_for_backward(*tensors, *output)
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, g: Tensor | None, _: None) -> tuple[Any, ...]:
    gradient = None if g is None else ctc_loss_grad(g, *ctx.saved_tensors, ctx.blank)
    return gradient, None, None, None, None


@define(
    "ctc_loss(Tensor log_probs, Tensor targets, Tensor input_lengths, Tensor target_lengths, "
    "int blank) -> (Tensor loss, Tensor alpha)",
    _fake,
    _backward,
    _save,
)
def ctc_loss(
    log_probs: Tensor, targets: Tensor, input_lengths: Tensor, target_lengths: Tensor, blank: int
) -> tuple[Tensor, Tensor]:
    """loss [N] = -log P(targets | log_probs), and the forward variables alpha [N, T, 2 S + 1].

    log_probs [T, N, C], targets int64 [N, S], lengths int64 [N] with at most T and S. alpha is -inf
    past the longest target of the batch, where torch ends it.
    """
    lengths = input_lengths, target_lengths
    loss, alpha = aten._ctc_loss.Tensor(log_probs, targets, *lengths, blank)
    beyond = 2 * targets.shape[1] + 1 - alpha.shape[2]
    return loss, torch.nn.functional.pad(alpha, (0, beyond), value=-torch.inf)


@define(
    "ctc_loss_grad(Tensor g, Tensor log_probs, Tensor targets, Tensor input_lengths, "
    "Tensor target_lengths, Tensor loss, Tensor alpha, int blank) -> Tensor",
    lambda g, log_probs, *rest: log_probs.new_empty(log_probs.shape),
)
def ctc_loss_grad(
    g: Tensor,
    log_probs: Tensor,
    targets: Tensor,
    input_lengths: Tensor,
    target_lengths: Tensor,
    loss: Tensor,
    alpha: Tensor,
    blank: int,
) -> Tensor:
    """The gradient by log_probs of the loss with gradient g [N]."""
    longest = 2 * int(target_lengths.max()) + 1
    return aten._ctc_loss_backward.Tensor(
        g,
        log_probs,
        targets,
        input_lengths,
        target_lengths,
        loss,
        alpha[:, :, :longest].contiguous(),
        blank,
    )
