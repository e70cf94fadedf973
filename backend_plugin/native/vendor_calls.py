"""What the vendor calls of a CPU are in native code: products by BLAS, others by one op of torch.

Each is the op that vendor.py and torch_ops/ call, on the same views, so values are equal bit by bit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from keras_triton.lowering.emit_llvm.driver import driver
from keras_triton.lowering.extern import Extern, arguments_of, parse_target
from keras_triton.lowering.mlir import TensorType

from ..torch_ops.attention import fits_blocks
from ..torch_ops.conv import padding_of
from .entry import Entry, NoEntryError
from .torch_calls import TorchCall, View, entry_of
from .words import Words, float32, float64

Views = Sequence[View]
Results = list[View | None]
Native = Callable[[Views, Results, dict[str, Any]], Entry]
CALLS: dict[str, Native] = {}
_CHANNELS_LAST = 2
"""torch.channels_last in torch's C interface."""


def vendor_entry(op: str, xs: Views, outs: Results, attributes: dict[str, Any]) -> Entry:
    """`keras.<op>` from operands to results; None is a result that nobody keeps.

    Raises:
        NoEntryError: only Python calls it.
    """
    if op not in CALLS:
        raise NoEntryError(f"keras.{op} is more than one op of torch")
    return CALLS[op](xs, outs, attributes)


def extern_entry(extern: Extern, operands: Sequence[TensorType], outputs: int) -> Entry:
    """A call of a torch op that the dialect does not express; the last operands are its results.

    Raises:
        NoEntryError: it is no op of torch's own, or takes what cannot be handed over.
    """
    target = parse_target(extern.target)
    if target.namespace != "aten":
        raise NoEntryError(f"{extern.target} is no op of torch's own")
    views = [View.of(entry, kind) for entry, kind in enumerate(operands)]
    reads, writes = views[: len(views) - outputs], views[len(views) - outputs :]

    def known(kind: str, content: Any) -> Any:
        if kind != "t":
            raise NoEntryError(f"{extern.target} takes a {kind}")
        return reads[content]

    return entry_of(TorchCall(extern.target, *arguments_of(extern, known)), list(writes))


def _registered(op: str) -> Callable[[Native], Native]:
    """Registers the native form of `keras.<op>`."""

    def register(function: Native) -> Native:
        CALLS[op] = function
        return function

    return register


@_registered("matmul")
def _matmul(xs: Views, outs: Results, attributes: dict[str, Any]) -> Entry:
    (out,) = outs
    assert out is not None, "a product that nobody reads"
    if out.dtype in _GEMMS and not driver().lacks["gemm"] and min(*xs[0].sizes, *out.sizes) > 1:
        return _gemm(xs[0], xs[1], out, attributes)
    a, b = _transposed(xs, attributes)
    return entry_of(TorchCall("aten.mm.out", (a, b), {"out": out}), [None])


@_registered("batch_matmul")
def _batch_matmul(xs: Views, outs: Results, attributes: dict[str, Any]) -> Entry:
    a, b = _transposed(xs, attributes)
    return entry_of(TorchCall("aten.bmm.out", (a, b), {"out": outs[0]}), [None])


def _transposed(xs: Views, attributes: dict[str, Any]) -> list[View]:
    flags = attributes["transpose_a"], attributes["transpose_b"]
    return [x.transposed() if flag else x for x, flag in zip(xs, flags, strict=True)]


# Its name in the driver, and how its scalars are written.
_GEMMS = {torch.float32: ("sgemm", float32), torch.float64: ("dgemm", float64)}


def _gemm(a: View, b: View, out: View, attributes: dict[str, Any]) -> Entry:
    """A product of more than a row or column by BLAS itself, as torch calls it: in BLAS's order, where
    columns are contiguous, the operands are the transposed ones, and so out = b a."""
    name, scalar = _GEMMS[out.dtype]
    first, second = (b, attributes["transpose_b"]), (a, attributes["transpose_a"])
    flags = [ord("T" if flag else "N") for _, flag in (first, second)]
    m, n = out.sizes[1], out.sizes[0]
    k = a.sizes[0] if attributes["transpose_a"] else a.sizes[1]
    strides = [x.strides[0] for x in (b, a, out)]
    numbers = [m, n, k, scalar(1.0), strides[0], strides[1], scalar(0.0), strides[2]]
    return Entry(name, Words(*flags, *numbers, b.entry, a.entry, out.entry))


def _window(attributes: dict[str, Any], padding: list[int]) -> tuple[Any, ...]:
    """What follows the tensors of a convolution in torch's ops."""
    strides, dilations = attributes["strides"], attributes["dilations"]
    return strides, padding, dilations, False, [0, 0], attributes["groups"]


def _image(x: View) -> View:
    return x.permuted(0, 3, 1, 2)


def _padded(x: View, attributes: dict[str, Any]) -> tuple[View | TorchCall, list[int]]:
    """The image, with lopsided padding written out, and the padding that is left."""
    padding, by_hand = padding_of(attributes["pads"])
    image = _image(x)
    return image if by_hand is None else TorchCall("aten.pad.default", (image, by_hand)), padding


def _kernel(w: View) -> TorchCall:
    oihw = w.permuted(3, 2, 0, 1)
    return TorchCall("aten.contiguous.default", (oihw,), {"memory_format": _CHANNELS_LAST})


@_registered("conv2d")
def _conv2d(xs: Views, outs: Results, attributes: dict[str, Any]) -> Entry:
    x, w = xs
    image, padding = _padded(x, attributes)
    arguments = image, _kernel(w), None, *_window(attributes, padding)
    return entry_of(TorchCall("aten.convolution.default", arguments), [_image(_kept(outs[0]))])


@_registered("conv2d_input_grad")
def _conv2d_input_grad(xs: Views, outs: Results, attributes: dict[str, Any]) -> Entry:
    g, w = xs
    padding, by_hand = padding_of(attributes["pads"])
    if by_hand is not None:
        raise NoEntryError(
            "the gradient of an image that is padded lopsidedly is cut out of another"
        )
    dx = _image(_kept(outs[0]))
    # Of the image only its shape matters.
    window = *_window(attributes, padding), [True, False, False]
    arguments = _image(g), dx, _kernel(w), None, *window
    return entry_of(TorchCall("aten.convolution_backward.default", arguments), [dx, None, None])


@_registered("conv2d_kernel_grad")
def _conv2d_kernel_grad(xs: Views, outs: Results, attributes: dict[str, Any]) -> Entry:
    g, x = xs
    dw = _kept(outs[0])
    image, padding = _padded(x, attributes)
    # Of the kernel only its shape matters.
    filters = dw.reshaped(*(dw.sizes[axis] for axis in (3, 2, 0, 1)))
    window = *_window(attributes, padding), [False, True, False]
    arguments = _image(g), image, filters, None, *window
    results = [None, dw.permuted(3, 2, 0, 1), None]
    return entry_of(TorchCall("aten.convolution_backward.default", arguments), results)


_ATTENTION = "aten._scaled_dot_product_flash_attention_for_cpu"


@_registered("attention")
def _attention(xs: Views, outs: Results, attributes: dict[str, Any]) -> Entry:
    q, k, v, bias = xs
    options = _attention_options(q, k, v, bias, attributes)
    o, lse = outs
    arguments = *map(_heads_first, (q, k, v)), 0.0, attributes["causal"]
    call = TorchCall(f"{_ATTENTION}.default", arguments, options)
    return entry_of(call, [None if o is None else _heads_first(o), lse])


@_registered("attention_grad")
def _attention_grad(xs: Views, outs: Results, attributes: dict[str, Any]) -> Entry:
    g, q, k, v, bias, o, lse = xs
    options = _attention_options(q, k, v, bias, attributes)
    arguments = *map(_heads_first, (g, q, k, v, o)), lse, 0.0, attributes["causal"]
    call = TorchCall(f"{_ATTENTION}_backward.default", arguments, options)
    return entry_of(call, [None if out is None else _heads_first(out) for out in outs])


def _attention_options(
    q: View, k: View, v: View, bias: View, attributes: dict[str, Any]
) -> dict[str, Any]:
    """Raises:
    NoEntryError: torch has no kernel for this attention.
    """
    if not fits_blocks(q.dtype, q.sizes, k.sizes, v.sizes, attributes["causal"]):
        raise NoEntryError("torch has no kernel for attention of these shapes")
    mask = bias.expanded(q.sizes[0], q.sizes[2], q.sizes[1], k.sizes[1])
    return {"attn_mask": mask, "scale": attributes["scale"]}


@_registered("sort")
def _sort(xs: Views, outs: Results, attributes: dict[str, Any]) -> Entry:
    options = {"stable": True, "dim": -1, "descending": attributes["descending"]}
    return entry_of(TorchCall("aten.sort.stable", tuple(xs), options), list(outs))


def _heads_first(x: View) -> View:
    return x.permuted(0, 2, 1, 3)


def _kept(view: View | None) -> View:
    assert view is not None, "an op with one result that nobody reads"
    return view
