"""Parts of a static axis that are as long as an open size, as linalg.

MLIR takes sizes for what they are written as, and an open one is written larger than any axis
(lowering/sizes.py): it would find such a part outside of its tensor. So elements are looked up.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mlir import ir

from ..indexing import window
from ..mlir import TensorType
from ..sizes import is_symbolic
from . import scalar
from .body import Body

if TYPE_CHECKING:
    from .rules import Lowering


def differs_openly(kind: TensorType, part: TensorType) -> bool:
    """Whether an axis is static in one type and open in the other."""
    pairs = zip(kind.shape, part.shape, strict=True)
    return any(is_symbolic(some) != is_symbolic(other) for some, other in pairs)


def open_slice(
    lowering: Lowering, op: ir.Operation, starts: Sequence[int], strides: Sequence[int]
) -> None:
    """Each element of a slice, looked up."""
    x, body = op.operands[0], Body()
    parts = enumerate(zip(strides, starts, strict=True))
    places = [body.index(window(axis, step, start)) for axis, (step, start) in parts]
    lowering.generic(op, body, body.lookup(x, places, TensorType.of(x).dtype))


def open_pad(lowering: Lowering, op: ir.Operation, low: Sequence[int], value: float | int) -> None:
    """Each element of the result: looked up where the operand lies, `value` around it."""
    x, body = op.operands[0], Body()
    kind, made, zero = TensorType.of(x), TensorType.of(op.results[0]), body.constant(0, "index")
    inside, places = body.constant(True, "i1"), []
    for axis, (extent, whole) in enumerate(zip(kind.shape, made.shape, strict=True)):
        place = body.index(window(axis, 1, -low[axis]))
        if extent != whole:
            # Read without a sign, a place in front of the operand is behind its end.
            limit = body.constant(extent, "index")
            within = scalar.compare(body, "lt", place, limit, unsigned=True)
            inside = scalar.binary(body, "", "andi", inside, within)
            place = scalar.select(body, within, place, zero)
        places.append(place)
    found = body.lookup(x, places, kind.dtype)
    lowering.generic(op, body, scalar.select(body, inside, found, body.constant(value, kind.dtype)))
