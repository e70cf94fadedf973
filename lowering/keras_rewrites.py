"""Simplifications of single `keras` ops, each exact in IEEE arithmetic: NaN, infinities and the
sign of zero come out as they would have.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from mlir import ir

from . import dialect
from .build import OpBuilder, Value, compute_dtype
from .errors import DialectError
from .mlir import TensorType
from .ops import pointwise
from .ops.common import broadcast
from .ops.index import start_of

Rewrite = Callable[[ir.Operation, OpBuilder], Value | None]
REWRITES: dict[str, list[Rewrite]] = {}


def rewrites(*names: str) -> Callable[[Rewrite], Rewrite]:
    """Registers a rewrite of `keras.<name>`; it returns a value to take instead, or None."""

    def register(function: Rewrite) -> Rewrite:
        for name in names:
            known = REWRITES.setdefault(name, [])
            if function in known:
                raise DialectError(f"a rewrite of keras.{name} is registered twice")
            known.append(function)
        return function

    return register


def simplify(op: ir.Operation, builder: OpBuilder) -> list[Value] | None:
    """Simpler values that equal the op's results, or None; new ops come from `builder`."""
    name, kinds = op.name.removeprefix("keras."), [_kind(result) for result in op.results]
    if name != "full" and (_makes_nothing(kinds) or _adds_nothing(name, op)):
        return [builder.full(0, kind.shape, kind.dtype) for kind in kinds]
    for rewrite in REWRITES.get(name, ()):
        value = rewrite(op, builder)
        if value is not None:
            return [value]
    return None


def _makes_nothing(kinds: Sequence[TensorType]) -> bool:
    return not any(kind.size for kind in kinds)


# Sums over the elements of the first operand, a product of it or itself: without any they are zero.
SUMS = frozenset(
    [
        "sum",
        "matmul",
        "batch_matmul",
        "conv2d",
        "conv2d_input_grad",
        "conv2d_kernel_grad",
        "layer_norm_grad",
        "scatter",
    ]
)


def _adds_nothing(name: str, op: ir.Operation) -> bool:
    folds = _attributes(op)["fold"] if name == "scatter" else "sum"
    return name in SUMS and folds == "sum" and not _kind(op.operands[0]).size


def source(value: Value, name: str) -> ir.Operation | None:
    """The `keras.<name>` that makes the value, or None if something else does."""
    owner = value.owner
    if isinstance(owner, ir.Block) or owner.name != f"keras.{name}":
        return None
    return owner.operation


def splat(value: Value) -> float | int | None:
    """The number at every element of the value, rounded to its dtype, if that is known."""
    full = source(value, "full")
    if full is None:
        return None
    return torch.tensor(_attributes(full)["value"], dtype=_kind(value).torch_dtype).item()


def _attributes(op: ir.Operation) -> dict:
    return dialect.attributes_of(op)


def _kind(value: Value) -> TensorType:
    return TensorType.of(value)


@rewrites("cast", "reshape", "broadcast_to", "broadcast_in_dim", "transpose", "slice", "pad")
def _identity(op: ir.Operation, builder: OpBuilder) -> Value | None:
    """An op that moves nothing. A square transpose keeps the type, so its permutation decides."""
    x = op.operands[0]
    if _kind(x) != _kind(op.results[0]):
        return None
    if op.name == "keras.transpose":
        permutation = _attributes(op)["permutation"]
        # Axes of extent 1 may go anywhere.
        wide = [axis for axis in permutation if _kind(x).shape[axis] != 1]
        return x if wide == sorted(wide) else None
    return x


@rewrites("cast")
def _cast_of_cast(op: ir.Operation, builder: OpBuilder) -> Value | None:
    """Through a type that holds every value of the first, both casts are one."""
    inner = source(op.operands[0], "cast")
    if inner is None:
        return None
    x = inner.operands[0]
    first, middle = (_kind(value).torch_dtype for value in (x, op.operands[0]))
    if torch.promote_types(first, middle) != middle or not _holds(middle, first):
        return None
    return builder.cast(x, _attributes(op)["dtype"])


def _holds(wide: torch.dtype, narrow: torch.dtype) -> bool:
    """Whether each value of `narrow` is one of `wide`."""
    if narrow == torch.bool:
        return True
    if wide.is_floating_point and not narrow.is_floating_point:
        return torch.iinfo(narrow).bits <= -round(math.log2(torch.finfo(wide).eps)) + 1
    return wide.is_floating_point == narrow.is_floating_point


@rewrites("reshape")
def _reshape_of_reshape(op: ir.Operation, builder: OpBuilder) -> Value | None:
    inner = source(op.operands[0], "reshape")
    return inner and builder.reshape(inner.operands[0], _attributes(op)["shape"])


@rewrites("cast")
def _cast_of_reshape(op: ir.Operation, builder: OpBuilder) -> Value | None:
    """Casts first: what is made and cast can be one kernel, with no reshape in between."""
    inner = source(op.operands[0], "reshape")
    if inner is None or isinstance(inner.operands[0].owner, ir.Block):
        return None
    made = builder.cast(inner.operands[0], _attributes(op)["dtype"])
    return builder.reshape(made, _kind(op.results[0]).shape)


@rewrites("transpose")
def _transpose_of_transpose(op: ir.Operation, builder: OpBuilder) -> Value | None:
    inner = source(op.operands[0], "transpose")
    if inner is None:
        return None
    first = _attributes(inner)["permutation"]
    both = [first[axis] for axis in _attributes(op)["permutation"]]
    return builder.transpose(inner.operands[0], both)


@rewrites("transpose")
def _transpose_of_units(op: ir.Operation, builder: OpBuilder) -> Value | None:
    """Only axes of extent 1 move: the elements stay in order, so it is a reshape."""
    x = op.operands[0]
    wide = [axis for axis in _attributes(op)["permutation"] if _kind(x).shape[axis] != 1]
    if wide != sorted(wide):
        return None
    return builder.reshape(x, _kind(op.results[0]).shape)


@rewrites("broadcast_to")
def _broadcast_in_dim(op: ir.Operation, builder: OpBuilder) -> Value | None:
    """One op for broadcasting; a reshape before it that only adds unit axes goes into `dims`."""
    x, shape = op.operands[0], _kind(op.results[0]).shape
    offset = len(shape) - _kind(x).rank
    return builder.emit(
        "broadcast_in_dim", x, shape=shape, dims=range(offset, offset + _kind(x).rank)
    )


@rewrites("broadcast_in_dim")
def _broadcast_of_unit_axes(op: ir.Operation, builder: OpBuilder) -> Value | None:
    x, kind = _unit_reshape(op.operands[0]), _kind(op.operands[0])
    if x is None or 1 not in kind.shape:
        return None
    wide = [dim for dim, n in zip(_attributes(op)["dims"], kind.shape, strict=True) if n != 1]
    narrow = builder.reshape(x, _without_units(kind.shape))
    return builder.emit("broadcast_in_dim", narrow, shape=_kind(op.results[0]).shape, dims=wide)


@rewrites("broadcast_in_dim")
def _broadcast_of_broadcast(op: ir.Operation, builder: OpBuilder) -> Value | None:
    inner = source(op.operands[0], "broadcast_in_dim")
    if inner is None:
        return None
    dims = [_attributes(op)["dims"][axis] for axis in _attributes(inner)["dims"]]
    shape = _kind(op.results[0]).shape
    return builder.emit("broadcast_in_dim", inner.operands[0], shape=shape, dims=dims)


@rewrites(
    "reshape", "broadcast_to", "broadcast_in_dim", "transpose", "slice", "reverse", "cast", "concat"
)
def _moved_splat(op: ir.Operation, builder: OpBuilder) -> Value | None:
    numbers = {splat(value) for value in op.operands}
    number = numbers.pop()
    if numbers or number is None or number != number:
        return None
    kind = _kind(op.results[0])
    held = torch.tensor(number, dtype=_kind(op.operands[0]).torch_dtype).to(kind.torch_dtype)
    return builder.full(held.item(), kind.shape, kind.dtype)


@rewrites("batch_matmul")
def _batch_of_one(op: ir.Operation, builder: OpBuilder) -> Value | None:
    """The product of one pair of matrices is a matmul, which takes a bias and has more templates."""
    kind = _kind(op.results[0])
    if kind.shape[0] != 1:
        return None
    a, b = (builder.reshape(x, _kind(x).shape[1:]) for x in op.operands)
    return builder.reshape(builder.emit("matmul", a, b, **_attributes(op)), kind.shape)


@rewrites("prod", "any", "all")
def _fold_of_nothing(op: ir.Operation, builder: OpBuilder) -> Value | None:
    kind = _kind(op.results[0])
    if _kind(op.operands[0]).size:
        return None
    return builder.full(int(op.name != "keras.any"), kind.shape, kind.dtype)


@rewrites("scatter")
def _scatter_of_nothing(op: ir.Operation, builder: OpBuilder) -> Value | None:
    kind, attributes = _kind(op.results[0]), _attributes(op)
    if _kind(op.operands[0]).size:
        return None
    return builder.full(start_of(attributes["fold"], kind.torch_dtype), kind.shape, kind.dtype)


@rewrites("scatter", "cumulate")
def _folded_wide(op: ir.Operation, builder: OpBuilder) -> Value | None:
    """Half floats are folded in float32 and rounded once."""
    x, *rest = op.operands
    kind, name = _kind(x), op.name.removeprefix("keras.")
    wide = compute_dtype(kind.dtype)
    if not kind.is_float or kind.dtype == wide:
        return None
    made = builder.emit(name, builder.cast(x, wide), *rest, **_attributes(op))
    return builder.cast(made, kind.dtype)


@rewrites("cumulate")
def _cumulated_one(op: ir.Operation, builder: OpBuilder) -> Value | None:
    (x,) = op.operands
    return x if _kind(x).shape[_attributes(op)["axis"]] in (0, 1) else None


@rewrites("concat")
def _concat_of_nothing(op: ir.Operation, builder: OpBuilder) -> Value | None:
    left = [x for x in op.operands if _kind(x).size]
    return left[0] if len(left) == 1 else None


@rewrites("pad")
def _pad_of_nothing(op: ir.Operation, builder: OpBuilder) -> Value | None:
    kind = _kind(op.results[0])
    if _kind(op.operands[0]).size:
        return None
    return builder.full(_attributes(op)["value"], kind.shape, kind.dtype)


@rewrites("select")
def _select(op: ir.Operation, builder: OpBuilder) -> Value | None:
    condition, x, y = op.operands
    known = splat(condition)
    if known is None and x != y:
        return None
    return builder.broadcast(y if known is False else x, _kind(op.results[0]).shape)


# (op, position of the number, the number): what leaves every value as it is. x + 0 is absent, since
# it turns -0.0 into 0.0; x + -0.0 does not.
NEUTRAL = {
    ("mul", 0): 1.0,
    ("mul", 1): 1.0,
    ("div", 1): 1.0,
    ("pow", 1): 1.0,
    ("sub", 1): 0.0,
    ("add", 0): -0.0,
    ("add", 1): -0.0,
}


@rewrites("mul", "div", "pow", "sub", "add")
def _neutral(op: ir.Operation, builder: OpBuilder) -> Value | None:
    name = op.name.removeprefix("keras.")
    for position in (0, 1):
        number = splat(op.operands[position])
        neutral = NEUTRAL.get((name, position))
        other = op.operands[1 - position]
        if number is None or neutral is None or number != neutral:
            continue
        signed = not _kind(other).is_float or math.copysign(1, number) == math.copysign(1, neutral)
        if signed and _kind(other) == _kind(op.results[0]):
            return other
    return None


@rewrites("logical_and", "logical_or")
def _logical(op: ir.Operation, builder: OpBuilder) -> Value | None:
    neutral = op.name == "keras.logical_and"
    for number, other in zip(map(splat, op.operands), reversed(list(op.operands)), strict=True):
        if number is neutral and _kind(other) == _kind(op.results[0]):
            return other
    return None


def _pointwise_names() -> list[str]:
    tables = (
        pointwise.FLOAT_UNARY,
        pointwise.ANY_UNARY,
        pointwise.FLOAT_TEST,
        pointwise.BOOL_UNARY,
        pointwise.INT_UNARY,
        pointwise.BINARY,
        pointwise.FLOAT_BINARY,
        pointwise.INT_BINARY,
        pointwise.COMPARE,
        pointwise.BOOL_BINARY,
    )
    return [name for table in tables for name in table]


POINTWISE = _pointwise_names()


@rewrites(*POINTWISE)
def _folded(op: ir.Operation, builder: OpBuilder) -> Value | None:
    """Arithmetic of known numbers, in the declared dtype."""
    numbers = [splat(value) for value in op.operands]
    if None in numbers:
        return None
    operands = [
        torch.tensor(number, dtype=_kind(value).torch_dtype)
        for number, value in zip(numbers, op.operands, strict=True)
    ]
    if op.name == "keras.floor_divide" and not numbers[1]:
        return None
    kind = _kind(op.results[0])
    (made,) = dialect.evaluate(op, operands)
    return builder.full(made.item(), kind.shape, kind.dtype)


@rewrites(*POINTWISE, "select")
def _scalar_splat(op: ir.Operation, builder: OpBuilder) -> Value | None:
    """A known number needs no axes where the other operands have them all."""
    wide: dict[Value, float] = {}
    for x in op.operands:
        number = splat(x) if _kind(x).rank else None
        if number is not None:
            wide[x] = number
    rest = [_kind(x) for x in op.operands if x not in wide]
    if not wide or not rest or broadcast(rest) != _kind(op.results[0]).shape:
        return None
    operands = [builder.scalar(wide[x], _kind(x).dtype) if x in wide else x for x in op.operands]
    return builder.emit(op.name.removeprefix("keras."), *operands, **_attributes(op))


def _without_units(shape: Sequence[int]) -> list[int]:
    return [extent for extent in shape if extent != 1]


def _unit_reshape(value: Value) -> Value | None:
    """What the value is a reshape of, if only axes of extent 1 come or go."""
    inner = source(value, "reshape")
    if inner is None:
        return None
    x = inner.operands[0]
    return x if _without_units(_kind(x).shape) == _without_units(_kind(value).shape) else None


@rewrites(*POINTWISE, "select", "cast")
def _sunk_reshape(op: ir.Operation, builder: OpBuilder) -> Value | None:
    """Computes first and adds unit axes after: a value a row stays one until it is spread."""
    result = _kind(op.results[0])
    sources = [None if _kind(x).rank == 0 else _unit_reshape(x) for x in op.operands]
    shapes = {_kind(x).shape for x in sources if x is not None}
    if len(shapes) != 1 or len(next(iter(shapes))) >= result.rank:
        return None
    for x, inner in zip(op.operands, sources, strict=True):
        if _kind(x).rank and (inner is None or _kind(x).shape != result.shape):
            return None
    operands = [
        x if inner is None else inner for x, inner in zip(op.operands, sources, strict=True)
    ]
    name = op.name.removeprefix("keras.")
    return builder.reshape(builder.emit(name, *operands, **_attributes(op)), result.shape)


@rewrites(*POINTWISE, "select")
def _spread_operand(op: ir.Operation, builder: OpBuilder) -> Value | None:
    """An operand whose unit axes broadcast says so itself, by broadcast_in_dim of what it holds."""
    result = _kind(op.results[0])
    operands = [_spread(x, result, builder) for x in op.operands]
    if operands == list(op.operands):
        return None
    return builder.emit(op.name.removeprefix("keras."), *operands, **_attributes(op))


def _spread(x: Value, result: TensorType, builder: OpBuilder) -> Value:
    inner, kind = _unit_reshape(x), _kind(x)
    if inner is None or 1 not in kind.shape or kind.size == result.size:
        return x
    offset = result.rank - kind.rank
    wide = [offset + axis for axis, extent in enumerate(kind.shape) if extent != 1]
    narrow = builder.reshape(inner, _without_units(kind.shape))
    return builder.emit("broadcast_in_dim", narrow, shape=result.shape, dims=wide)
