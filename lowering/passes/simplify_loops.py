"""simplify-loops: a loop carries, scans and stacks only what somebody reads.

Tracing gives every loop all that its body might need. A carry that no iteration changes becomes a
constant, a constant tensor of one number is made inside the body, and whatever no result depends on
goes, from the loop and from its body.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

from mlir import ir

from .. import dialect
from ..build import OpBuilder
from ..keras_rewrites import source
from ..loop_edit import call_again, named_twice, retype, set_returned, terminator
from ..loops import SCAN, Scan, While, code, loop_of
from ..mlir import TensorType, callee, context, copied, functions
from .base import Pass
from .canonicalize_keras import CanonicalizeKeras, drop_unread


@dataclass(frozen=True)
class SimplifyLoops(Pass):
    """Loops that are called once, whose bodies no other loop runs."""

    name: ClassVar[str] = "simplify-loops"
    takes: ClassVar[str] = "keras"
    gives: ClassVar[str] = "keras"

    def run(self, module: ir.Module) -> ir.Module:
        self.check_stage(module)
        if not any(map(loop_of, functions(module).values())):
            return module
        with context(), ir.Location.unknown():
            rewritten = copied(module)
            known = functions(rewritten)
            # From the outermost in: what a loop does not need, the loops inside need not make.
            _simplify("main", known, named_twice(known))
            for function in code(rewritten).values():
                drop_unread(function)
        # Bodies know numbers now that were operands before.
        return CanonicalizeKeras().run(rewritten)


def _simplify(name: str, known: Mapping[str, ir.OpView], shared: set[str]) -> None:
    """Simplifies the loops that a function calls, then those in their bodies."""
    drop_unread(known[name])
    for view in list(known[name].regions[0].blocks[0].operations):
        called = callee(view)
        loop = loop_of(known[called]) if called else None
        if loop is None:
            continue
        if not shared.intersection((called, *loop.functions)):
            _LoopCall.of(view.operation, known, loop).simplify()
        for inner in loop.functions:
            _simplify(inner, known, shared)


@dataclass
class _LoopCall:
    """A loop's call and declaration, and the blocks it runs, the body's last."""

    call: ir.Operation
    declaration: ir.OpView
    loop: Scan | While
    functions: list[ir.OpView]
    carries: int
    operands: list[ir.Value] = field(default_factory=list)

    @classmethod
    def of(
        cls, call: ir.Operation, known: Mapping[str, ir.OpView], loop: Scan | While
    ) -> _LoopCall:
        run = [known[name] for name in loop.functions]
        carries = loop.carries if isinstance(loop, Scan) else len(call.results)
        return cls(call, known[callee(call)], loop, run, carries, list(call.operands))

    @property
    def blocks(self) -> list[ir.Block]:
        return [function.regions[0].blocks[0] for function in self.functions]

    @property
    def returned(self) -> list[ir.Value]:
        """What the body returns."""
        return list(terminator(self.blocks[-1]).operands)

    def simplify(self) -> None:
        for function in self.functions:
            drop_unread(function)
        self._make_nothing()
        self._fix_unchanged()
        self._sink_numbers()
        results = self._needed_results()
        self._rebuild(results, self._needed_operands(results))

    def _make_nothing(self) -> None:
        """Tensors of no elements neither enter nor leave: each place of one would be no memory."""
        for result in self.call.results:
            if not TensorType.of(result).size:
                with ir.InsertionPoint(self.call):
                    result.replace_all_uses_with(_nothing(result))
        for block in self.blocks:
            with ir.InsertionPoint.at_block_begin(block):
                for argument in block.arguments:
                    if not TensorType.of(argument).size:
                        argument.replace_all_uses_with(_nothing(argument))

    def _fix_unchanged(self) -> None:
        """Carries that the body hands on as they are become constants."""
        for i, value in enumerate(self.returned[: self.carries]):
            if value != self.blocks[-1].arguments[i]:
                continue
            self.call.results[i].replace_all_uses_with(self.operands[i])
            self.operands.append(self.operands[i])
            for block in self.blocks:
                added = block.add_argument(value.type, ir.Location.unknown())
                block.arguments[i].replace_all_uses_with(added)

    def _sink_numbers(self) -> None:
        """What is the same number at every element is made in the body; equal operands are one."""
        seen: dict[tuple[ir.Value, bool], int] = {}
        for i in range(self.carries, len(self.operands)):
            first = seen.setdefault((self.operands[i], self._is_scanned(i)), i)
            full = source(self.operands[i], "full")
            for block in self.blocks:
                argument = block.arguments[i]
                if full is not None:
                    argument.replace_all_uses_with(_number_like(full, argument, block))
                elif first != i:
                    argument.replace_all_uses_with(block.arguments[first])

    def _is_scanned(self, operand: int) -> bool:
        scanned = self.loop.scanned if isinstance(self.loop, Scan) else 0
        return self.carries <= operand < self.carries + scanned

    def _needed_results(self) -> list[int]:
        """The body's results that are read outside, or that such results depend on in time."""
        depends = [_arguments_of(value) for value in self.returned]
        needed = {i for i, result in enumerate(self.call.results) if list(result.uses)}
        wanted = set().union(*(depends[i] for i in needed))
        if isinstance(self.loop, While):
            wanted |= _arguments_of(terminator(self.blocks[0]).operands[0])
        while carried := {i for i in wanted if i < self.carries} - needed:
            needed |= carried
            wanted |= set().union(*(depends[i] for i in carried))
        return sorted(needed)

    def _needed_operands(self, results: Sequence[int]) -> list[int]:
        """The operands that stay: the carries of those results, and what they or a condition read."""
        wanted = set().union(*(_arguments_of(self.returned[i]) for i in results))
        if isinstance(self.loop, While):
            wanted |= _arguments_of(terminator(self.blocks[0]).operands[0])
        read = [i for i in range(self.carries, len(self.operands)) if i in wanted]
        return [*(i for i in results if i < self.carries), *read]

    def _rebuild(self, results: Sequence[int], operands: Sequence[int]) -> None:
        """The loop again, with these results and operands only."""
        for function in self.functions:
            block = function.regions[0].blocks[0]
            if function is self.functions[-1]:
                set_returned(function, [self.returned[i] for i in results])
            drop_unread(function)
            for i in reversed(range(len(block.arguments))):
                if i not in operands:
                    block.erase_argument(i)
            retype(function)
        if isinstance(self.loop, Scan):
            self._recount(operands)
        given = [self.operands[i] for i in operands]
        kinds = [self.call.results[i].type for i in results]
        made = call_again(self.call, self.declaration, given, kinds)
        for i, result in zip(results, made.results, strict=True):
            self.call.results[i].replace_all_uses_with(result)
        self.call.erase()

    def _recount(self, operands: Sequence[int]) -> None:
        assert isinstance(self.loop, Scan)
        carries = sum(i < self.carries for i in operands)
        scanned = sum(map(self._is_scanned, operands))
        loop = replace(self.loop, carries=carries, scanned=scanned)
        self.declaration.operation.attributes[SCAN] = loop.to_attribute()


def _arguments_of(value: ir.Value) -> set[int]:
    """The numbers of the block's arguments that a value depends on."""
    found: set[int] = set()
    seen: set[ir.Value] = set()
    pending = [value]
    while pending:
        value = pending.pop()
        if value in seen:
            continue
        seen.add(value)
        if isinstance(value.owner, ir.Block):
            found.add(ir.BlockArgument(value).arg_number)
        else:
            pending += value.owner.operands
    return found


def _nothing(like: ir.Value) -> ir.Value:
    """A `keras.full` of the value's type, which has no elements."""
    kind = TensorType.of(like)
    return OpBuilder(ir.Location.unknown()).full(0, kind.shape, kind.dtype)


def _number_like(full: ir.Operation, argument: ir.Value, block: ir.Block) -> ir.Value:
    """A `keras.full` of the argument's type at the start of its block."""
    kind = TensorType.of(argument)
    with ir.InsertionPoint.at_block_begin(block):
        value = dialect.attributes_of(full)["value"]
        return OpBuilder(full.location).full(value, kind.shape, kind.dtype)
