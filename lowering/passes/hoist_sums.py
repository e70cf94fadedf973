"""hoist-sums: what a scan only adds up over its iterations is computed once, after the loop.

The gradient by a recurrent kernel is the sum over time of products of [batch, m] by [batch, n]: one
product of [time * batch, m] by [time * batch, n], if both are stacked. A small product and a sum that
reads and writes all of the gradient in each iteration become one large product.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from mlir import ir

from .. import dialect
from ..build import OpBuilder
from ..keras_rewrites import source, splat
from ..loop_edit import call_again, named_twice, set_returned, terminator
from ..loops import Scan, code, loop_of
from ..mlir import TensorType, callee, context, copied, functions
from .base import Pass


@dataclass(frozen=True)
class HoistSums(Pass):
    """Takes sums of products whose operands are scanned, stacked, or smaller than the sum."""

    name: ClassVar[str] = "hoist-sums"
    takes: ClassVar[str] = "keras"
    gives: ClassVar[str] = "keras"

    def run(self, module: ir.Module) -> ir.Module:
        self.check_stage(module)
        if not any(map(loop_of, functions(module).values())):
            return module
        with context(), ir.Location.unknown():
            rewritten = copied(module)
            known = functions(rewritten)
            fixed = named_twice(known)
            for function in code(rewritten).values():
                for view in list(function.regions[0].blocks[0].operations):
                    _hoist_from(view.operation, known, fixed)
        return rewritten


def _hoist_from(call: ir.Operation, known: Mapping[str, ir.OpView], fixed: set[str]) -> None:
    name = callee(call)
    loop = loop_of(known[name]) if name else None
    if isinstance(loop, Scan) and not fixed.intersection((name, loop.body)):
        _Scan(call, known[name], known[loop.body], loop).hoist()


def _adds_up(op: ir.Operation) -> bool:
    """Whether an op folds the first axis of all its operands, so that the sum over several calls is
    one call on the operands put one behind another.
    """
    if op.name == "keras.conv2d_kernel_grad":
        return True
    attributes = dialect.attributes_of(op) if op.name in ("keras.matmul", "keras.sum") else {}
    if op.name == "keras.matmul":
        return attributes["transpose_a"] and not attributes["transpose_b"]
    return op.name == "keras.sum" and 0 in attributes["axes"]


@dataclass
class _Scan:
    """A scan's call and its functions."""

    call: ir.Operation
    declaration: ir.OpView
    body: ir.OpView
    loop: Scan

    @property
    def block(self) -> ir.Block:
        return self.body.regions[0].blocks[0]

    @property
    def returned(self) -> list[ir.Value]:
        return list(terminator(self.block).operands)

    def hoist(self) -> None:
        for i in range(self.loop.carries):
            summand = self._summand(i)
            if summand is not None and list(self.call.results[i].uses):
                self._hoist(i, summand)

    def _summand(self, i: int) -> ir.Operation | None:
        """What each iteration adds to a carry that nothing else reads."""
        argument, add = self.block.arguments[i], source(self.returned[i], "add")
        if add is None or len(list(argument.uses)) != 1 or len(list(add.results[0].uses)) != 1:
            return None
        left, right = add.operands
        other = right if left == argument else left
        if argument not in (left, right) or isinstance(other.owner, ir.Block):
            return None
        summand = other.owner
        if not summand.name.startswith("keras.") or not _adds_up(summand):
            return None
        stacked = sum(TensorType.of(x).size for x in self._unstacked(summand))
        return summand if stacked <= 2 * TensorType.of(argument).size else None

    def _unstacked(self, summand: ir.Operation) -> list[ir.Value]:
        """The operands of which not all values are in memory after the loop."""
        kept = self.returned[self.loop.carries :]
        return [x for x in summand.operands if x not in kept and not self._scanned(x)]

    def _scanned(self, value: ir.Value) -> ir.Value | None:
        """The tensor whose place an argument of the body is."""
        for i in range(self.loop.carries, self.loop.carries + self.loop.scanned):
            if value == self.block.arguments[i]:
                return self.call.operands[i]
        return None

    def _hoist(self, i: int, summand: ir.Operation) -> None:
        """Puts the sum of all iterations in place of the carry's final value."""
        self._stack(self._unstacked(summand))
        builder = OpBuilder(summand.location)
        operations = list(self.call.block.operations)
        after = operations[[op.operation for op in operations].index(self.call) + 1]
        with ir.InsertionPoint(after):
            operands = [self._all(x, builder) for x in summand.operands]
            name = summand.name.removeprefix("keras.")
            total = builder.emit(name, *operands, **dialect.attributes_of(summand))
            # From 0.0, a sum of nothing but -0.0 would be 0.0; that sign is given up.
            if splat(self.call.operands[i]) != 0:
                total = builder.emit("add", self.call.operands[i], total)
        self.call.results[i].replace_all_uses_with(total)

    def _all(self, value: ir.Value, builder: OpBuilder) -> ir.Value:
        """The values of all iterations one behind another."""
        stack = self._scanned(value)
        if stack is None:
            number = self.returned.index(value, self.loop.carries)
            stack = self.call.results[number]
        count, *rest = TensorType.of(value).shape
        return builder.reshape(stack, (self.loop.length * count, *rest))

    def _stack(self, values: Sequence[ir.Value]) -> None:
        """Makes the loop stack these values of its body too."""
        if not values:
            return
        added = list(dict.fromkeys(values))
        set_returned(self.body, [*self.returned, *added])
        kinds = [result.type for result in self.call.results]
        for kind in map(TensorType.of, added):
            kinds.append(kind.with_shape((self.loop.length, *kind.shape)).to_mlir())
        made = call_again(self.call, self.declaration, list(self.call.operands), kinds)
        for before, after in zip(self.call.results, made.results, strict=False):
            before.replace_all_uses_with(after)
        self.call.erase()
        self.call = made
