"""Lookups: elements of tensors at indices that the body of a `linalg.generic` computes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mlir import ir

from .errors import RegionError
from .mlir import layer_of

LOOKUP = "tensor.extract"


@dataclass(frozen=True)
class Lookup:
    """An element of an argument at indices that a body computes.

    Attributes:
        argument: which one.
        dims: for each of its axes the dim of the domain that is its index, None where another value is.
    """

    argument: int
    dims: tuple[int | None, ...]


def tables_of(block: ir.Block) -> list[ir.Value]:
    """The tensors that a generic's block looks elements up in."""
    ops = (op.operation for op in block.operations)
    return list(dict.fromkeys(op.operands[0] for op in ops if op.name == LOOKUP))


def lookups_of(block: ir.Block, arguments: Sequence[ir.Value]) -> dict[ir.Value, Lookup]:
    """Value of a block -> the lookup in one of `arguments` that it is.

    Raises:
        RegionError: a lookup in something else.
    """
    found = {}
    for op in (view.operation for view in block.operations):
        if op.name != LOOKUP:
            continue
        table, *places = op.operands
        if table not in arguments:
            where = layer_of(op) or layer_of(block.owner) or "?"
            raise RegionError(
                f"elements are looked up in {table.type}, no argument (layer {where})"
            )
        argument = list(arguments).index(table)
        found[op.results[0]] = Lookup(argument, tuple(map(_dim_of, places)))
    return found


def _dim_of(place: ir.Value) -> int | None:
    """The dim of the domain that a value of a body is the index along."""
    owner = place.owner
    if isinstance(owner, ir.Block) or owner.name != "linalg.index":
        return None
    return ir.IntegerAttr(owner.attributes["dim"]).value
