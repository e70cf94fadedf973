"""Pooling spelled out for windows that tile the image: an image of tiles, reduced over each tile.

With equal windows and strides and nothing padded or left over, [N, H, W, C] is [N, OH, KH, OW, KW, C]
in the same memory, so pooling is a reduction and its gradient a pointwise op, and both fuse.
"""

from __future__ import annotations

from math import prod

from ..build import Algebra, Value
from ..dialect import Attributes
from ..mlir import TensorType
from .registry import decomposes

TILE = (2, 4)  # the axes within a tile
IMAGE = (0, 1, 3, 5)  # the axes of the pooled image


def _tiles(shape: tuple[int, ...], attributes: Attributes) -> bool:
    """Whether the windows tile an image of `shape`."""
    window = tuple(attributes["window"])
    whole = all(extent % size == 0 for extent, size in zip(shape[1:3], window, strict=True))
    return whole and window == tuple(attributes["strides"]) and not any(attributes["pads"])


def _forward(types: list[TensorType], attributes: Attributes) -> bool:
    return _tiles(types[0].shape, attributes)


def _backward(types: list[TensorType], attributes: Attributes) -> bool:
    return _tiles(tuple(attributes["shape"]), attributes)


class _Tiles(Algebra):
    """Arithmetic on the tiles of an image of `shape` [N, H, W, C]."""

    def __init__(self, k: Algebra, shape: tuple[int, ...], window: tuple[int, ...]) -> None:
        super().__init__(k.builder, k.dtype)
        (n, h, w, c), (kh, kw) = shape, window
        self.image, self.window = shape, window
        self.shape = (n, h // kh, kh, w // kw, kw, c)

    def cut(self, x: Value) -> Value:
        return self.builder.reshape(x, self.shape)

    def join(self, x: Value) -> Value:
        return self.builder.reshape(x, self.image)

    def fold(self, name: str, x: Value) -> Value:
        return self.builder.emit(name, x, axes=TILE)

    def spread(self, pooled: Value) -> Value:
        """A value a window at every element of its tile."""
        return self.builder.emit("broadcast_in_dim", pooled, shape=self.shape, dims=IMAGE)

    def places(self) -> Value:
        """Each element's place kh * KW + kw within its tile."""
        rows, columns = (
            self.builder.emit("iota", shape=self.shape, axis=axis, dtype="i32") for axis in TILE
        )
        return self.add(self.mul(rows, self.builder.scalar(self.window[1], "i32")), columns)


@decomposes("max_pool2d", when=_forward)
def _max_pool2d(k: Algebra, x: Value, window, strides, pads) -> list[Value]:
    t = _Tiles(k, TensorType.of(x).shape, window)
    tiles = t.cut(x)
    most = t.fold("max", tiles)
    hit = t.logical_or(t.eq(tiles, t.spread(most)), t.isnan(tiles))
    beyond = t.builder.scalar(prod(window), "i32")
    return [most, t.fold("min", t.select(hit, t.places(), beyond))]


@decomposes("max_pool2d_grad", when=_backward)
def _max_pool2d_grad(
    k: Algebra, g: Value, index: Value, shape, window, strides, pads
) -> list[Value]:
    t = _Tiles(k, shape, window)
    return [t.join(t.select(t.eq(t.places(), t.spread(index)), t.spread(g), 0))]


@decomposes("avg_pool2d", when=_forward)
def _avg_pool2d(k: Algebra, x: Value, window, strides, pads) -> list[Value]:
    t = _Tiles(k, TensorType.of(x).shape, window)
    return [t.div(t.fold("sum", t.cut(x)), prod(window))]


@decomposes("avg_pool2d_grad", when=_backward)
def _avg_pool2d_grad(k: Algebra, g: Value, shape, window, strides, pads) -> list[Value]:
    t = _Tiles(k, shape, window)
    return [t.join(t.spread(t.div(g, prod(window))))]
