"""Template ops handed to torch's own library (oneDNN and MKL on a CPU, cuDNN and cuBLAS on a GPU).

On the CPU target this is where matrix products, convolutions, pooling, sorting and attention run by design;
what has neither a vendor call nor a kernel runs by its reference meaning and is reported as a
fallback.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from mlir import ir

from keras_triton.lowering import dialect
from keras_triton.lowering.extern import Extern, call_extern
from keras_triton.lowering.mlir import TensorType
from keras_triton.lowering.plan_reader import output_count

from .native.entry import Entry
from .native.torch_calls import View
from .native.vendor_calls import extern_entry, vendor_entry
from .runtime import TensorExecutor
from .targets.base import Compiled

Tensors = Sequence[torch.Tensor]
Vendor = Callable[[Tensors, Tensors, dict[str, Any]], None]
CALLS: dict[str, tuple[str, Vendor, bool]] = {}


def vendor(op: str, shown: str, *, copied: bool = True) -> Callable[[Vendor], Vendor]:
    """Registers what computes `keras.<op>` from inputs into outputs; `shown` names it in reports, and
    `copied` says whether it first makes results of its own.
    """

    def register(function: Vendor) -> Vendor:
        if op in CALLS:
            raise ValueError(f"two vendor calls for keras.{op}")
        CALLS[op] = (shown, function, copied)
        return function

    return register


@vendor("matmul", "torch.mm", copied=False)
def _matmul(xs: Tensors, outs: Tensors, attributes: dict[str, Any]) -> None:
    a = xs[0].t() if attributes["transpose_a"] else xs[0]
    b = xs[1].t() if attributes["transpose_b"] else xs[1]
    torch.mm(a, b, out=outs[0])


@vendor("batch_matmul", "torch.bmm", copied=False)
def _batch_matmul(xs: Tensors, outs: Tensors, attributes: dict[str, Any]) -> None:
    a = xs[0].mT if attributes["transpose_a"] else xs[0]
    b = xs[1].mT if attributes["transpose_b"] else xs[1]
    torch.bmm(a, b, out=outs[0])


def _custom(op: str, shape: bool, *names: str) -> None:
    """A custom torch op of this package with the same operands and attributes as the dialect's op."""
    call = getattr(torch.ops.keras_triton, op).default
    ordered = (["shape"] if shape else []) + list(names)

    def run(xs: Tensors, outs: Tensors, attributes: dict[str, Any]) -> None:
        results = call(*xs, *(_plain(attributes[name]) for name in ordered))
        for out, result in zip(
            outs, results if isinstance(results, tuple) else (results,), strict=True
        ):
            out.copy_(result)

    vendor(op, f"torch {op}")(run)


@vendor("attention_grad", "torch attention_grad")
def _attention_grad(xs: Tensors, outs: Tensors, attributes: dict[str, Any]) -> None:
    call = torch.ops.keras_triton.attention_grad.default
    # The fourth result, the gradient by the bias, is empty: the dialect's op has none.
    for out, result in zip(
        outs, call(*xs, attributes["scale"], attributes["causal"])[:3], strict=True
    ):
        out.copy_(result)


@vendor("sort", "torch.sort", copied=False)
def _sort(xs: Tensors, outs: Tensors, attributes: dict[str, Any]) -> None:
    descending = attributes["descending"]
    torch.sort(xs[0], dim=-1, descending=descending, stable=True, out=tuple(outs))


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _register_custom() -> None:
    from . import torch_ops  # noqa: F401  (defines the ops)

    convolution = ("strides", "pads", "dilations", "groups")
    _custom("conv2d", False, *convolution)
    _custom("conv2d_input_grad", True, *convolution)
    _custom("conv2d_kernel_grad", True, *convolution)
    for pool in ("max_pool2d", "avg_pool2d"):
        _custom(pool, False, "window", "strides", "pads")
        _custom(f"{pool}_grad", True, "window", "strides", "pads")
    _custom("attention", False, "scale", "causal")


_register_custom()


def compile_op(function: ir.OpView) -> Compiled | None:
    """A kernel function of a single `keras` op, run by torch; None if it holds anything beside."""
    block = function.regions[0].blocks[0]
    op, *rest = (view.operation for view in block.operations)
    if len(rest) != 1 or not op.name.startswith("keras."):
        return None
    name, attributes = op.name.removeprefix("keras."), dialect.attributes_of(op)
    order = [list(block.arguments).index(operand) for operand in op.operands]
    returned = [list(op.results).index(value) for value in rest[0].operands]
    if name in CALLS:
        shown, call, copied = CALLS[name]
        types = [TensorType.of(result) for result in op.results]

        def run_call(reads: list[torch.Tensor], writes: list[torch.Tensor]) -> None:
            kept = dict(zip(returned, writes, strict=True))
            outs = [kept[i] if i in kept else _like(kind, reads) for i, kind in enumerate(types)]
            call([reads[i] for i in order], outs, attributes)

        def native() -> Entry:
            reads = [
                View.of(i, TensorType.of(argument)) for i, argument in enumerate(block.arguments)
            ]
            outs: list[View | None] = [None] * len(types)
            for entry, i in enumerate(returned, len(reads)):
                outs[i] = View.of(entry, types[i])
            return vendor_entry(name, [reads[i] for i in order], outs, attributes)

        return Compiled(TensorExecutor(run_call, native), shown, copied=copied)
    reference = dialect.OPS[name].reference

    def run(reads: list[torch.Tensor], writes: list[torch.Tensor]) -> None:
        results = reference([reads[i] for i in order], attributes)
        for out, index in zip(writes, returned, strict=True):
            out.copy_(results[index])

    reason = f"keras.{name} has no kernel here yet"
    return Compiled(TensorExecutor(run), f"torch (meaning of keras.{name})", reason, copied=True)


def compile_extern(extern: Extern, declaration: ir.OpView) -> Compiled:
    """A call of a torch op that the dialect does not express, as its declaration in a plan spells it."""
    operands = list(map(TensorType.of, declaration.type.inputs))
    outputs = output_count(declaration)

    def run(reads: list[torch.Tensor], writes: list[torch.Tensor]) -> None:
        for out, result in zip(writes, call_extern(extern, reads), strict=True):
            out.copy_(result)

    native = partial(extern_entry, extern, operands, outputs)
    shown = f"torch {extern.target}"
    return Compiled(TensorExecutor(run, native), shown, extern.reason, copied=True)


def _like(kind: TensorType, reads: list[torch.Tensor]) -> torch.Tensor:
    """Room for a result that nobody keeps."""
    return torch.empty(kind.shape, dtype=kind.torch_dtype, device=reads[0].device)
