"""The `keras_triton` custom ops, which the dialect mirrors one to one."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from ..importer import Builder, Value, rule


@rule("keras_triton.barrier.default")
def _barrier(b: Builder, x: Value) -> Value:
    return b.emit("barrier", x)


@rule("keras_triton.random_bits.default")
def _random_bits(b: Builder, key: Value, shape: Sequence[int], stream: int = 0) -> Value:
    return b.emit("random_bits", key, shape=tuple(shape), stream=stream)


@rule("keras_triton.random_uniform.default")
def _random_uniform(b: Builder, key: Value, shape: Sequence[int]) -> Value:
    return b.emit("random_uniform", key, shape=tuple(shape))


@rule("keras_triton.dropout.default")
def _dropout(b: Builder, x: Value, key: Value, rate: float) -> Value:
    return b.emit("dropout", x, key, rate=float(rate))


@rule("keras_triton.conv2d.default")
def _conv2d(
    b: Builder,
    x: Value,
    w: Value,
    strides: Sequence[int],
    pads: Sequence[int],
    dilations: Sequence[int],
    groups: int,
) -> Value:
    return b.emit("conv2d", x, w, strides=strides, pads=pads, dilations=dilations, groups=groups)


def _conv2d_grad(
    name: str,
    b: Builder,
    g: Value,
    other: Value,
    shape: Sequence[int],
    strides: Sequence[int],
    pads: Sequence[int],
    dilations: Sequence[int],
    groups: int,
) -> Value:
    window = {"strides": strides, "pads": pads, "dilations": dilations, "groups": groups}
    return b.emit(name, g, other, shape=shape, **window)


for _name in ("conv2d_input_grad", "conv2d_kernel_grad"):
    rule(f"keras_triton.{_name}.default")(partial(_conv2d_grad, _name))


def _pool(
    name: str,
    b: Builder,
    x: Value,
    window: Sequence[int],
    strides: Sequence[int],
    pads: Sequence[int],
) -> Value | list[Value]:
    made = b.emit_all(name, x, window=window, strides=strides, pads=pads)
    return made if len(made) > 1 else made[0]


for _name in ("max_pool2d", "avg_pool2d"):
    rule(f"keras_triton.{_name}.default")(partial(_pool, _name))


@rule("keras_triton.max_pool2d_grad.default")
def _max_pool2d_grad(
    b: Builder,
    g: Value,
    index: Value,
    shape: Sequence[int],
    window: Sequence[int],
    strides: Sequence[int],
    pads: Sequence[int],
) -> Value:
    options = {"shape": shape, "window": window, "strides": strides, "pads": pads}
    return b.emit("max_pool2d_grad", g, index, **options)


@rule("keras_triton.avg_pool2d_grad.default")
def _avg_pool2d_grad(
    b: Builder,
    g: Value,
    shape: Sequence[int],
    window: Sequence[int],
    strides: Sequence[int],
    pads: Sequence[int],
) -> Value:
    options = {"shape": shape, "window": window, "strides": strides, "pads": pads}
    return b.emit("avg_pool2d_grad", g, **options)


@rule("keras_triton.cross_entropy.default")
def _cross_entropy(b: Builder, logits: Value, target: Value) -> list[Value]:
    return b.emit_all("cross_entropy", logits, target)


@rule("keras_triton.cross_entropy_grad.default")
def _cross_entropy_grad(b: Builder, g: Value, logits: Value, target: Value, lse: Value) -> Value:
    return b.emit("cross_entropy_grad", g, logits, target, lse)
