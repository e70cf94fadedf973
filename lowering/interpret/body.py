"""What the scalar ops inside a `linalg.generic` mean, on whole tensors at once.

Integers of width w are held in torch's type of that width and wrap modulo 2^w: the arithmetic runs
in int64 and is cut back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from mlir import ir

from ..errors import DialectError
from ..mlir import BITS, TensorType, layer_of
from .values import Number

Tensor = torch.Tensor
Tensors = Sequence[Tensor]
Meaning = Callable[[ir.Operation, Tensors, Number], Tensors]


def constant_tensor(attribute: ir.Attribute) -> Tensor:
    """The value of an `arith.constant`, in its declared dtype.

    Raises:
        DialectError: an attribute of a kind the compiler never writes.
    """
    if isinstance(attribute, ir.FloatAttr | ir.IntegerAttr | ir.BoolAttr):
        dtype = scalar_dtype(attribute.type) if not isinstance(attribute, ir.BoolAttr) else "i1"
        held = torch.int64 if dtype == "index" else TensorType((), dtype).torch_dtype
        return torch.tensor(attribute.value, dtype=held)
    if isinstance(attribute, ir.DenseElementsAttr):
        kind = TensorType.of(attribute.type)
        if attribute.is_splat:
            return constant_tensor(attribute.get_splat_value()).expand(kind.shape)
        return torch.from_numpy(np.array(attribute)).reshape(kind.shape).to(kind.torch_dtype)
    raise DialectError(f"{attribute} is no constant the interpreter reads")


def scalar_dtype(kind: ir.Type) -> str:
    """The name of a scalar type or of a tensor's element type ("f32", "i1", "index")."""
    return str(kind.element_type if isinstance(kind, ir.ShapedType) else kind)


def evaluate_scalar(op: ir.Operation, operands: Tensors, number: Number) -> list[Tensor]:
    """The results of one op of a body, each settled in its element type.

    Raises:
        DialectError: no such op in the table.
    """
    if op.name not in BODY:
        raise DialectError(f"{op.name} has no meaning in a body (layer {layer_of(op) or '?'})")
    results = BODY[op.name](op, operands, number)
    return [
        number.settle(value, scalar_dtype(result.type))
        for result, value in zip(op.results, results, strict=True)
    ]


def _plain(function: Callable[..., Tensor]) -> Meaning:
    return lambda op, xs, number: [function(*xs)]


def _integer(function: Callable[..., Tensor]) -> Meaning:
    """In int64; settling cuts the result to its width."""
    return lambda op, xs, number: [function(*(x.long() for x in xs))]


def _width(op: ir.Operation) -> int:
    dtype = scalar_dtype(op.operands[0].type)
    return 64 if dtype == "index" else BITS[dtype]


def _unsigned(x: Tensor, width: int) -> Tensor:
    """The number's bits as a non-negative int64, for widths below 64."""
    return x.long() & ((1 << width) - 1)


def _shift_right_unsigned(op: ir.Operation, xs: Tensors, number: Number) -> Tensors:
    x, count = xs[0].long(), xs[1].long()
    width = _width(op)
    if width < 64:
        return [_unsigned(x, width) >> count]
    # int64's shift copies the sign bit down; the copies are masked off.
    mask = torch.where(count == 0, -1, (1 << (64 - count).clamp(0, 63)) - 1)
    return [(x >> count) & mask]


def _multiply_extended(op: ir.Operation, xs: Tensors, number: Number) -> Tensors:
    """Low and high half of an unsigned product."""
    width = _width(op)
    if width > 32:
        raise DialectError(f"arith.mului_extended of {width} bits is not interpreted, up to 32 is")
    a, b = (_unsigned(x, width) for x in xs)
    # Split so that no partial product leaves int64.
    low, high = a * (b & 0xFFFF), a * (b >> 16)
    middle = (low >> 16) + high
    bits = ((middle << 16) | (low & 0xFFFF)) if width == 32 else low + (high << 16)
    return [bits, middle >> 16 if width == 32 else bits >> width]


_FLOAT_PREDICATES: tuple[Callable[[Tensor, Tensor], Tensor], ...] = (
    lambda a, b: torch.zeros_like(a, dtype=torch.bool),
    torch.eq,
    torch.gt,
    torch.ge,
    torch.lt,
    torch.le,
    lambda a, b: (a < b) | (a > b),
    lambda a, b: ~(a.isnan() | b.isnan()),
    lambda a, b: ~((a < b) | (a > b)),
    lambda a, b: ~(a <= b),
    lambda a, b: ~(a < b),
    lambda a, b: ~(a >= b),
    lambda a, b: ~(a > b),
    torch.ne,
    lambda a, b: a.isnan() | b.isnan(),
    lambda a, b: torch.ones_like(a, dtype=torch.bool),
)
_SIGNED_PREDICATES = (torch.eq, torch.ne, torch.lt, torch.le, torch.gt, torch.ge)


def _compare_floats(op: ir.Operation, xs: Tensors, number: Number) -> Tensors:
    predicate = ir.IntegerAttr(op.attributes["predicate"]).value
    return [_FLOAT_PREDICATES[predicate](*torch.broadcast_tensors(*xs))]


def _compare_integers(op: ir.Operation, xs: Tensors, number: Number) -> Tensors:
    predicate = ir.IntegerAttr(op.attributes["predicate"]).value
    if predicate < len(_SIGNED_PREDICATES):
        return [_SIGNED_PREDICATES[predicate](*map(_signed, xs))]
    width = _width(op)
    # Flipping the top bit turns unsigned order into signed order.
    flip = -(1 << 63) if width == 64 else 0
    unsigned = [x.long() ^ flip if width == 64 else _unsigned(x, width) for x in xs]
    return [_SIGNED_PREDICATES[predicate - 4](*unsigned)]


def _signed(x: Tensor) -> Tensor:
    """As two's complement reads it: a true bool is -1."""
    return -x.long() if x.dtype == torch.bool else x.long()


def _extend_unsigned(op: ir.Operation, xs: Tensors, number: Number) -> Tensors:
    return [_unsigned(xs[0], _width(op)) if _width(op) < 64 else xs[0]]


def _truncate(op: ir.Operation, xs: Tensors, number: Number) -> Tensors:
    to_bool = scalar_dtype(op.results[0].type) == "i1"
    return [(xs[0] & 1).bool() if to_bool else xs[0]]


def _from_float(op: ir.Operation, xs: Tensors, number: Number) -> Tensors:
    return [torch.trunc(xs[0]).to(torch.int64)]


def _to_float(x: Tensor, op: ir.Operation, number: Number) -> Tensors:
    # Rounded to the declared dtype first: it may not hold every integer.
    return [x.to(TensorType((), scalar_dtype(op.results[0].type)).torch_dtype)]


def _bitcast(op: ir.Operation, xs: Tensors, number: Number) -> Tensors:
    source, target = (
        TensorType((), scalar_dtype(value.type)).torch_dtype
        for value in (op.operands[0], op.results[0])
    )
    return [xs[0].to(source).contiguous().view(target)]


def _constant(op: ir.Operation, xs: Tensors, number: Number) -> Tensors:
    return [constant_tensor(op.attributes["value"])]


def _truncated_division(a: Tensor, b: Tensor) -> Tensor:
    return torch.div(a, b, rounding_mode="trunc")


BODY: dict[str, Meaning] = {
    "arith.constant": _constant,
    "arith.addf": _plain(torch.add),
    "arith.subf": _plain(torch.sub),
    "arith.mulf": _plain(torch.mul),
    "arith.divf": _plain(torch.div),
    "arith.negf": _plain(torch.neg),
    "arith.remf": _plain(torch.fmod),
    "arith.maximumf": _plain(torch.maximum),
    "arith.minimumf": _plain(torch.minimum),
    "arith.maxnumf": _plain(torch.fmax),
    "arith.minnumf": _plain(torch.fmin),
    "arith.cmpf": _compare_floats,
    "arith.cmpi": _compare_integers,
    "arith.select": _plain(torch.where),
    "arith.addi": _integer(torch.add),
    "arith.subi": _integer(torch.sub),
    "arith.muli": _integer(torch.mul),
    "arith.divsi": _integer(_truncated_division),
    "arith.floordivsi": _integer(torch.floor_divide),
    "arith.remsi": _integer(torch.fmod),
    "arith.andi": _integer(torch.bitwise_and),
    "arith.ori": _integer(torch.bitwise_or),
    "arith.xori": _integer(torch.bitwise_xor),
    "arith.shli": _integer(torch.bitwise_left_shift),
    "arith.shrsi": _integer(torch.bitwise_right_shift),
    "arith.shrui": _shift_right_unsigned,
    "arith.maxsi": _integer(torch.maximum),
    "arith.minsi": _integer(torch.minimum),
    "arith.mului_extended": _multiply_extended,
    "arith.extf": _plain(lambda x: x),
    "arith.truncf": _plain(lambda x: x),
    "arith.extsi": _plain(_signed),
    "arith.extui": _extend_unsigned,
    "arith.trunci": _truncate,
    "arith.index_cast": _plain(_signed),
    "arith.index_castui": _extend_unsigned,
    "arith.sitofp": lambda op, xs, number: _to_float(_signed(xs[0]), op, number),
    "arith.uitofp": lambda op, xs, number: _to_float(
        _extend_unsigned(op, xs, number)[0], op, number
    ),
    "arith.fptosi": _from_float,
    "arith.fptoui": _from_float,
    "arith.bitcast": _bitcast,
    "math.exp": _plain(torch.exp),
    "math.exp2": _plain(torch.exp2),
    "math.expm1": _plain(torch.expm1),
    "math.log": _plain(torch.log),
    "math.log2": _plain(torch.log2),
    "math.log1p": _plain(torch.log1p),
    "math.sqrt": _plain(torch.sqrt),
    "math.rsqrt": _plain(torch.rsqrt),
    "math.tanh": _plain(torch.tanh),
    "math.erf": _plain(torch.erf),
    "math.sin": _plain(torch.sin),
    "math.cos": _plain(torch.cos),
    "math.tan": _plain(torch.tan),
    "math.atan": _plain(torch.atan),
    "math.atan2": _plain(torch.atan2),
    "math.sinh": _plain(torch.sinh),
    "math.cosh": _plain(torch.cosh),
    "math.asin": _plain(torch.asin),
    "math.acos": _plain(torch.acos),
    "math.absf": _plain(torch.abs),
    "math.absi": _integer(torch.abs),
    "math.floor": _plain(torch.floor),
    "math.ceil": _plain(torch.ceil),
    "math.trunc": _plain(torch.trunc),
    "math.roundeven": _plain(torch.round),
    "math.powf": _plain(torch.pow),
    "math.fma": _plain(lambda a, b, c: a * b + c),
    "math.copysign": _plain(torch.copysign),
    "math.isnan": _plain(torch.isnan),
    "math.isinf": _plain(torch.isinf),
    "math.isfinite": _plain(torch.isfinite),
}
