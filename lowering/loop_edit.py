"""Changes to a loop's signature: its body's results, its declaration, its call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mlir import ir

from .loops import loop_of
from .mlir import callee


def named_twice(known: Mapping[str, ir.OpView]) -> set[str]:
    """The functions that several calls or loops name, so that none of those may change them."""
    loops = (loop for function in known.values() if (loop := loop_of(function)))
    uses = [name for loop in loops for name in loop.functions]
    for function in known.values():
        for block in function.regions[0].blocks:
            uses += map(callee, block.operations)
    return {name for name in uses if uses.count(name) > 1}


def terminator(block: ir.Block) -> ir.Operation:
    return list(block.operations)[-1].operation


def set_returned(function: ir.OpView, values: Sequence[ir.Value]) -> None:
    """Makes a function return these values of its."""
    block = function.regions[0].blocks[0]
    old = terminator(block)
    with ir.InsertionPoint(old):
        ir.Operation.create("func.return", operands=list(values), loc=old.location)
    old.erase()
    retype(function)


def retype(function: ir.OpView) -> None:
    """Declares what a function's block takes and returns."""
    block = function.regions[0].blocks[0]
    _declare(function, [*block.arguments], terminator(block).operands)


def call_again(
    call: ir.Operation,
    declaration: ir.OpView,
    operands: Sequence[ir.Value],
    results: Sequence[ir.Type],
) -> ir.Operation:
    """A call of the same function with another signature, before the one that it is to replace."""
    with ir.InsertionPoint(call):
        made = ir.Operation.create(
            "func.call",
            results=list(results),
            operands=list(operands),
            attributes={"callee": call.attributes["callee"]},
            loc=call.location,
        )
    _declare(declaration, operands, made.results)
    return made


def _declare(function: ir.OpView, inputs: Sequence[ir.Value], results: Sequence[ir.Value]) -> None:
    kind = ir.FunctionType.get([value.type for value in inputs], [value.type for value in results])
    function.operation.attributes["function_type"] = ir.TypeAttr.get(kind)
