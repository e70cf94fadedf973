"""Lookup by index as linalg: a `tensor.extract` in the body, at places that the body makes safe."""

from __future__ import annotations

from mlir import ir

from ..dialect import attributes_of
from ..mlir import TensorType
from ..ops.index import OUTSIDE
from . import scalar
from .body import Body
from .rules import Lowering, lowers


@lowers("gather")
def _gather(lowering: Lowering, op: ir.Operation) -> None:
    """An index outside of its axis is taken for 0, so that no address leaves the tensor, and what is
    found there is not used.
    """
    x, indices = op.operands
    kind, axis, body = TensorType.of(x), attributes_of(op)["axis"], Body()
    count, rank = TensorType.of(indices).rank, TensorType.of(op.results[0]).rank
    index = lowering.read(body, indices, tuple(range(axis, axis + count)))
    if kind.shape[axis] >= 1 << 31:
        index = scalar.cast(body, index, "i64")
    dtype = body.types[index]
    # Read without a sign, a negative index is beyond every axis.
    extent = body.constant(kind.shape[axis], dtype)
    inside = scalar.compare(body, "lt", index, extent, unsigned=True)
    safe = scalar.select(body, inside, index, body.constant(0, dtype))
    place = body.add("arith.index_cast", (safe,), ("index",))
    before, after = range(axis), range(axis + count, rank)
    places = [*map(body.index, before), place, *map(body.index, after)]
    found = body.lookup(x, places, kind.dtype)
    outside = body.constant(OUTSIDE[kind.is_float], kind.dtype)
    lowering.generic(op, body, scalar.select(body, inside, found, outside))
