"""Scaled dot-product attention over [batch, length, heads, width], and its gradient.

That is the order in which a projection gives heads and takes them, so nothing is moved in between.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .define import define

ARGUMENTS = "Tensor q, Tensor k, Tensor v, Tensor? bias"


def _heads_first(*tensors: Tensor) -> list[Tensor]:
    """[batch, heads, length, width] of [batch, length, heads, width], and back."""
    return [tensor.transpose(1, 2) for tensor in tensors]


def _scores(q: Tensor, k: Tensor, bias: Tensor | None, scale: float, causal: bool) -> Tensor:
    """q kᵀ scale + bias in float32 or wider, heads first; -inf above the diagonal if causal."""
    scores = (q @ k.mT).to(torch.promote_types(q.dtype, torch.float32)) * scale
    if bias is not None:
        scores = scores + bias
    if causal:
        allowed = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).tril()
        scores = scores.masked_fill(~allowed, -math.inf)
    return scores


def _fits_torch(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> bool:
    """Whether torch's blocked CPU kernels apply: 2 to 4 times as fast as the composition."""
    shapes = q.shape, k.shape, v.shape
    return q.device.type == "cpu" and fits_blocks(q.dtype, *shapes, causal)


def fits_blocks(
    dtype: torch.dtype, q: Sequence[int], k: Sequence[int], v: Sequence[int], causal: bool
) -> bool:
    """Whether torch's blocked CPU kernels take q, k and v of these shapes: they want one head width, a
    square matrix of scores when causal, and a lse of float32.
    """
    return (
        dtype != torch.float64
        and q[-1] == v[-1]
        and min(*q, *k) > 0
        and (not causal or q[1] == k[1])
    )


def _mask(bias: Tensor | None, q: Tensor, k: Tensor) -> Tensor | None:
    """The bias in the full shape that torch's kernels want, without copying it."""
    return None if bias is None else bias.expand(*_rows(q), k.shape[1])


def _rows(q: Tensor) -> tuple[int, int, int]:
    """The shape of a number for each query: [batch, heads, length]."""
    return q.shape[0], q.shape[2], q.shape[1]


def _fake(q: Tensor, k: Tensor, v: Tensor, bias, scale, causal) -> tuple[Tensor, Tensor]:
    o = q.new_empty((*q.shape[:3], v.shape[3]))
    return o, q.new_empty(_rows(q), dtype=torch.float32)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs[:4], *output)
    ctx.options = inputs[4:]
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, g: Tensor | None, _: None) -> tuple[Any, ...]:
    if g is None:
        return (None,) * 6
    bias_grad = ctx.needs_input_grad[3]
    dq, dk, dv, dbias = attention_grad(g, *ctx.saved_tensors, *ctx.options, bias_grad)
    return dq, dk, dv, dbias if bias_grad else None, None, None


@define(
    f"attention({ARGUMENTS}, float scale, bool causal) -> (Tensor o, Tensor lse)",
    _fake,
    _backward,
    _save,
)
def attention(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, scale: float, causal: bool
) -> tuple[Tensor, Tensor]:
    """o = softmax(q kᵀ scale + bias) v; lse [batch, heads, length] float32: log Σ exp of a row.

    bias broadcasts to [batch, heads, queries, keys]; causal lets query i see keys 0..i.
    """
    if _fits_torch(q, k, v, causal):
        o, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            *_heads_first(q, k, v), 0.0, causal, attn_mask=_mask(bias, q, k), scale=scale
        )
        return o.transpose(1, 2).contiguous(), lse.float()
    q, k, v = _heads_first(q, k, v)
    scores = _scores(q, k, bias, scale, causal)
    o = torch.softmax(scores, -1).to(v.dtype) @ v
    return o.transpose(1, 2).contiguous(), torch.logsumexp(scores, -1).float()


def _fake_grad(g, q, k, v, bias, o, lse, scale, causal, bias_grad=False) -> tuple[Tensor, ...]:
    dbias = bias.new_empty(bias.shape) if bias_grad else q.new_empty(0)
    return q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape), dbias


def _save_nothing(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    return None


def _no_second_derivative(ctx: Any, *gradients: Tensor) -> None:
    raise NotImplementedError(
        "The triton backend has no second derivative of dot_product_attention; compute the scores "
        "with keras.ops.matmul and keras.ops.softmax where a gradient of a gradient is needed."
    )


@define(
    f"attention_grad(Tensor g, {ARGUMENTS}, Tensor o, Tensor lse, float scale, bool causal,"
    " bool bias_grad=False) -> (Tensor dq, Tensor dk, Tensor dv, Tensor dbias)",
    _fake_grad,
    _no_second_derivative,
    _save_nothing,
)
def attention_grad(
    g: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor | None,
    o: Tensor,
    lse: Tensor,
    scale: float,
    causal: bool,
    bias_grad: bool = False,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients by q, k, v and bias (an empty tensor unless bias_grad) of o with gradient g.

    In the composition the probabilities are softmax's and not exp(scores - lse): in a row that is
    masked throughout by a large negative bias, lse loses the log of the row's length to rounding.
    """
    if not bias_grad and _fits_torch(q, k, v, causal):
        dq, dk, dv = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
            *_heads_first(g, q, k, v, o), lse, 0.0, causal, attn_mask=_mask(bias, q, k), scale=scale
        )
        dq, dk, dv = _contiguous(dq, dk, dv)
        return dq, dk, dv, q.new_empty(0)
    g, q, k, v, o = _heads_first(g, q, k, v, o)
    probabilities = torch.softmax(_scores(q, k, bias, scale, causal), -1)
    dv = probabilities.to(g.dtype).mT @ g
    mean = (g * o).sum(-1, keepdim=True, dtype=probabilities.dtype)
    dscores = probabilities * ((g @ v.mT).to(probabilities.dtype) - mean)
    scaled = (dscores * scale).to(q.dtype)
    dbias = q.new_empty(0)
    if bias is not None and bias_grad:
        dbias = dscores.sum_to_size(bias.shape).to(bias.dtype)
    dq, dk, dv = _contiguous(scaled @ k, scaled.mT @ q, dv)
    return dq, dk, dv, dbias


def _contiguous(*gradients: Tensor) -> list[Tensor]:
    return [gradient.contiguous() for gradient in _heads_first(*gradients)]
