"""torch's own convolution and pooling: NCHW there, NHWC here, with transposes between.

Keras's channels-last layers already permute around these ops, so the transposes meet their inverses
and canonicalization removes both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from ..importer import Builder, NoRule, Value, rule
from ..mlir import TensorType

TO_NHWC, TO_NCHW = (0, 2, 3, 1), (0, 3, 1, 2)
TO_HWIO, TO_OIHW = (2, 3, 1, 0), (3, 2, 0, 1)


def _pair(value: Sequence[int], missing: int) -> tuple[int, int]:
    """torch lets one number stand for both axes, and an empty list for the default."""
    items = tuple(value) or (missing,)
    return (items[0], items[-1])


@dataclass(frozen=True)
class _Convolution:
    """torch's convolution arguments as the dialect's; one axis counts as an image of one row."""

    b: Builder
    rank: int
    window: dict[str, object]

    @classmethod
    def of(
        cls,
        b: Builder,
        x: Value,
        stride: Sequence[int],
        padding: Sequence[int],
        dilation: Sequence[int],
        groups: int,
    ) -> _Convolution:
        rank = TensorType.of(x).rank
        if rank not in (3, 4):
            raise NoRule(f"no dialect op for a convolution of {rank - 2} axes")
        line = rank == 3
        strides = (1, stride[0]) if line else _pair(stride, 1)
        top, left = (0, padding[0]) if line else _pair(padding, 0)
        dilations = (1, dilation[0]) if line else _pair(dilation, 1)
        window = {
            "strides": strides,
            "pads": (top, top, left, left),
            "dilations": dilations,
            "groups": groups,
        }
        return cls(b, rank, window)

    def image(self, x: Value) -> Value:
        """NHWC from NCHW or NCL."""
        return self.b.transpose(self._with_row(x), TO_NHWC)

    def kernel(self, w: Value) -> Value:
        """HWIO from OIHW or OIL."""
        return self.b.transpose(self._with_row(w), TO_HWIO)

    def torch_image(self, x: Value) -> Value:
        return self._without_row(self.b.transpose(x, TO_NCHW))

    def torch_kernel(self, w: Value) -> Value:
        return self._without_row(self.b.transpose(w, TO_OIHW))

    def emit(self, name: str, x: Value, y: Value, shape: Sequence[int] | None = None) -> Value:
        shaped = {} if shape is None else {"shape": tuple(shape)}
        return self.b.emit(name, x, y, **shaped, **self.window)

    def _with_row(self, x: Value) -> Value:
        shape = TensorType.of(x).shape
        return x if self.rank == 4 else self.b.reshape(x, (*shape[:2], 1, shape[2]))

    def _without_row(self, x: Value) -> Value:
        shape = TensorType.of(x).shape
        return x if self.rank == 4 else self.b.reshape(x, (*shape[:2], shape[3]))


@rule("aten.convolution.default")
def _convolution(
    b: Builder,
    x: Value,
    w: Value,
    bias: Value | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
) -> Value:
    """A transposed convolution is the image gradient of a plain one."""
    c = _Convolution.of(b, x, stride, padding, dilation, groups)
    x, w = c.image(x), c.kernel(w)
    if transposed:
        n, channels, *extents = b.result.shape
        height, width = (1, *extents)[-2:]
        y = c.emit("conv2d_input_grad", x, w, (n, height, width, channels))
    else:
        y = c.emit("conv2d", x, w)
    return c.torch_image(y if bias is None else b.emit("add", y, bias))


@rule("aten.convolution_backward.default")
def _convolution_backward(
    b: Builder,
    g: Value,
    x: Value,
    w: Value,
    bias_sizes: Sequence[int] | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
    mask: Sequence[bool],
) -> list[Value | None]:
    c = _Convolution.of(b, x, stride, padding, dilation, groups)
    g, x, w = c.image(g), c.image(x), c.kernel(w)
    made: list[Value | None] = [None] * 3
    if mask[0] and transposed:
        made[0] = c.torch_image(c.emit("conv2d", g, w))
    elif mask[0]:
        made[0] = c.torch_image(c.emit("conv2d_input_grad", g, w, TensorType.of(x).shape))
    if mask[1]:
        pair = (x, g) if transposed else (g, x)
        made[1] = c.torch_kernel(c.emit("conv2d_kernel_grad", *pair, TensorType.of(w).shape))
    if mask[2]:
        made[2] = b.emit("sum", g, axes=(0, 1, 2))
    return made


def _pool(
    b: Builder,
    x: Value,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int] = (1,),
    ceil_mode: bool = False,
) -> dict[str, tuple[int, ...]]:
    if TensorType.of(x).rank != 4 or _pair(dilation, 1) != (1, 1) or ceil_mode:
        raise NoRule("no dialect op for a pooling other than a plain one of two axes")
    top, left = _pair(padding, 0)
    window = _pair(kernel, 1)
    strides = _pair(stride, 0) if stride else window
    return {"window": window, "strides": strides, "pads": (top, top, left, left)}


@rule("aten.max_pool2d_with_indices.default")
def _max_pool(
    b: Builder,
    x: Value,
    kernel: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    dilation: Sequence[int] = (1,),
    ceil_mode: bool = False,
) -> list[Value]:
    options = _pool(b, x, kernel, stride, padding, dilation, ceil_mode)
    y, index = b.emit_all("max_pool2d", b.transpose(x, TO_NHWC), **options)
    places = b.transpose(_flat_places(b, x, index, options), TO_NCHW)
    b.sources[places] = index
    return [b.transpose(y, TO_NCHW), places]


def _flat_places(b: Builder, x: Value, index: Value, options: dict[str, tuple[int, ...]]) -> Value:
    """torch's index, h * W + w in the image, from the place in the window."""
    shape, width = TensorType.of(index).shape, TensorType.of(x).shape[3]
    columns = b.scalar(options["window"][1], "i32")
    inner = (b.emit("floor_divide", index, columns), b.emit("remainder", index, columns))
    place = []
    for i in range(2):
        corner = b.emit("iota", shape=shape, axis=1 + i, dtype="i32")
        corner = b.emit("mul", corner, b.scalar(options["strides"][i], "i32"))
        corner = b.emit("sub", corner, b.scalar(options["pads"][2 * i], "i32"))
        place.append(b.emit("add", corner, inner[i]))
    flat = b.emit("add", b.emit("mul", place[0], b.scalar(width, "i32")), place[1])
    return b.cast(flat, "i64")


@rule("aten.max_pool2d_with_indices_backward.default")
def _max_pool_backward(
    b: Builder,
    g: Value,
    x: Value,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    ceil_mode: bool,
    places: Value,
) -> Value:
    options = _pool(b, x, kernel, stride, padding, dilation, ceil_mode)
    if places not in b.sources:
        raise NoRule("a max-pool gradient whose indices come from elsewhere")
    n, c, h, w = TensorType.of(x).shape
    grad = b.emit(
        "max_pool2d_grad",
        b.transpose(g, TO_NHWC),
        b.sources[places],
        shape=(n, h, w, c),
        **options,
    )
    return b.transpose(grad, TO_NCHW)


def _require_own_count(
    options: dict[str, tuple[int, ...]], count_include_pad: bool, divisor: int | None
) -> None:
    """The dialect divides by the elements inside the image."""
    if divisor not in (None, prod(options["window"])) or (divisor and any(options["pads"])):
        raise NoRule(f"an average pooling that divides by {divisor}")
    if count_include_pad and any(options["pads"]):
        raise NoRule("an average pooling that counts its padding")


@rule("aten.avg_pool2d.default")
def _avg_pool(
    b: Builder,
    x: Value,
    kernel: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Value:
    options = _pool(b, x, kernel, stride, padding, ceil_mode=ceil_mode)
    _require_own_count(options, count_include_pad, divisor_override)
    return b.transpose(b.emit("avg_pool2d", b.transpose(x, TO_NHWC), **options), TO_NCHW)


@rule("aten.avg_pool2d_backward.default")
def _avg_pool_backward(
    b: Builder,
    g: Value,
    x: Value,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
) -> Value:
    options = _pool(b, x, kernel, stride, padding, ceil_mode=ceil_mode)
    _require_own_count(options, count_include_pad, divisor_override)
    n, c, h, w = TensorType.of(x).shape
    grad = b.emit("avg_pool2d_grad", b.transpose(g, TO_NHWC), shape=(n, h, w, c), **options)
    return b.transpose(grad, TO_NCHW)
