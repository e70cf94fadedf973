"""Contractions: matrix products and attention."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..dialect import Attributes, define
from ..errors import DialectError
from ..mlir import TensorType
from .common import broadcast, require_float, require_rank, require_type, same_dtype

Types = Sequence[TensorType]
Tensors = Sequence[torch.Tensor]


def _infer_matmul(rank: int):
    def infer(types: Types, attributes: Attributes) -> list[TensorType]:
        same_dtype(types)
        for kind, operand in zip(types, "ab", strict=True):
            require_float(kind, operand)
            require_rank(kind, rank, operand)
        (m, ka), (kb, n) = (
            kind.shape[-2:][::-1] if attributes[f"transpose_{name}"] else kind.shape[-2:]
            for kind, name in zip(types, "ab", strict=True)
        )
        if ka != kb:
            raise DialectError(f"inner extents {ka} and {kb} differ")
        if types[0].shape[:-2] != types[1].shape[:-2]:
            raise DialectError(f"batches {types[0].shape[:-2]} and {types[1].shape[:-2]} differ")
        return [types[0].with_shape((*types[0].shape[:-2], m, n))]

    return infer


def _matmul(xs: Tensors, attributes: Attributes) -> list[torch.Tensor]:
    """op(a) @ op(b), op transposing the last two axes where the attribute says so."""
    a = xs[0].mT if attributes["transpose_a"] else xs[0]
    b = xs[1].mT if attributes["transpose_b"] else xs[1]
    return [a @ b]


define("matmul", "a b", _infer_matmul(2), attributes="transpose_a transpose_b", template=True)(
    _matmul
)
define(
    "batch_matmul", "a b", _infer_matmul(3), attributes="transpose_a transpose_b", template=True
)(_matmul)


ACTIVATIONS = {"none": lambda x: x, "relu": torch.relu}


def _infer_linear(types: Types, attributes: Attributes) -> list[TensorType]:
    x, w, bias = types
    (y,) = _infer_matmul(2)((x, w), {"transpose_a": False, "transpose_b": False})
    require_type(bias, y.with_shape(y.shape[-1:]), "bias")
    if attributes["activation"] not in ACTIVATIONS:
        allowed = ", ".join(ACTIVATIONS)
        raise DialectError(f"activation must be {allowed}, not {attributes['activation']!r}")
    return [y]


@define("linear", "x w bias", _infer_linear, attributes="activation")
def _linear(xs: Tensors, attributes: Attributes) -> list[torch.Tensor]:
    """activation(x w + bias), what a Dense layer computes."""
    x, w, bias = xs
    return [ACTIVATIONS[attributes["activation"]](x @ w + bias)]


def _infer_attention(types: Types, attributes: Attributes) -> list[TensorType]:
    q, k, v, bias = types
    same_dtype((q, k, v))
    for kind, operand in zip((q, k, v), "qkv", strict=True):
        require_float(kind, operand)
        require_rank(kind, 4, operand)
    require_type(v, k.with_shape((*k.shape[:3], v.shape[3])), "v")
    if (q.shape[0], *q.shape[2:]) != (k.shape[0], *k.shape[2:]):
        raise DialectError(f"q {q} and k {k} differ in batch, heads or width")
    rows = (q.shape[0], q.shape[2], q.shape[1])
    scores = q.with_shape((*rows, k.shape[1]))
    if broadcast([bias, scores]) != scores.shape:
        raise DialectError(f"bias {bias} does not broadcast to scores {scores.shape}")
    return [q.with_shape((*q.shape[:3], v.shape[3])), TensorType(rows, "f32")]


def _heads_first(xs: Tensors) -> list[torch.Tensor]:
    """[batch, heads, length, width] of [batch, length, heads, width], and back."""
    return [x.transpose(1, 2) for x in xs]


def _scores(
    q: torch.Tensor, k: torch.Tensor, bias: torch.Tensor, attributes: Attributes
) -> torch.Tensor:
    scores = q @ k.mT * attributes["scale"] + bias
    if attributes["causal"]:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
        scores = scores.masked_fill(~mask, float("-inf"))
    return scores


@define(
    "attention",
    "q k v bias",
    _infer_attention,
    results="o lse",
    attributes="scale causal",
    template=True,
)
def _attention(xs: Tensors, attributes: Attributes) -> list[torch.Tensor]:
    """o = softmax(q kᵀ scale + bias) v for each head of [batch, length, heads, width]; lse [batch,
    heads, length] is the rows' log-sum-exp.
    """
    q, k, v = _heads_first(xs[:3])
    scores = _scores(q, k, xs[3], attributes)
    return [(torch.softmax(scores, -1) @ v).transpose(1, 2), torch.logsumexp(scores, -1)]


def _infer_attention_grad(types: Types, attributes: Attributes) -> list[TensorType]:
    g, q, k, v, bias, o, lse = types
    expected_o, expected_lse = _infer_attention((q, k, v, bias), attributes)
    require_type(o, expected_o, "o")
    require_type(g, expected_o, "g")
    require_type(lse, expected_lse, "lse")
    return [q, k, v]


@define(
    "attention_grad",
    "g q k v bias o lse",
    _infer_attention_grad,
    results="dq dk dv",
    attributes="scale causal",
    template=True,
)
def _attention_grad(xs: Tensors, attributes: Attributes) -> list[torch.Tensor]:
    """Gradients of attention by q, k, v (Dao 2023, FlashAttention-2, section 3.2)."""
    g, q, k, v, o = _heads_first([*xs[:4], xs[5]])
    bias, lse = xs[4], xs[6]
    probabilities = torch.exp(_scores(q, k, bias, attributes) - lse.unsqueeze(-1).to(q.dtype))
    dv = probabilities.mT @ g
    dscores = probabilities * (g @ v.mT - (g * o).sum(-1, keepdim=True)) * attributes["scale"]
    return _heads_first([dscores @ k, dscores.mT @ q, dv])
