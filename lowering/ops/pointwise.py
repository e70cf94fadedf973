"""Elementwise ops: one table, NumPy broadcasting, one element type for all operands."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from ..dialect import Attributes, Reference, define
from ..errors import DialectError
from ..mlir import TORCH_DTYPES, TensorType
from .common import broadcast, require_dtype, require_float, same_dtype

FLOAT_UNARY: dict[str, Callable] = {
    "exp": torch.exp,
    "exp2": torch.exp2,
    "expm1": torch.expm1,
    "log": torch.log,
    "log1p": torch.log1p,
    "sqrt": torch.sqrt,
    "rsqrt": torch.rsqrt,
    "reciprocal": torch.reciprocal,
    "sin": torch.sin,
    "cos": torch.cos,
    "tan": torch.tan,
    "asin": torch.asin,
    "acos": torch.acos,
    "atan": torch.atan,
    "sinh": torch.sinh,
    "cosh": torch.cosh,
    "tanh": torch.tanh,
    "erf": torch.erf,
    "erfinv": torch.erfinv,
    "sigmoid": torch.sigmoid,
    "floor": torch.floor,
    "ceil": torch.ceil,
    "round": torch.round,
}
ANY_UNARY: dict[str, Callable] = {
    "neg": torch.neg,
    "abs": torch.abs,
    "sign": torch.sign,
    "relu": torch.relu,
}
FLOAT_TEST: dict[str, Callable] = {"isnan": torch.isnan, "isinf": torch.isinf}
BOOL_UNARY: dict[str, Callable] = {"logical_not": torch.logical_not}
INT_UNARY: dict[str, Callable] = {"bitwise_not": torch.bitwise_not}
BINARY: dict[str, Callable] = {
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "remainder": torch.remainder,
}
FLOAT_BINARY: dict[str, Callable] = {
    "div": torch.div,
    "pow": torch.pow,
    "atan2": torch.atan2,
    "fmod": torch.fmod,
}
INT_BINARY: dict[str, Callable] = {
    "floor_divide": lambda a, b: torch.div(a, b, rounding_mode="floor"),
    "bitwise_and": torch.bitwise_and,
    "bitwise_or": torch.bitwise_or,
    "bitwise_xor": torch.bitwise_xor,
    "shift_left": torch.bitwise_left_shift,
    "shift_right": torch.bitwise_right_shift,
}
COMPARE: dict[str, Callable] = {
    "eq": torch.eq,
    "ne": torch.ne,
    "lt": torch.lt,
    "le": torch.le,
    "gt": torch.gt,
    "ge": torch.ge,
}
BOOL_BINARY: dict[str, Callable] = {
    "logical_and": torch.logical_and,
    "logical_or": torch.logical_or,
    "logical_xor": torch.logical_xor,
}


def _infer(kind: str, to_bool: bool) -> Callable:
    def infer(types: Sequence[TensorType], attributes: Attributes) -> list[TensorType]:
        dtype = same_dtype(types)
        if kind == "float":
            require_float(types[0], "x")
        elif kind == "int" and types[0].is_float:
            raise DialectError(f"operands must be integers or bools, not {dtype}")
        elif kind == "bool" and dtype != "i1":
            raise DialectError(f"operands must be bools (i1), not {dtype}")
        elif kind == "number" and dtype == "i1":
            raise DialectError("operands must be numbers, not bools (i1)")
        return [TensorType(broadcast(types), "i1" if to_bool else dtype)]

    return infer


def _reference(function: Callable) -> Reference:
    return lambda xs, attributes: [function(*xs)]


def _define_table(
    table: dict[str, Callable], operands: str, kind: str, to_bool: bool = False
) -> None:
    for name, meaning in table.items():
        define(name, operands, _infer(kind, to_bool))(_reference(meaning))


_define_table(FLOAT_UNARY, "x", "float")
_define_table(ANY_UNARY, "x", "number")
_define_table(FLOAT_TEST, "x", "float", to_bool=True)
_define_table(BOOL_UNARY, "x", "bool")
_define_table(INT_UNARY, "x", "int")
_define_table(BINARY, "a b", "number")
_define_table(FLOAT_BINARY, "a b", "float")
_define_table(INT_BINARY, "a b", "int")
_define_table(COMPARE, "a b", "any", to_bool=True)
_define_table(BOOL_BINARY, "a b", "bool")


def _infer_select(types: Sequence[TensorType], attributes: Attributes) -> list[TensorType]:
    if types[0].dtype != "i1":
        raise DialectError(f"condition must be bool (i1), not {types[0].dtype}")
    return [TensorType(broadcast(types), same_dtype(types[1:]))]


@define("select", "condition a b", _infer_select)
def _select(xs: Sequence[torch.Tensor], attributes: Attributes) -> list[torch.Tensor]:
    condition, a, b = xs
    return [torch.where(condition, a, b)]


def _infer_cast(types: Sequence[TensorType], attributes: Attributes) -> list[TensorType]:
    return [types[0].with_dtype(require_dtype(attributes))]


@define("cast", "x", _infer_cast, attributes="dtype")
def _cast(xs: Sequence[torch.Tensor], attributes: Attributes) -> list[torch.Tensor]:
    """float -> int truncates toward zero; number -> bool is `!= 0`, as in torch."""
    dtype = TORCH_DTYPES[attributes["dtype"]]
    # The float64 evaluation of a module keeps float64 through casts between floats.
    if xs[0].dtype == torch.float64 and dtype.is_floating_point:
        return [xs[0]]
    return [xs[0].to(dtype)]
