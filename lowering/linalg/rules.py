"""How each `keras` op is spelled in linalg: one rule an op or family, found by decorator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from mlir import ir

from ..dialect import attributes_of
from ..errors import DialectError
from ..indexing import Dims, window
from ..mlir import TensorType
from . import scalar
from .body import Body
from .open_sizes import differs_openly, open_pad, open_slice
from .write import Named, Writer, attribute_text, reshape

Rule = Callable[["Lowering", ir.Operation], None]
_RULES: dict[str, Rule] = {}


def lowers(*names: str) -> Callable[[Rule], Rule]:
    """Registers the decorated function as the rule of `names`; a second one is refused."""

    def register(rule: Rule) -> Rule:
        for name in names:
            if name in _RULES:
                raise DialectError(f"keras.{name} has two linalg rules")
            _RULES[name] = rule
        return rule

    return register


class Lowering:
    """Lowers the ops of one function in order; `writer.lines` is what came of them."""

    def __init__(self) -> None:
        self.writer = Writer()
        self._names: dict[ir.Value, str] = {}
        self.splats: dict[ir.Value, float | int] = {}

    def bind_argument(self, value: ir.Value) -> str:
        self._names[value] = f"%a{len(self._names)}"
        return self._names[value]

    def bind(self, value: ir.Value, name: str) -> None:
        self._names[value] = name

    def lower(self, op: ir.Operation) -> None:
        """Writes what `op` becomes."""
        name = op.name.removeprefix("keras.")
        if op.name.startswith("keras.") and name in _RULES:
            _RULES[name](self, op)
        elif op.name.startswith("keras.") and name in scalar.RULES:
            _pointwise(self, op)
        elif op.name == "func.return":
            operands = [self.named(value) for value in op.operands]
            self.writer.op("func.return", operands, [], "", str(op.location))
        else:
            self.keep(op)

    def keep(self, op: ir.Operation) -> None:
        """The op as it is, on the lowered operands."""
        operands = [self.named(value) for value in op.operands]
        types = [TensorType.of(result) for result in op.results]
        made = self.writer.op(op.name, operands, types, attribute_text(op), str(op.location))
        for result, name in zip(op.results, made, strict=True):
            self.bind(result, name)

    def named(self, value: ir.Value) -> Named:
        """The lowered value; a splat constant is written out on first use."""
        kind = TensorType.of(value)
        if value not in self._names:
            body = Body()
            made = self.writer.generic(
                body,
                body.constant(self.splats[value], kind.dtype),
                kind,
                kind.shape,
                _unnamed,
                op="full",
            )
            self.bind(value, made)
        return self._names[value], kind

    def read(self, body: Body, value: ir.Value, dims: Dims) -> int:
        """The element of `value` at `dims`, or the constant that it is everywhere."""
        kind = TensorType.of(value)
        if value in self.splats:
            return body.constant(self.splats[value], kind.dtype)
        return body.read(value, dims, kind.dtype)

    def generic(
        self,
        op: ir.Operation,
        body: Body,
        value: int,
        *,
        extents: tuple[int, ...] = (),
        combiner: str = "",
    ) -> None:
        """Writes the generic that computes `op`'s result (over `extents` if it folds)."""
        kind = TensorType.of(op.results[0])
        self.bind(op.results[0], self.loop(op, body, value, kind, extents or kind.shape, combiner))

    def loop(
        self,
        op: ir.Operation,
        body: Body,
        value: int,
        kind: TensorType,
        extents: tuple[int, ...],
        combiner: str = "",
    ) -> str:
        return self.writer.generic(
            body,
            value,
            kind,
            extents,
            lambda source: source if isinstance(source, tuple) else self.named(source),
            combiner=combiner,
            location=str(op.location),
            op=op.name.removeprefix("keras."),
        )

    def insert(self, op: ir.Operation, value: ir.Value, whole: Named, starts: Sequence[int]) -> str:
        """`whole` with `value` in it from `starts` on."""
        (name, kind), (around, made), result = self.named(value), whole, self.writer.fresh()
        self.writer.line(
            f"{result} = tensor.insert_slice {name} into {around}{list(starts)} "
            f"{list(kind.shape)} {[1] * kind.rank} : {kind} into {made} {op.location}"
        )
        return result


def _unnamed(source: Any) -> Named:
    raise DialectError("a constant reads nothing")


def broadcast_dims(shape: Sequence[int], result: Sequence[int]) -> Dims:
    """How NumPy's rule indexes an operand of `shape` from the dims of `result`."""
    skipped = len(result) - len(shape)
    return tuple(
        None if extent == 1 and result[skipped + i] != 1 else skipped + i
        for i, extent in enumerate(shape)
    )


def _pointwise(lowering: Lowering, op: ir.Operation) -> None:
    body, shape = Body(), TensorType.of(op.results[0]).shape
    operands = [
        lowering.read(body, x, broadcast_dims(TensorType.of(x).shape, shape)) for x in op.operands
    ]
    lowering.generic(op, body, scalar.emit(body, op.name.removeprefix("keras."), operands))


@lowers("cast")
def _cast(lowering: Lowering, op: ir.Operation) -> None:
    body, x = Body(), op.operands[0]
    kind = TensorType.of(op.results[0])
    if x in lowering.splats and kind.is_float == TensorType.of(x).is_float:
        lowering.splats[op.results[0]] = lowering.splats[x]
        return
    read = lowering.read(body, x, tuple(range(kind.rank)))
    lowering.generic(op, body, scalar.cast(body, read, kind.dtype))


@lowers("full")
def _full(lowering: Lowering, op: ir.Operation) -> None:
    lowering.splats[op.results[0]] = attributes_of(op)["value"]


@lowers("iota")
def _iota(lowering: Lowering, op: ir.Operation) -> None:
    body, kind = Body(), TensorType.of(op.results[0])
    lowering.generic(op, body, _index_as(body, attributes_of(op)["axis"], kind.dtype))


def _index_as(body: Body, axis: int, dtype: str) -> int:
    whole = body.add("arith.index_cast", (body.index(axis),), ("i64",))
    return scalar.cast(body, whole, dtype)


def _moved(lowering: Lowering, op: ir.Operation, dims: Dims) -> None:
    """The result is operand 0 read through `dims`."""
    if op.operands[0] in lowering.splats:
        lowering.splats[op.results[0]] = lowering.splats[op.operands[0]]
        return
    body = Body()
    lowering.generic(op, body, lowering.read(body, op.operands[0], dims))


@lowers("broadcast_to")
def _broadcast_to(lowering: Lowering, op: ir.Operation) -> None:
    _moved(
        lowering,
        op,
        broadcast_dims(TensorType.of(op.operands[0]).shape, TensorType.of(op.results[0]).shape),
    )


@lowers("broadcast_in_dim")
def _broadcast_in_dim(lowering: Lowering, op: ir.Operation) -> None:
    shape, result = TensorType.of(op.operands[0]).shape, TensorType.of(op.results[0]).shape
    placed = zip(shape, attributes_of(op)["dims"], strict=True)
    _moved(
        lowering, op, tuple(None if extent == 1 != result[dim] else dim for extent, dim in placed)
    )


@lowers("transpose")
def _transpose(lowering: Lowering, op: ir.Operation) -> None:
    permutation = attributes_of(op)["permutation"]
    _moved(lowering, op, tuple(permutation.index(axis) for axis in range(len(permutation))))


@lowers("reshape")
def _reshape(lowering: Lowering, op: ir.Operation) -> None:
    if op.operands[0] in lowering.splats:
        lowering.splats[op.results[0]] = lowering.splats[op.operands[0]]
        return
    shape = TensorType.of(op.results[0]).shape
    lowering.bind(
        op.results[0],
        reshape(lowering.writer, lowering.named(op.operands[0]), shape, str(op.location)),
    )


@lowers("barrier")
def _barrier(lowering: Lowering, op: ir.Operation) -> None:
    """Equal ops have been merged by now."""
    if op.operands[0] in lowering.splats:
        lowering.splats[op.results[0]] = lowering.splats[op.operands[0]]
    else:
        lowering.bind(op.results[0], lowering.named(op.operands[0])[0])


@lowers("slice")
def _slice(lowering: Lowering, op: ir.Operation) -> None:
    """A range that is one piece of memory is a view; any other is read where it lies."""
    made, attributes = TensorType.of(op.results[0]), attributes_of(op)
    starts, strides = attributes["starts"], attributes["strides"]
    kind = TensorType.of(op.operands[0])
    if differs_openly(kind, made):
        open_slice(lowering, op, starts, strides)
        return
    narrowed = [i for i, extent in enumerate(kind.shape) if made.shape[i] != extent]
    outer = made.shape[: narrowed[-1]] if narrowed else ()
    if set(outer) - {1} or set(strides) - {1} or op.operands[0] in lowering.splats:
        whole = [n == m for n, m in zip(kind.shape, made.shape, strict=True)]
        ranges = zip(range(kind.rank), strides, starts, whole, strict=True)
        dims = tuple(i if all_of_it else window(i, *cut) for i, *cut, all_of_it in ranges)
        _moved(lowering, op, dims)
        return
    name, _ = lowering.named(op.operands[0])
    view = lowering.writer.fresh()
    lowering.writer.line(
        f"{view} = tensor.extract_slice {name}{list(starts)} {list(made.shape)} {[1] * kind.rank} "
        f": {kind} to {made} {op.location}"
    )
    lowering.bind(op.results[0], view)


@lowers("reverse")
def _reverse(lowering: Lowering, op: ir.Operation) -> None:
    shape, axes = TensorType.of(op.results[0]).shape, attributes_of(op)["axes"]
    dims = [window(i, -1, n - 1) if i in axes else i for i, n in enumerate(shape)]
    _moved(lowering, op, tuple(dims))


@lowers("concat")
def _concat(lowering: Lowering, op: ir.Operation) -> None:
    made, start = TensorType.of(op.results[0]), 0
    whole = lowering.writer.empty(made)
    for operand in op.operands:
        starts = [0] * made.rank
        starts[attributes_of(op)["axis"]] = start
        whole = lowering.insert(op, operand, (whole, made), starts)
        start += TensorType.of(operand).shape[attributes_of(op)["axis"]]
    lowering.bind(op.results[0], whole)


@lowers("pad")
def _pad(lowering: Lowering, op: ir.Operation) -> None:
    """All of the result is filled, then the operand put into it."""
    made, attributes = TensorType.of(op.results[0]), attributes_of(op)
    if differs_openly(TensorType.of(op.operands[0]), made):
        open_pad(lowering, op, attributes["low"], attributes["value"])
        return
    body = Body()
    filled = body.constant(attributes["value"], made.dtype)
    whole = lowering.loop(op, body, filled, made, made.shape)
    inside = lowering.insert(op, op.operands[0], (whole, made), attributes["low"])
    lowering.bind(op.results[0], inside)


FOLDS = {
    "sum": ("arith.addf", "arith.addi"),
    "prod": ("arith.mulf", "arith.muli"),
    "max": ("arith.maximumf", "arith.maxsi"),
    "min": ("arith.minimumf", "arith.minsi"),
    "any": ("", "arith.ori"),
    "all": ("", "arith.andi"),
}
"""The op that a reduction folds with: of floats, of integers."""


def _reduced_domain(kind: TensorType, axes: Sequence[int]) -> tuple[tuple[int, ...], Dims]:
    """The extents of a reduction of `kind` (kept axes first), and how the operand is read there."""
    order = [i for i in range(kind.rank) if i not in axes] + sorted(axes)
    return tuple(kind.shape[i] for i in order), tuple(order.index(i) for i in range(kind.rank))


@lowers(*FOLDS)
def _reduce(lowering: Lowering, op: ir.Operation) -> None:
    """Half floats are accumulated in float32 and rounded once."""
    kind, made = TensorType.of(op.operands[0]), TensorType.of(op.results[0])
    extents, dims = _reduced_domain(kind, attributes_of(op)["axes"])
    body = Body()
    value = lowering.read(body, op.operands[0], dims)
    combiner = FOLDS[op.name.removeprefix("keras.")][0 if kind.is_float else 1]
    if kind.dtype not in ("f16", "bf16"):
        lowering.generic(
            op,
            body,
            _covering(lowering, op, body, value, extents),
            extents=extents,
            combiner=combiner,
        )
        return
    wide = made.with_dtype("f32")
    value = scalar.cast(body, value, "f32")
    total = lowering.loop(
        op, body, _covering(lowering, op, body, value, extents), wide, extents, combiner
    )
    rounded = Body()
    read = rounded.read((total, wide), tuple(range(wide.rank)), "f32")
    lowering.generic(op, rounded, scalar.cast(rounded, read, kind.dtype))


def _covering(
    lowering: Lowering, op: ir.Operation, body: Body, value: int, extents: tuple[int, ...]
) -> int:
    """`value`, read from a tensor over `extents` if it reads none that tells linalg how far dims
    go.
    """
    if body.reads(value):
        return value
    kind = TensorType(extents, body.types[value])
    return body.read(
        (lowering.loop(op, body, value, kind, extents), kind),
        tuple(range(len(extents))),
        kind.dtype,
    )


@lowers("argmax", "argmin")
def _arg_extremum(lowering: Lowering, op: ir.Operation) -> None:
    """The least index at which the extremum (or a NaN) stands."""
    x, made = op.operands[0], TensorType.of(op.results[0])
    kind = TensorType.of(x)
    extents, dims = _reduced_domain(kind, (attributes_of(op)["axis"],))
    fold = "max" if op.name == "keras.argmax" else "min"
    body = Body()
    value = lowering.read(body, x, dims)
    extremum = made.with_dtype(kind.dtype)
    combiner = FOLDS[fold][0 if kind.is_float else 1]
    value = _covering(lowering, op, body, value, extents)
    best = lowering.loop(op, body, value, extremum, extents, combiner)
    body = Body()
    value = _covering(lowering, op, body, lowering.read(body, x, dims), extents)
    found = scalar.compare(
        body, "eq", value, body.read((best, extremum), tuple(range(made.rank)), kind.dtype)
    )
    if kind.is_float:
        found = scalar.binary(
            body, "", "ori", found, scalar.compare(body, "unordered", value, value)
        )
    index = body.add("arith.index_cast", (body.index(made.rank),), ("i64",))
    place = scalar.select(body, found, index, body.constant((1 << 63) - 1, "i64"))
    lowering.generic(op, body, place, extents=extents, combiner="arith.minsi")
