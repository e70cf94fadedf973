"""How reductions of a region fold: their names, their neutral elements, and the types they add up in."""

from __future__ import annotations

from ..mlir import BITS
from ..region import Stage
from .body import NARROW
from .source import Value, literal

ROW_NAMES = {
    "arith.addf": "sum", "arith.addi": "sum", "arith.mulf": "product", "arith.muli": "product",
    "arith.maximumf": "max", "arith.maxsi": "max", "arith.minimumf": "min", "arith.minsi": "min",
    "arith.andi": "and", "arith.ori": "or",
}  # fmt: skip
"""What a combiner does, as in kernels.reductions.reduce_<name>."""

FOLDS = {
    "sum": "{0} + {1}", "product": "{0} * {1}", "and": "{0} & {1}", "or": "{0} | {1}",
    "max": "tl.maximum({0}, {1}, propagate_nan=tl.PropagateNan.ALL)",
    "min": "tl.minimum({0}, {1}, propagate_nan=tl.PropagateNan.ALL)",
}  # fmt: skip


def neutral(stage: Stage) -> Value:
    """What a reduction starts from."""
    dtype = stage.type.dtype
    name = ROW_NAMES[stage.combiner]
    if name in ("max", "min"):
        least = name == "max"
        if stage.type.is_float:
            return literal(float("-inf") if least else float("inf"), dtype)
        edge = 2 ** (BITS[dtype] - 1)
        return literal(-edge if least else edge - 1, dtype)
    if dtype == "i1" and name == "and":
        return literal(True, dtype)
    return literal({"sum": 0, "product": 1, "and": -1, "or": 0}[name], dtype)


def accumulated(dtype: str) -> str:
    """The type that values of a type are folded in."""
    return "f32" if dtype in NARROW else dtype
