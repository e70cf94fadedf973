"""Builds a program op by op, from what hypothesis draws, keeping values small and jumps exact."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

from hypothesis import strategies as st

from keras_triton.lowering import dialect
from keras_triton.lowering.mlir import BITS, TensorType

from .program import LARGEST_EXACT, Extern, Op, Program, Scan, Value

Accept = Callable[[Value], bool]
# Beyond this a value is squashed, so that no chain of ops overflows a half or amplifies roundings.
LARGEST = 64.0
MOST_ELEMENTS = 1500


class Unfit(Exception):
    """No value fits what a step wants; the program goes on without the step."""


class Builder:
    """The function that is being built.

    Attributes:
        draw: hypothesis's.
        extents: the lengths that axes of new arguments have.
        dtype: the dtype of most floats.
    """

    def __init__(self, draw: Callable, extents: Sequence[int], dtype: str, depth: int = 0) -> None:
        self.draw, self.extents, self.dtype, self.depth = draw, extents, dtype, depth
        self.arguments: list[Value] = []
        self.ops: list[Op] = []
        self.values: list[Value] = []
        self.count = 0

    def program(self, results: Sequence[Value], donated: dict[int, int]) -> Program:
        return Program(tuple(self.arguments), tuple(self.ops), tuple(results), donated)

    # What is drawn.

    def choose(self, options: Sequence[Any]) -> Any:
        """One of `options`; the first is the simplest."""
        return self.draw(st.sampled_from(list(options)))

    def integer(self, low: int, high: int) -> int:
        return self.draw(st.integers(low, high))

    def coin(self) -> bool:
        return self.draw(st.booleans())

    def pick(self, accept: Accept = lambda value: True) -> Value:
        """A value that `accept` takes, one of the newest as often as any.

        Raises:
            Unfit: there is none.
        """
        found = [value for value in self.values if accept(value)]
        if not found:
            raise Unfit
        return self.choose(found[-4:][::-1] if self.coin() else found)

    def shape(self, least: int = 0, most: int = 3) -> tuple[int, ...]:
        rank = self.integer(least, most)
        shape = tuple(self.choose(self.extents) for _ in range(rank))
        return shape if prod(shape) <= MOST_ELEMENTS else shape[:2]

    def axes(self, rank: int, least: int = 1) -> tuple[int, ...]:
        """At least `least` axes in order.

        Raises:
            Unfit: there are not so many.
        """
        if rank < least:
            raise Unfit
        chosen = self.draw(
            st.lists(st.integers(0, rank - 1), min_size=least, max_size=rank, unique=True)
        )
        return tuple(sorted(chosen))

    # What is built.

    def argument(
        self, shape: Sequence[int], dtype: str, bound: float = 3.0, *, exact: bool = True
    ) -> Value:
        """A new argument."""
        made = self._value(TensorType(tuple(shape), dtype), bound, exact)
        self.arguments.append(made)
        self.values.append(made)
        return made

    def full(self, value: float, dtype: str, shape: Sequence[int] = ()) -> Value:
        """A tensor of one number."""
        number = float(value) if dtype.startswith(("f", "b")) else int(value)
        return self.op(
            "full", value=number, shape=tuple(shape), dtype=dtype, bound=abs(value), exact=True
        )

    def op(self, name: str, *operands: Value, **attributes: Any) -> Value:
        """Builds an op; its first result.

        Bounds and exactness are `bound` and `exact` where given, and what a rule for ops that move
        or choose elements says otherwise: the largest of the operands', exact if all are.
        """
        return self.ops_results(name, *operands, **attributes)[0]

    def ops_results(self, name: str, *operands: Value, **attributes: Any) -> list[Value]:
        """`op`, with all results."""
        bound = attributes.pop("bound", max((x.bound for x in operands), default=1.0))
        exact = attributes.pop("exact", all(x.exact for x in operands))
        kinds = dialect.infer(
            dialect.OPS[name], [value.type for value in operands], attributes, "a random program"
        )
        if any(kind.size > MOST_ELEMENTS for kind in kinds):
            raise Unfit
        made = [self._value(kind, bound, exact) for kind in kinds]
        self.ops.append(Op(name, operands, attributes, tuple(made)))
        self.values += made
        return made

    def extern(self, target: str, args: str, operands: Sequence[Value], kind: TensorType) -> Value:
        """A call of torch that gives the same elements, or sums of them."""
        bound = sum(x.bound * max(x.type.size, 1) for x in operands)
        exact = all(x.exact for x in operands) and bound <= LARGEST_EXACT
        made = self._value(kind, bound, exact or not kind.is_float)
        self.ops.append(Extern(target, tuple(operands), {"args": args}, (made,)))
        self.values.append(made)
        return made

    def scan(self, body: Program, operands: Sequence[Value], **counts: Any) -> None:
        """A loop over `body`: its results become values, carries first."""
        stacked = body.results[counts["carries"] :]
        kinds = [value.type for value in operands[: counts["carries"]]]
        kinds += [value.type.with_shape((counts["length"], *value.type.shape)) for value in stacked]
        made = [
            self._value(kind, value.bound, value.exact)
            for kind, value in zip(kinds, body.results, strict=True)
        ]
        self.ops.append(Scan("scan", tuple(operands), {}, tuple(made), body, **counts))
        self.values += made

    def _value(self, kind: TensorType, bound: float, exact: bool) -> Value:
        self.count += 1
        if not kind.is_float:  # integers wrap and bools are 0 and 1, so they stay exact
            return Value(self.count, kind, min(bound, 2.0 ** (BITS[kind.dtype] - 1)), True)
        return Value(self.count, kind, bound, exact and bound <= LARGEST_EXACT)

    # What steps share.

    def tame(self, x: Value) -> Value:
        """x, squashed if it has grown."""
        if x.bound <= LARGEST:
            return x
        if x.type.is_float:
            return self.op("tanh", x, bound=1.0, exact=False)
        return self.op("bitwise_and", x, self.full(7, x.type.dtype), bound=7.0)

    def at_most(self, x: Value, bound: float) -> Value:
        """x, its magnitude at most `bound` (of at least 1)."""
        return x if x.bound <= bound else self.op("tanh", x, bound=1.0, exact=False)

    def positive(self, x: Value) -> Value:
        """|x| + 1/2."""
        size = self.op("abs", x)
        return self.op("add", size, self.full(0.5, x.type.dtype), bound=x.bound + 0.5)

    def like(self, x: Value, accept: Accept = lambda value: True) -> Value:
        """A value of x's dtype whose shape broadcasts with x's: one that there is, a new argument, or
        a number.
        """
        source = self.choose(["value", "value", "argument", "number"])
        if source == "number":
            return self.full(1 if x.type.dtype == "i1" else self.choose([1, 2, -1]), x.type.dtype)
        if source == "value":
            try:
                return self.pick(
                    lambda other: (
                        other.type.dtype == x.type.dtype
                        and broadcast(other.type.shape, x.type.shape)
                        and accept(other)
                    )
                )
            except Unfit:
                pass
        kept = self.integer(0, x.type.rank)
        shape = [1 if self.coin() else n for n in x.type.shape[x.type.rank - kept :]]
        return self.argument(shape, x.type.dtype)

    def floats(self, least: int = 0, most: int = 5) -> Value:
        """A float of some rank."""
        return self.pick(lambda value: value.type.is_float and least <= value.type.rank <= most)

    def flat(self, x: Value, rank: int) -> Value:
        """x of exactly `rank` axes: the first ones joined, or ones of extent 1 put before."""
        shape = x.type.shape
        if len(shape) == rank:
            return x
        wanted = (1,) * (rank - len(shape)) + shape
        if len(shape) > rank:
            joined = len(shape) - rank + 1
            wanted = (prod(shape[:joined]), *shape[joined:])
        return self.op("reshape", x, shape=wanted)


def broadcast(a: Sequence[int], b: Sequence[int]) -> bool:
    """Whether two shapes broadcast."""
    pairs = zip(a[::-1], b[::-1], strict=False)
    return all(m == n or 1 in (m, n) for m, n in pairs)
