"""canonicalize-keras: one spelling for what means the same, and nothing that nobody reads.

MLIR's own cse and canonicalize leave ops defined through IRDL alone, since those carry no traits;
so this pass does both for the `keras` dialect, whose ops are all pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from mlir import ir

from ..build import OpBuilder, Value
from ..keras_rewrites import simplify
from ..loops import code, reachable
from ..mlir import context, copied, functions
from .base import Pass


@dataclass(frozen=True)
class CanonicalizeKeras(Pass):
    """Simplifies ops, merges equal ones (the first one's layer stays), and drops the unread."""

    name: ClassVar[str] = "canonicalize-keras"
    takes: ClassVar[str] = "keras"
    gives: ClassVar[str] = "keras"

    def run(self, module: ir.Module) -> ir.Module:
        self.check_stage(module)
        with context(), ir.Location.unknown():
            rewritten = copied(module)
            for function in code(rewritten).values():
                canonicalize(function)
            drop_uncalled(rewritten)
        return rewritten


def canonicalize(function: ir.OpView) -> None:
    """Simplifies a function in place, within a context and a location."""
    _Rewriter().rewrite(function)
    drop_unread(function)


class _Rewriter(OpBuilder):
    """Simplifies each op and merges it with an equal earlier one; so too the ops it builds itself.

    All ops stand in one block and new ones come before the op at hand, so what was seen dominates.
    """

    def __init__(self) -> None:
        super().__init__(ir.Location.unknown())
        self.seen: dict[tuple, ir.Operation] = {}

    def rewrite(self, function: ir.OpView) -> None:
        for view in list(function.regions[0].blocks[0].operations):
            if view.operation.name.startswith("keras."):
                self.location = view.operation.location
                with ir.InsertionPoint(view.operation):
                    self.settle(view.operation)

    def emit_all(self, name: str, *operands: Value, **attributes: Any) -> list[Value]:
        made = super().emit_all(name, *operands, **attributes)
        return self.settle(made[0].owner.operation)

    def settle(self, op: ir.Operation) -> list[Value]:
        """The values that stand for the op's results from here on."""
        values = simplify(op, self)
        if values is None:
            first = self.seen.setdefault(_key(op), op)
            values = list(first.results)
            if first == op:
                return values
        for old, new in zip(op.results, values, strict=True):
            old.replace_all_uses_with(new)
        op.erase()
        return values


def _key(op: ir.Operation) -> tuple:
    """Equal for ops that compute the same; a random op's numbers follow from its key alone."""
    attributes = tuple((name, str(op.attributes[name])) for name in op.attributes)
    return op.name, tuple(op.operands), attributes, tuple(str(x.type) for x in op.results)


def drop_unread(function: ir.OpView) -> None:
    """Erases the ops of a function whose results nobody reads; all ops of the stage are pure."""
    for view in reversed(list(function.regions[0].blocks[0].operations)):
        op = view.operation
        pure = op.name.startswith("keras.") or (op.name == "func.call" and len(op.results) > 0)
        if pure and not any(list(result.uses) for result in op.results):
            op.erase()


def drop_uncalled(module: ir.Module) -> None:
    """Erases the functions that `@main` neither calls nor runs."""
    known = functions(module)
    used = reachable(known)
    for name, function in known.items():
        if name not in used:
            function.operation.erase()
