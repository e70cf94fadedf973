"""Ops on rows: softmax, normalization, cross-entropy, the place of an extreme, dropout."""

from __future__ import annotations

from collections.abc import Callable

from ..build import Value
from ..mlir import TensorType
from ..ops.random import scale_of_kept
from .registry import Rows, decomposes


@decomposes("softmax")
def _softmax(k: Rows, x: Value) -> list[Value]:
    e = k.exp(k.sub(x, k.spread(k.fold("max", x))))
    return [k.div(e, k.spread(k.fold("sum", e)))]


@decomposes("softmax_grad")
def _softmax_grad(k: Rows, g: Value, y: Value) -> list[Value]:
    return [k.mul(y, k.sub(g, k.spread(k.fold("sum", k.mul(g, y)))))]


@decomposes("log_softmax")
def _log_softmax(k: Rows, x: Value) -> list[Value]:
    shifted = k.sub(x, k.spread(k.fold("max", x)))
    return [k.sub(shifted, k.spread(k.log(k.fold("sum", k.exp(shifted)))))]


@decomposes("log_softmax_grad")
def _log_softmax_grad(k: Rows, g: Value, y: Value) -> list[Value]:
    return [k.sub(g, k.mul(k.exp(y), k.spread(k.fold("sum", g))))]


@decomposes("layer_norm")
def _layer_norm(k: Rows, x: Value, weight: Value, bias: Value, epsilon: float) -> list[Value]:
    mean = k.mean(x)
    off = k.sub(x, k.spread(mean))
    rstd = k.rsqrt(k.add(k.mean(k.mul(off, off)), epsilon))
    return [k.add(k.mul(k.mul(off, k.spread(rstd)), weight), bias), mean, rstd]


@decomposes("layer_norm_grad")
def _layer_norm_grad(
    k: Rows, g: Value, x: Value, mean: Value, rstd: Value, weight: Value
) -> list[Value]:
    scale = k.spread(rstd)
    z = k.mul(k.sub(x, k.spread(mean)), scale)
    gw = k.mul(g, weight)
    common = k.add(k.spread(k.mean(gw)), k.mul(z, k.spread(k.mean(k.mul(gw, z)))))
    dx = k.mul(k.sub(gw, common), scale)
    rows = tuple(range(len(k.shape) - 1))
    totals = [k.mul(g, z), g]
    if rows:
        totals = [k.builder.emit("sum", total, axes=rows) for total in totals]
    return [dx, *totals]


@decomposes("cross_entropy")
def _cross_entropy(k: Rows, logits: Value, target: Value) -> list[Value]:
    most = k.fold("max", logits)
    # Rows whose maximum is infinite keep their own scale: inf - inf would be NaN.
    shift = k.select(k.isinf(most), 0, most)
    lse = k.add(shift, k.log(k.fold("sum", k.exp(k.sub(logits, k.spread(shift))))))
    hot = k.eq(k.places(1), k.spread(target))
    return [k.sub(lse, k.fold("sum", k.select(hot, logits, 0))), lse]


@decomposes("cross_entropy_grad")
def _cross_entropy_grad(k: Rows, g: Value, logits: Value, target: Value, lse: Value) -> list[Value]:
    k = Rows(k.builder, TensorType.of(logits))
    probabilities = k.exp(k.sub(logits, k.spread(lse)))
    hot = k.eq(k.places(1), k.spread(target))
    return [k.mul(k.spread(g), k.select(hot, k.sub(probabilities, 1), probabilities))]


def _arg(extreme: str) -> Callable[..., list[Value]]:
    """The least index at which the extreme (or a NaN, which torch counts as it) stands."""

    def arg(k: Rows, x: Value, axis: int) -> list[Value]:
        found = k.builder.emit(extreme, x, axes=(axis,))
        hit = k.eq(x, k.spread(found, axis))
        if k.kind.is_float:
            hit = k.logical_or(hit, k.isnan(x))
        beyond = k.builder.scalar(k.shape[axis], "i64")
        return [k.builder.emit("min", k.select(hit, k.places(axis), beyond), axes=(axis,))]

    return arg


decomposes("argmax")(_arg("max"))
decomposes("argmin")(_arg("min"))


@decomposes("dropout")
def _dropout(k: Rows, x: Value, key: Value, rate: float) -> list[Value]:
    draw = k.builder.emit("random_uniform", key, shape=k.shape)
    kept = k.builder.emit("ge", draw, k.builder.scalar(rate, "f32"))
    return [k.select(kept, k.mul(x, scale_of_kept(rate)), 0)]
