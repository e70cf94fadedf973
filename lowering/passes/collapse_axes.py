"""collapse-axes: elementwise work between reshapes is done on the axes of the other side.

A Dense layer on [batch, length, width] is a product on [batch * length, width] between two reshapes,
and so is a norm over the last axis. A kernel's loops share one domain, so what is computed on three
axes in between could join neither. Here elementwise ops, and reductions of what they make, move to
the fewer axes where that brings more neighbours together than it parts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import ClassVar

from mlir import ir

from .. import dialect
from ..axes import Cuts, cuts_between, cuts_where, groups, merged, spread_kinds
from ..build import OpBuilder, Value
from ..keras_rewrites import POINTWISE
from ..loops import code, donations
from ..mlir import TensorType, context, copied, functions
from ..ops import CONTRACTIONS
from ..ops.reduce import BOOL_REDUCTIONS, REDUCTIONS
from .base import Pass
from .canonicalize_keras import canonicalize

SPREAD = "keras.broadcast_in_dim"
RESHAPE = "keras.reshape"
ELEMENTWISE = frozenset(
    [*(f"keras.{n}" for n in (*POINTWISE, "select", "cast", "dropout")), SPREAD]
)
REDUCTION = frozenset(f"keras.{name}" for name in (*REDUCTIONS, *BOOL_REDUCTIONS))


@dataclass(frozen=True)
class CollapseAxes(Pass):
    """Ops on values of one shape that feed each other move together, those of most elements first."""

    name: ClassVar[str] = "collapse-axes"
    takes: ClassVar[str] = "keras"
    gives: ClassVar[str] = "keras"

    def run(self, module: ir.Module) -> ir.Module:
        self.check_stage(module)
        with context(), ir.Location.unknown():
            rewritten = copied(module)
            donated = donations(functions(rewritten))
            for name, function in code(rewritten).items():
                returned = list(list(function.regions[0].blocks[0].operations)[-1].operands)
                updates = frozenset(returned[result] for result in donated.get(name, {}).values())
                for chain in _chains(function):
                    cuts = _best_cuts(chain, updates)
                    if cuts is not None:
                        _Move(chain, cuts).run()
                canonicalize(function)  # reshapes of reshapes
        return rewritten


@dataclass(frozen=True)
class Chain:
    """Elementwise ops whose results have one shape and which feed each other, in program order."""

    shape: tuple[int, ...]
    ops: dict[ir.Operation, None]

    def operands(self) -> Iterator[tuple[ir.Operation, Value]]:
        """What its ops read from outside, keys of random numbers aside."""
        for op in self.ops:
            for value in _elements_read(op):
                if _maker(value) not in self.ops:
                    yield op, value

    def readers(self) -> Iterator[ir.Operation]:
        """The ops outside that read its results, once for each use."""
        for op in self.ops:
            for use in op.results[0].uses:
                if use.owner.operation not in self.ops:
                    yield use.owner.operation


def _shape(value: Value) -> tuple[int, ...]:
    return TensorType.of(value).shape


def _maker(value: Value) -> ir.Operation | None:
    return None if isinstance(value.owner, ir.Block) else value.owner.operation


def _is_computed(value: Value) -> bool:
    """Whether an op of the dialect makes the value: neither an argument nor what torch computes."""
    maker = _maker(value)
    return maker is not None and maker.name.startswith("keras.")


def _before_reshape(value: Value) -> Value | None:
    """What the value is a reshape of, or None if it is none."""
    maker = _maker(value)
    return maker.operands[0] if maker is not None and maker.name == RESHAPE else None


def _elements_read(op: ir.Operation) -> list[Value]:
    """The operands that an elementwise op reads element by element."""
    return list(op.operands)[:1] if op.name == "keras.dropout" else list(op.operands)


def _chains(function: ir.OpView) -> list[Chain]:
    """The chains of two or more axes, those of most elements first."""
    leader: dict[ir.Operation, ir.Operation] = {}

    def find(op: ir.Operation) -> ir.Operation:
        while leader[op] != op:
            op = leader[op]
        return op

    for view in function.regions[0].blocks[0].operations:
        op = view.operation
        if op.name not in ELEMENTWISE or len(_shape(op.results[0])) < 2:
            continue
        leader[op] = op
        for value in _elements_read(op):
            maker = _maker(value)
            if maker in leader and _shape(value) == _shape(op.results[0]):
                leader[find(op)] = find(maker)
    chains: dict[ir.Operation, dict[ir.Operation, None]] = {}
    for op in leader:
        chains.setdefault(find(op), {})[op] = None
    found = [Chain(_shape(first.results[0]), ops) for first, ops in chains.items()]
    return sorted(found, key=lambda chain: -prod(chain.shape))


def _best_cuts(chain: Chain, updates: frozenset[Value]) -> Cuts | None:
    """The cuts that bring most neighbours together, or None if none is worth its price.

    `updates` are new values of donated arguments.
    """
    if 0 in chain.shape:
        return None
    needed: Cuts = frozenset([0])
    for op, value in chain.operands():
        needed |= _cuts_of_operand(op, value, chain.shape)
    wanted = Counter(_wanted(chain))
    apart = list(_kept_apart(chain, updates))
    whole = frozenset(range(len(chain.shape)))

    def gain(cuts: Cuts) -> int:
        together = sum(n for shape, n in wanted.items() if shape == merged(chain.shape, cuts))
        return together - sum(not demanded <= cuts for demanded in apart)

    found = (cuts_between(chain.shape, shape) for shape in wanted)
    choices = {cuts | needed for cuts in found if cuts is not None} - {whole}
    best = max(choices, key=lambda cuts: (gain(cuts), -len(cuts), sorted(cuts)), default=None)
    return best if best is not None and gain(best) > 0 else None


def _extents(op: ir.Operation, value: Value, rank: int) -> list[int | None]:
    """An operand's extents by the axes of the result; None where it lacks the axis."""
    shape = _shape(value)
    offset = rank - len(shape)
    dims = dialect.attributes_of(op)["dims"] if op.name == SPREAD else range(offset, rank)
    extents: list[int | None] = [None] * rank
    for extent, dim in zip(shape, dims, strict=True):
        extents[dim] = extent
    return extents


def _cuts_of_operand(op: ir.Operation, value: Value, shape: tuple[int, ...]) -> Cuts:
    return cuts_where(spread_kinds(_extents(op, value, len(shape)), shape))


def _wanted(chain: Chain) -> Iterator[tuple[int, ...]]:
    """The shape on the other side of each reshape that something is computed behind."""
    for _, value in chain.operands():
        before = _before_reshape(value)
        if before is not None and _shape(value) == chain.shape and _is_computed(before):
            yield _shape(before)
    for reader in chain.readers():
        uses = reader.results[0].uses if reader.name == RESHAPE else ()
        if any(use.owner.operation.name.startswith("keras.") for use in uses):
            yield _shape(reader.results[0])


def _kept_apart(chain: Chain, updates: frozenset[Value]) -> Iterator[Cuts]:
    """For each neighbour that needs the axes as they are, the cuts without which it is parted."""
    whole = frozenset(range(len(chain.shape)))
    for _, value in chain.operands():
        made_here = _is_computed(value) and _before_reshape(value) is None
        if _shape(value) == chain.shape and made_here:
            yield whole
    for reader in chain.readers():
        if reader.name in REDUCTION:
            yield _cuts_of_reduction(reader, chain.shape)
        elif reader.name.startswith("keras.") and reader.name not in (RESHAPE, *CONTRACTIONS):
            yield whole
    for op in chain.ops:
        # Updates of all parameters make one kernel, if each is computed on its parameter's axes.
        if op.results[0] in updates:
            yield whole


def _cuts_of_reduction(op: ir.Operation, shape: tuple[int, ...]) -> Cuts:
    axes = dialect.attributes_of(op)["axes"]
    return cuts_where([None if n == 1 else axis in axes for axis, n in enumerate(shape)])


class _Move:
    """Builds a chain anew on the merged axes; its neighbours read that, or a reshape of it."""

    def __init__(self, chain: Chain, cuts: Cuts) -> None:
        self.chain, self.cuts = chain, cuts
        self.shape = merged(chain.shape, cuts)
        self.groups = groups(len(chain.shape), cuts)
        self.moved: dict[Value, Value] = {}

    def run(self) -> None:
        for op in self.chain.ops:
            with ir.InsertionPoint(op):
                self.moved[op.results[0]] = self._rebuilt(op, OpBuilder(op.location))
        for op in reversed(list(self.chain.ops)):
            self._hand_over(op.results[0])
            op.erase()

    def _rebuilt(self, op: ir.Operation, build: OpBuilder) -> Value:
        name, attributes = op.name.removeprefix("keras."), dialect.attributes_of(op)
        if op.name == SPREAD:
            return self._spread(op, build)
        read = _elements_read(op)
        operands = [self._operand(value, op, build) for value in read]
        return build.emit(name, *operands, *list(op.operands)[len(read) :], **attributes)

    def _operand(self, value: Value, op: ir.Operation, build: OpBuilder) -> Value:
        if value in self.moved:
            return self.moved[value]
        extents = _extents(op, value, len(self.chain.shape))
        first = next((axis for axis, extent in enumerate(extents) if extent is not None), None)
        if first is None:
            return value
        return _reshaped(
            value, [n for group, n in self._grouped(extents) if first < group.stop], build
        )

    def _spread(self, op: ir.Operation, build: OpBuilder) -> Value:
        (x,) = op.operands
        if x in self.moved:
            return self.moved[x]
        extents = _extents(op, x, len(self.chain.shape))
        present = [
            (dim, extent)
            for dim, (group, extent) in enumerate(self._grouped(extents))
            if any(extents[axis] is not None for axis in group)
        ]
        narrow = _reshaped(x, [extent for _, extent in present], build)
        return build.emit(
            "broadcast_in_dim", narrow, shape=self.shape, dims=[dim for dim, _ in present]
        )

    def _grouped(self, extents: list[int | None]) -> list[tuple[range, int]]:
        """Each group of axes with an operand's extent along it."""
        flat = [1 if extent is None else extent for extent in extents]
        return list(zip(self.groups, merged(flat, self.cuts), strict=True))

    def _hand_over(self, old: Value) -> None:
        """Gives the readers of a value what was built in its place."""
        new = self.moved[old]
        for use in list(old.uses):
            reader = use.owner.operation
            if reader in self.chain.ops:
                continue  # rebuilt as well, and erased by now or soon
            build = OpBuilder(reader.location)
            with ir.InsertionPoint(reader):
                if reader.name == RESHAPE:
                    _replace(reader, _reshaped(new, _shape(reader.results[0]), build))
                elif (
                    reader.name in REDUCTION
                    and _cuts_of_reduction(reader, self.chain.shape) <= self.cuts
                ):
                    _replace(reader, self._reduced(reader, new, build))
                else:
                    reader.operands[use.operand_number] = _reshaped(new, self.chain.shape, build)

    def _reduced(self, op: ir.Operation, x: Value, build: OpBuilder) -> Value:
        axes = dialect.attributes_of(op)["axes"]
        # A group that is reduced may hold axes of extent 1 that are not, but no others.
        wide = {axis for axis in axes if self.chain.shape[axis] != 1}
        dims = [
            dim
            for dim, group in enumerate(self.groups)
            if wide.intersection(group) or set(axes).issuperset(group)
        ]
        # Axes of extent 1 alone leave nothing to fold.
        made = build.emit(op.name.removeprefix("keras."), x, axes=dims) if dims else x
        return _reshaped(made, _shape(op.results[0]), build)


def _reshaped(x: Value, shape: tuple[int, ...] | list[int], build: OpBuilder) -> Value:
    """x in another shape; of a reshape, what is before it."""
    before = _before_reshape(x)
    return build.reshape(x if before is None else before, shape)


def _replace(op: ir.Operation, value: Value) -> None:
    op.results[0].replace_all_uses_with(value)
    op.erase()
