"""Several kernel functions as one that does all that they do, one after the other."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from mlir import ir
from mlir.dialects import func

from ..mlir import context


@dataclass(frozen=True)
class Made:
    """The result of an earlier part."""

    part: int
    result: int


@dataclass(frozen=True)
class Part:
    """A kernel function, and what it is given: for each argument an earlier part's result, or the name
    of a parameter of the whole. Arguments of one name are one.
    """

    function: ir.OpView
    inputs: Sequence[Made | Hashable]


@dataclass(frozen=True)
class Joined:
    """A new private function at an insertion point; `parameters` are the names of its arguments, in
    order.
    """

    function: func.FuncOp
    parameters: tuple[Hashable, ...]


def join(
    name: str,
    parts: Sequence[Part],
    returned: Sequence[Made],
    at: ir.InsertionPoint,
) -> Joined:
    """The function of all parts that returns these results of theirs; it has no kernel attributes yet."""
    types: dict[Hashable, ir.Type] = {}
    for part in parts:
        for given, argument in zip(part.inputs, _block(part.function).arguments, strict=True):
            if not isinstance(given, Made):
                types.setdefault(given, argument.type)
    ends = [list(_operations(part.function)[-1].operands) for part in parts]
    results = [ends[value.part][value.result].type for value in returned]
    with context(), ir.Location.unknown():
        whole = func.FuncOp(name, (list(types.values()), results), visibility="private", ip=at)
        block = whole.add_entry_block()
        parameters = dict(zip(types, block.arguments, strict=True))
        made: list[list[ir.Value]] = []
        for part in parts:
            inputs = [
                made[given.part][given.result] if isinstance(given, Made) else parameters[given]
                for given in part.inputs
            ]
            made.append(_copied(part.function, inputs, ir.InsertionPoint(block)))
        ir.Operation.create(
            "func.return",
            operands=[made[value.part][value.result] for value in returned],
            ip=ir.InsertionPoint(block),
        )
    return Joined(whole, tuple(types))


def _copied(
    function: ir.OpView, inputs: Sequence[ir.Value], at: ir.InsertionPoint
) -> list[ir.Value]:
    """Copies a kernel's ops; returns what it would return."""
    *ops, end = _operations(function)
    values = dict(zip(_block(function).arguments, inputs, strict=True))
    for op in ops:
        copy = op.clone(at)
        for i, operand in enumerate(op.operands):
            copy.operands[i] = values[operand]
        values.update(zip(op.results, copy.operation.results, strict=True))
    return [values[value] for value in end.operands]


def _block(function: ir.OpView) -> ir.Block:
    return function.regions[0].blocks[0]


def _operations(function: ir.OpView) -> list[ir.Operation]:
    return [op.operation for op in _block(function).operations]


def attributes_of_kernels(kernels: Sequence[ir.OpView]) -> dict[str, ir.Attribute]:
    """The layers and reasons of several kernels as attributes of one, without those it has none of."""
    with context():
        found = {}
        for attribute in ("keras.layers", "keras.reason"):
            items = dict.fromkeys(
                item
                for kernel in kernels
                if attribute in kernel.operation.attributes
                for item in ir.ArrayAttr(kernel.operation.attributes[attribute])
            )
            if items:
                found[attribute] = ir.ArrayAttr.get(list(items))
        return found
