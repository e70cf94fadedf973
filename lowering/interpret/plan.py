"""The plan stage: kernels that write into the buffers they are given, in the order of the plan, its
loops run iteration by iteration.

Buffers are views of the arguments and of one arena, so a plan that lets two live values share bytes
gives wrong numbers here as it would on a device.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from mlir import ir

from ..errors import DialectError
from ..extern import Extern, call_extern
from ..mlir import TensorType, functions, layer_of
from .body import constant_tensor
from .functions import call, check_inputs

Tensor = torch.Tensor
# How MLIR spells an offset that an operand gives.
DYNAMIC = -(1 << 63)
# What memory nobody wrote holds: as float32 or float64 it is a NaN.
UNSET_BYTE = 0xFF


def run_plan(module: ir.Module, inputs: Sequence[Tensor], exact: bool) -> list[Tensor]:
    """The results of a plan's `main`: donated arguments' new values and outputs, in result order.

    Raises:
        DialectError: inputs of other types, or an op that has no place in a plan.
    """
    kernels, plan = _submodule(module, "kernels"), _submodule(module, "plan")
    main = plan["main"]
    arguments = list(main.arguments)
    # A function of no arguments at all has no attributes of them.
    known = main.operation.attributes
    attributes: list[Mapping] = (
        [*known["arg_attrs"]] if "arg_attrs" in known else [{}] * len(arguments)
    )
    named = [i for i, item in enumerate(attributes) if "keras.name" in item]
    check_inputs([TensorType.of(arguments[i]) for i in named], inputs)
    values: dict[ir.Value, Tensor] = {
        argument: _unset(TensorType.of(argument)) for argument in arguments
    }
    for i, tensor in zip(named, inputs, strict=True):
        values[arguments[i]] = tensor.clone(memory_format=torch.contiguous_format)
    _Run(plan, kernels, exact, values).block(main.regions[0].blocks[0])
    outputs = [i for i in range(len(arguments) - 1) if i not in named]
    return _results(attributes, [values[item] for item in arguments], outputs)


class _Run:
    """One execution: the memory that each value of the plan names."""

    def __init__(
        self,
        plan: dict[str, ir.OpView],
        kernels: dict[str, ir.OpView],
        exact: bool,
        values: dict[ir.Value, Tensor],
    ) -> None:
        self.plan, self.kernels, self.exact, self.values = plan, kernels, exact, values

    def block(self, block: ir.Block) -> list[Tensor]:
        """Runs a block; what its terminator hands on."""
        operands: list[Tensor] = []
        for view in block.operations:
            op = view.operation
            operands = [self.values[value] for value in op.operands]
            if op.name == "func.call":
                _call(op, operands, self.plan, self.kernels, self.exact)
            elif op.name == "scf.for":
                self._for(op, operands)
            elif op.name == "scf.while":
                self._while(op)
            elif op.name not in ("func.return", "scf.yield", "scf.condition"):
                made = _evaluate(op, operands)
                if made is not None:
                    self.values[op.results[0]] = made
        return operands

    def _for(self, op: ir.Operation, operands: Sequence[Tensor]) -> None:
        (low, high, step), carried = map(int, operands[:3]), list(operands[3:])
        block = op.regions[0].blocks[0]
        index, *inside = block.arguments
        for i in range(low, high, step):
            self.values[index] = torch.tensor(i)
            self.values.update(zip(inside, carried, strict=True))
            carried = self.block(block)
        self.values.update(zip(op.results, carried, strict=True))

    def _while(self, op: ir.Operation) -> None:
        condition, body = (region.blocks[0] for region in op.regions)
        while self.block(condition)[0].item():
            self.block(body)


def _results(
    attributes: Sequence[Mapping], values: Sequence[Tensor], outputs: Sequence[int]
) -> list[Tensor]:
    """Donated arguments stand at the result they name; the outputs fill the other places."""
    donated = {
        ir.IntegerAttr(item["keras.donated"]).value: i
        for i, item in enumerate(attributes)
        if "keras.donated" in item
    }
    rest = iter(outputs)
    count = len(donated) + len(outputs)
    return [values[donated[k] if k in donated else next(rest)] for k in range(count)]


def _submodule(module: ir.Module, name: str) -> dict[str, ir.OpView]:
    for op in module.body.operations:
        named = op.operation.attributes
        if op.operation.name == "builtin.module" and ir.StringAttr(named["sym_name"]).value == name:
            return functions(op)
    raise DialectError(f"a plan holds a module @{name}, this one does not")


def _unset(kind: TensorType) -> Tensor:
    return (
        torch.full((kind.nbytes,), UNSET_BYTE, dtype=torch.uint8)
        .view(kind.torch_dtype)
        .reshape(kind.shape)
    )


def _call(
    op: ir.Operation,
    buffers: Sequence[Tensor],
    plan: dict[str, ir.OpView],
    kernels: dict[str, ir.OpView],
    exact: bool,
) -> None:
    """Runs a kernel (or an extern) on its inputs and stores its results into the last buffers."""
    name = ir.FlatSymbolRefAttr(op.attributes["callee"]).value
    count = ir.IntegerAttr(plan[name].operation.attributes["keras.outputs"]).value
    inputs, outputs = buffers[: len(buffers) - count], buffers[len(buffers) - count :]
    extern = Extern.of(plan[name])
    results = call(kernels, name, inputs, exact) if extern is None else call_extern(extern, inputs)
    for target, value in zip(outputs, results, strict=True):
        target.copy_(value)


def _evaluate(op: ir.Operation, operands: Sequence[Tensor]) -> Tensor | None:
    if op.name not in OPS:
        raise DialectError(f"{op.name} has no place in a plan (layer {layer_of(op) or '?'})")
    return OPS[op.name](op, operands)


def _view(op: ir.Operation, operands: Sequence[Tensor]) -> Tensor:
    arena, offset = operands[:2]
    kind = TensorType.of(op.results[0])
    start = int(offset)
    if start + kind.nbytes > arena.numel():
        raise DialectError(f"{kind} at byte {start} does not fit an arena of {arena.numel()} bytes")
    window = arena.view(torch.uint8)[start : start + kind.nbytes]
    return window.view(kind.torch_dtype).view(kind.shape)


def _reshaped(op: ir.Operation, operands: Sequence[Tensor]) -> Tensor:
    return operands[0].view(TensorType.of(op.results[0]).shape)


def _subview(op: ir.Operation, operands: Sequence[Tensor]) -> Tensor:
    base, *moving = operands
    offsets, sizes = (
        list(ir.DenseI64ArrayAttr(op.attributes[f"static_{name}"])) for name in ("offsets", "sizes")
    )
    known = iter(moving)
    places = [int(next(known)) if offset == DYNAMIC else offset for offset in offsets]
    window = tuple(slice(at, at + size) for at, size in zip(places, sizes, strict=True))
    return base[window].view(TensorType.of(op.results[0]).shape)


def _loaded(op: ir.Operation, operands: Sequence[Tensor]) -> Tensor:
    return operands[0].clone()


def _copy(op: ir.Operation, operands: Sequence[Tensor]) -> None:
    operands[1].copy_(operands[0])


OPS: dict[str, Callable[[ir.Operation, Sequence[Tensor]], Tensor | None]] = {
    "arith.constant": lambda op, operands: constant_tensor(op.attributes["value"]),
    "memref.view": _view,
    "memref.collapse_shape": _reshaped,
    "memref.expand_shape": _reshaped,
    "memref.cast": lambda op, operands: operands[0],
    "memref.subview": _subview,
    "memref.load": _loaded,
    "arith.addi": lambda op, operands: operands[0] + operands[1],
    "arith.subi": lambda op, operands: operands[0] - operands[1],
    "memref.copy": _copy,
}
