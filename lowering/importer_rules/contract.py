"""Matrix products and attention."""

from __future__ import annotations

from mlir import ir

from ..dialect import attributes_of
from ..importer import Builder, NoRule, Value, rule
from ..mlir import TensorType


def _untransposed(x: Value) -> tuple[Value, bool]:
    """The tensor whose last two axes x swaps and True, or x and False."""
    owner = x.owner
    if isinstance(owner, ir.Block) or owner.name != "keras.transpose":
        return x, False
    permutation = list(attributes_of(owner)["permutation"])
    rank = len(permutation)
    if permutation != [*range(rank - 2), rank - 1, rank - 2]:
        return x, False
    return owner.operands[0], True


def product(b: Builder, x: Value, y: Value) -> Value:
    """The product of two matrices or two batches of them; transposes of the operands fold in."""
    if not TensorType.of(x).is_float:
        raise NoRule(f"no dialect op for a matrix product of {TensorType.of(x).dtype}")
    (x, transpose_x), (y, transpose_y) = _untransposed(x), _untransposed(y)
    name = "matmul" if TensorType.of(x).rank == 2 else "batch_matmul"
    return b.emit(name, x, y, transpose_a=transpose_x, transpose_b=transpose_y)


@rule("aten.mm.default", "aten.bmm.default")
def _mm(b: Builder, x: Value, y: Value) -> Value:
    return product(b, x, y)


@rule("aten.addmm.default", "aten.baddbmm.default")
def _addmm(b: Builder, bias: Value, x: Value, y: Value, *, beta: float = 1, alpha: float = 1):
    dtype = b.result.dtype
    made = product(b, x, y)
    made = made if alpha == 1 else b.emit("mul", made, b.scalar(alpha, dtype))
    bias = bias if beta == 1 else b.emit("mul", bias, b.scalar(beta, dtype))
    return b.emit("add", made, bias)


@rule("aten.mv.default")
def _mv(b: Builder, x: Value, y: Value) -> Value:
    column = b.reshape(y, (*TensorType.of(y).shape, 1))
    return b.reshape(product(b, x, column), b.result.shape)


@rule("aten.dot.default")
def _dot(b: Builder, x: Value, y: Value) -> Value:
    return b.emit("sum", b.emit("mul", x, y), axes=(0,))


@rule("aten.matmul.default")
def _matmul(b: Builder, x: Value, y: Value) -> Value:
    a, c = TensorType.of(x).shape, TensorType.of(y).shape
    if len(a) == len(c) == 2:
        return product(b, x, y)
    if len(a) < 2 or len(c) < 2:
        raise NoRule(f"aten.matmul of ranks {len(a)} and {len(c)}")
    if len(c) == 2:
        rows = b.reshape(x, (-(-TensorType.of(x).size // a[-1]), a[-1]))
        return b.reshape(product(b, rows, y), b.result.shape)
    batch = b.result.shape[:-2]
    count = TensorType(batch, "i1").size
    x = b.reshape(b.broadcast(x, (*batch, *a[-2:])), (count, *a[-2:]))
    y = b.reshape(b.broadcast(y, (*batch, *c[-2:])), (count, *c[-2:]))
    return b.reshape(product(b, x, y), b.result.shape)


def _no_bias(b: Builder, q: Value) -> Value:
    return b.full(0, (1, 1, 1, 1), TensorType.of(q).dtype)


def _rank4(b: Builder, x: Value) -> Value:
    shape = TensorType.of(x).shape
    return b.reshape(x, (1,) * (4 - len(shape)) + shape)


def _heads_last(b: Builder, *values: Value) -> list[Value]:
    """[batch, length, heads, width] of [batch, heads, length, width], and back."""
    return [b.transpose(value, (0, 2, 1, 3)) for value in values]


def _scale(q: Value, scale: float | None) -> float:
    return TensorType.of(q).shape[-1] ** -0.5 if scale is None else float(scale)


@rule("keras_triton.attention.default")
def _attention(
    b: Builder, q: Value, k: Value, v: Value, bias: Value | None, scale: float, causal: bool
) -> list[Value]:
    bias = _no_bias(b, q) if bias is None else _rank4(b, bias)
    return b.emit_all("attention", q, k, v, bias, scale=float(scale), causal=bool(causal))


@rule("keras_triton.attention_grad.default")
def _attention_grad(
    b: Builder,
    g: Value,
    q: Value,
    k: Value,
    v: Value,
    bias: Value | None,
    o: Value,
    lse: Value,
    scale: float,
    causal: bool,
    bias_grad: bool = False,
) -> list[Value | None]:
    if bias_grad:
        raise NoRule("no dialect op for the gradient of attention by its bias")
    bias = _no_bias(b, q) if bias is None else _rank4(b, bias)
    grads = b.emit_all(
        "attention_grad", g, q, k, v, bias, o, lse, scale=float(scale), causal=bool(causal)
    )
    return [*grads, *[None] * (len(b.results) - len(grads))]


@rule("aten._scaled_dot_product_flash_attention_for_cpu.default")
def _flash(
    b: Builder,
    q: Value,
    k: Value,
    v: Value,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    attn_mask: Value | None = None,
    scale: float | None = None,
) -> list[Value]:
    if dropout_p:
        raise NoRule("no dialect op for attention that drops probabilities")
    scale = _scale(q, scale)
    q, k, v = _heads_last(b, q, k, v)
    o, lse = _attention(b, q, k, v, attn_mask, scale, is_causal)
    return [*_heads_last(b, o), lse]


@rule("aten._scaled_dot_product_flash_attention_for_cpu_backward.default")
def _flash_backward(
    b: Builder,
    g: Value,
    q: Value,
    k: Value,
    v: Value,
    o: Value,
    lse: Value,
    dropout_p: float,
    is_causal: bool,
    *,
    attn_mask: Value | None = None,
    scale: float | None = None,
) -> list[Value | None]:
    if dropout_p:
        raise NoRule("no dialect op for attention that drops probabilities")
    scale = _scale(q, scale)
    g, q, k, v, o = _heads_last(b, g, q, k, v, o)
    grads = _attention_grad(b, g, q, k, v, attn_mask, o, lse, scale, is_causal)
    return _heads_last(b, *grads[:3])
