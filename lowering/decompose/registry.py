"""Which ops can be spelled out, when, and how that replaces them in a module."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from mlir import ir

from .. import dialect
from ..build import Algebra, OpBuilder, Value, compute_dtype
from ..errors import DialectError
from ..mlir import TensorType, context, functions, parse, text

Attributes = dialect.Attributes
Condition = Callable[[list[TensorType], Attributes], bool]


@dataclass(frozen=True)
class Decomposition:
    """How an op is spelled out, and when it can be.

    Attributes:
        spell: from `Rows`, operands and attributes, the results in the compute dtype.
        when: whether it holds for these operand types and attributes.
        widen: whether it computes in the compute dtype, or in that of the operands.
    """

    spell: Callable[..., Sequence[Value]]
    when: Condition
    widen: bool


DECOMPOSITIONS: dict[str, Decomposition] = {}


def decomposes(
    name: str, when: Condition = lambda types, attributes: True, widen: bool = True
) -> Callable[[Callable[..., Sequence[Value]]], Callable]:
    """Registers the decomposition of `keras.<name>`. A second one for an op is refused."""

    def register(function: Callable[..., Sequence[Value]]) -> Callable[..., Sequence[Value]]:
        if name in DECOMPOSITIONS:
            raise DialectError(f"keras.{name} has two decompositions")
        DECOMPOSITIONS[name] = Decomposition(function, when, widen)
        return function

    return register


def decompose_module(
    module: ir.Module,
    names: Iterable[str],
    accept: Callable[[ir.Operation], bool] = lambda op: True,
) -> ir.Module:
    """A copy of the module in which no op of `names` is left that can be spelled out and that
    `accept` takes.

    Raises:
        DialectError: a name without a decomposition.
    """
    wanted = {f"keras.{name}" for name in names}
    with context(), ir.Location.unknown():
        copied = parse(text(module))
        for function in functions(copied).values():
            for op in dialect.walk(function.operation):
                if op.name in wanted and accept(op) and can_decompose(op):
                    decompose(op)
    return copied


def can_decompose(op: ir.Operation) -> bool:
    """Whether the op's decomposition holds for its operands and attributes.

    Raises:
        DialectError: the op has no decomposition.
    """
    types = [TensorType.of(operand) for operand in op.operands]
    return _find(op).when(types, dialect.attributes_of(op))


def _find(op: ir.Operation) -> Decomposition:
    name = op.name.removeprefix("keras.")
    if name not in DECOMPOSITIONS:
        raise DialectError(
            f"{op.name} has no decomposition; these have: {', '.join(sorted(DECOMPOSITIONS))}"
        )
    return DECOMPOSITIONS[name]


def decompose(op: ir.Operation) -> None:
    """Replaces the op, in its place, by ops that mean the same.

    Raises:
        DialectError: the op has no decomposition.
    """
    found = _find(op)
    with context(), op.location, ir.InsertionPoint(op):
        kind = TensorType.of(op.operands[0])
        rows = Rows(OpBuilder(op.location), kind)
        operands = map(rows.widen, op.operands) if found.widen else op.operands
        made = found.spell(rows, *operands, **dialect.attributes_of(op))
        for result, value in zip(op.results, made, strict=True):
            result.replace_all_uses_with(rows.builder.cast(value, TensorType.of(result).dtype))
    op.erase()


class Rows(Algebra):
    """Arithmetic on tensors of one shape in the compute dtype, with reductions of the last axis."""

    def __init__(self, builder: OpBuilder, kind: TensorType) -> None:
        super().__init__(builder, compute_dtype(kind.dtype) if kind.is_float else kind.dtype)
        self.kind, self.shape = kind, kind.shape

    def widen(self, x: Value) -> Value:
        """Floats in the compute dtype; anything else as it is."""
        return self.builder.cast(x, self.dtype) if TensorType.of(x).is_float else x

    def fold(self, name: str, x: Value) -> Value:
        """A value a row: the reduction `name` of the last axis."""
        return self.builder.emit(name, x, axes=(len(self.shape) - 1,))

    def spread(self, row: Value, axis: int | None = None) -> Value:
        """A value a row at every element of the row along `axis` (the last)."""
        axis = len(self.shape) - 1 if axis is None else axis
        dims = [i for i in range(len(self.shape)) if i != axis]
        return self.builder.emit("broadcast_in_dim", row, shape=self.shape, dims=dims)

    def mean(self, x: Value) -> Value:
        return self.div(self.fold("sum", x), self.shape[-1])

    def places(self, axis: int, dtype: str = "i64") -> Value:
        """Each element's index along `axis`."""
        return self.builder.emit("iota", shape=self.shape, axis=axis, dtype=dtype)
