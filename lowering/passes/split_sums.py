"""split-sums: a sum of products with a factor that not all folded axes change is taken in two steps.

Behind a pooled image the gradient g[n, c] is the same at all positions, so that what a batch normalization
before it needs, the sum over n and p of g[n, c] x[n, p, c], is the sum over n of g[n, c] times the sum over
p of x[n, p, c]. If x is there before g can be computed, whatever makes x sums it, and x is not read again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from mlir import ir

from .. import dialect
from ..build import OpBuilder, Value
from ..keras_rewrites import POINTWISE, splat
from ..loops import code
from ..mlir import TensorType, context, copied
from .base import Pass

ELEMENTWISE = frozenset(f"keras.{name}" for name in (*POINTWISE, "select", "cast"))
SPREAD = "keras.broadcast_in_dim"
WIDE = ("f32", "f64")
MOST_FACTORS = 8


@dataclass(frozen=True)
class SplitSums(Pass):
    """Takes sums in float32 and wider, so that a step between rounds no more than the sum itself."""

    name: ClassVar[str] = "split-sums"
    takes: ClassVar[str] = "keras"
    gives: ClassVar[str] = "keras"

    def run(self, module: ir.Module) -> ir.Module:
        self.check_stage(module)
        with context(), ir.Location.unknown():
            rewritten = copied(module)
            changed = False
            for function in code(rewritten).values():
                found = _Found()
                for view in list(function.regions[0].blocks[0].operations):
                    found.add(view.operation)
                    if view.operation.name == "keras.sum":
                        changed |= _Split(view.operation, found).run()
        return rewritten if changed else module


@dataclass
class _Product:
    """A value as the product of others, where conditions hold; 0 elsewhere.

    Attributes:
        factors: the values, of the product's dtype or narrower.
        conditions: each with whether it must hold, or must not.
        negative: the sign.
    """

    factors: list[Value] = field(default_factory=list)
    conditions: list[tuple[Value, bool]] = field(default_factory=list)
    negative: bool = False

    @property
    def values(self) -> list[Value]:
        return [*self.factors, *(condition for condition, _ in self.conditions)]


def _factor(value: Value, found: _Product, exact: bool = False) -> None:
    """Adds what a value is a product of; `exact` leaves products whole that round to fewer bits."""
    if isinstance(value.owner, ir.Block):
        found.factors.append(value)
        return
    op, name = value.owner, value.owner.name
    exact = exact or TensorType.of(value).dtype not in WIDE
    if name == "keras.mul" and not exact and len(found.factors) < MOST_FACTORS:
        for operand in op.operands:
            _factor(operand, found, exact)
    elif name == "keras.neg":
        found.negative = not found.negative
        _factor(op.operands[0], found, exact)
    elif name == "keras.cast" and _widens(op):
        _factor(op.operands[0], found, exact)
    elif name == "keras.select" and 0 in (splat(x) for x in op.operands[1:3]):
        condition, yes, no = op.operands
        holds = splat(no) == 0
        found.conditions.append((condition, holds))
        _factor(yes if holds else no, found, exact)
    else:
        found.factors.append(value)


def _widens(cast: ir.Operation) -> bool:
    before, after = (TensorType.of(value) for value in (cast.operands[0], cast.results[0]))
    floats = before.is_float and after.is_float
    return floats and before.torch_dtype.itemsize < after.torch_dtype.itemsize


@dataclass
class _Found:
    """What is known of a function up to an op.

    Attributes:
        varies: of its values, those that some of their axes do not change: the axes that do.
        sums: the inner sums made so far.
    """

    varies: dict[Value, frozenset[int]] = field(default_factory=dict)
    sums: dict[tuple, Value] = field(default_factory=dict)

    def add(self, op: ir.Operation) -> None:
        """Looks at the next op."""
        if op.name == SPREAD:
            self.varies[op.results[0]] = frozenset(dialect.attributes_of(op)["dims"])
        elif op.name == "keras.full":
            self.varies[op.results[0]] = frozenset()
        elif op.name in ELEMENTWISE:
            kind = TensorType.of(op.results[0])
            if all(_spreads(operand, kind) for operand in op.operands):
                axes = frozenset().union(*map(self.axes, op.operands))
                self.varies[op.results[0]] = axes

    def axes(self, value: Value) -> frozenset[int]:
        """The axes along which a value may vary."""
        if value in self.varies:
            return self.varies[value]
        return frozenset(range(TensorType.of(value).rank))


def _spreads(operand: Value, kind: TensorType) -> bool:
    """Whether an operand is as large as the result, or one number."""
    return TensorType.of(operand).shape in (kind.shape, ())


def _ancestors(values: list[Value]) -> set[Value]:
    """What values are made of, themselves left out."""
    found, waiting = set[Value](), list(values)
    while waiting:
        owner = waiting.pop().owner
        if not isinstance(owner, ir.Block):
            waiting += [operand for operand in owner.operands if operand not in found]
            found.update(owner.operands)
    return found


class _Split:
    """One sum."""

    def __init__(self, op: ir.Operation, found: _Found) -> None:
        self.op, self.found, self.builder = op, found, OpBuilder(op.location)
        self.kind = TensorType.of(op.operands[0])
        self.axes = tuple(dialect.attributes_of(op)["axes"])
        self.folded = frozenset(axis for axis in self.axes if self.kind.shape[axis] != 1)

    def run(self) -> bool:
        """Puts two steps in place of the sum, if it is one that they serve."""
        if self.kind.dtype not in WIDE or len(self.folded) < 2:
            return False
        product = _Product()
        _factor(self.op.operands[0], product)
        if not all(_spreads(value, self.kind) for value in product.values):
            return False
        changing = {value: self.found.axes(value) & self.folded for value in product.factors}
        late = [value for value, axes in changing.items() if axes and axes != self.folded]
        inner = self.folded.difference(*(changing[value] for value in late))
        if not late or not inner:
            return False
        within = [value for value in product.factors if changing[value] & inner]
        around = [value for value in product.factors if not changing[value] & inner]
        needed = [*within, *(condition for condition, _ in product.conditions)]
        if not needed or not self._are_ready(needed, late):
            return False
        self._rewrite(product, within, around, tuple(sorted(inner)))
        return True

    def _are_ready(self, values: list[Value], late: list[Value]) -> bool:
        """Whether all that the values are made of, element by element, goes into the late factors."""
        found, sources = set(late), list[Value]()
        waiting = list(late)
        while waiting:
            op = waiting.pop().owner
            if op.name == SPREAD:
                sources.append(op.operands[0])
            elif op.name in ELEMENTWISE:
                waiting += [operand for operand in op.operands if operand not in found]
                found.update(op.operands)
        found.update(sources)
        before = _ancestors(sources)
        waiting = list(values)
        while waiting:
            value = waiting.pop()
            if value in found:
                return False
            if value in before or splat(value) is not None:
                continue
            owner = value.owner
            if isinstance(owner, ir.Block) or owner.name not in (*ELEMENTWISE, SPREAD):
                return False
            waiting += owner.operands
        return True

    def _rewrite(
        self, product: _Product, within: list[Value], around: list[Value], inner: tuple[int, ...]
    ) -> None:
        builder, dtype = self.builder, self.kind.dtype
        kept = [axis for axis in range(self.kind.rank) if axis not in inner]
        with ir.InsertionPoint(self.op):
            total = self._inner(within, product.conditions, inner)
            for value in around:
                small = builder.cast(self._small(value, kept, {}), dtype)
                total = builder.emit("mul", total, small)
            if product.conditions:
                # Where no condition holds, not even an infinite factor counts.
                count = self._inner([], product.conditions, inner)
                zero = builder.scalar(0.0, dtype)
                none = builder.emit("eq", count, zero)
                total = builder.emit("select", none, zero, total)
            if product.negative:
                total = builder.emit("neg", total)
            outer = tuple(kept.index(axis) for axis in self.axes if axis not in inner)
            total = builder.emit("sum", total, axes=outer)
        self.op.results[0].replace_all_uses_with(total)

    def _inner(
        self, factors: list[Value], conditions: list[tuple[Value, bool]], inner: tuple[int, ...]
    ) -> Value:
        """The sum over the inner axes of a product, or of ones, where the conditions hold."""
        key = (*factors, None, *conditions, inner, self.kind)
        if key not in self.found.sums:
            builder, dtype = self.builder, self.kind.dtype
            value = builder.full(1.0, self.kind.shape, dtype)
            for i, factor in enumerate(builder.cast(factor, dtype) for factor in factors):
                value = builder.emit("mul", value, factor) if i else factor
            zero = builder.scalar(0.0, dtype)
            for condition, holds in conditions:
                pair = (value, zero) if holds else (zero, value)
                value = builder.emit("select", condition, *pair)
            self.found.sums[key] = builder.emit("sum", value, axes=inner)
        return self.found.sums[key]

    def _small(self, value: Value, kept: list[int], made: dict[Value, Value]) -> Value:
        """A value on the axes kept, which are all that it varies along; `made` are others of it."""
        kind = TensorType.of(value)
        if kind.rank == 0:
            return value
        if value not in made:
            shape, op = tuple(kind.shape[axis] for axis in kept), value.owner
            attributes = dialect.attributes_of(op)
            operands = list(op.operands)
            if op.name == SPREAD:
                dims = tuple(kept.index(dim) for dim in attributes["dims"])
                attributes = {"dims": dims, "shape": shape}
            elif op.name == "keras.full":
                attributes |= {"shape": shape}
            else:
                operands = [self._small(operand, kept, made) for operand in operands]
            made[value] = self.builder.emit(op.name.removeprefix("keras."), *operands, **attributes)
        return made[value]
