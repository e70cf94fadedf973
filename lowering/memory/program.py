"""A function of stage "regions" as launches over root values: what memory is planned for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from mlir import ir

from ..errors import LoweringError
from ..loops import Scan, loop_of
from ..mlir import TensorType, callee
from .fit import made_again
from .history import History, histories, places_type


@dataclass(frozen=True)
class Part:
    """A contiguous piece of a root value (an argument's number or a call result's), from an
    element on.
    """

    root: int
    start: int
    type: TensorType


@dataclass
class Step:
    """A call of a kernel, an extern or a loop; `histories` are those of a scan, and `again` says why
    it makes values a second time, if it does.
    """

    callee: str
    inputs: list[Part]
    results: list[Part]
    location: str
    histories: list[History] = field(default_factory=list)
    again: str = ""

    @property
    def roots(self) -> list[int]:
        """What it writes, each once."""
        return list(dict.fromkeys(part.root for part in self.results))


@dataclass
class Program:
    """A function as steps over root values; the first `arguments` of them are its arguments."""

    types: list[TensorType]
    arguments: int
    steps: list[Step] = field(default_factory=list)
    results: list[Part] = field(default_factory=list)

    @cached_property
    def last_use(self) -> dict[int, int]:
        """Root -> the last step that reads it; len(steps) for what the function returns."""
        last: dict[int, int] = {}
        for number, step in enumerate(self.steps):
            last.update({part.root: number for part in step.inputs})
        last.update({part.root: len(self.steps) for part in self.results})
        return last

    @cached_property
    def maker(self) -> dict[int, int]:
        """Root -> the first step that writes it; none for arguments."""
        makers: dict[int, int] = {}
        for number, step in enumerate(self.steps):
            for root in step.roots:
                makers.setdefault(root, number)
        return makers

    def add_root(self, kind: TensorType) -> Part:
        """A new root, whole."""
        self.types.append(kind)
        return Part(len(self.types) - 1, 0, kind)

    def is_whole(self, part: Part) -> bool:
        """Whether a part is all of its root."""
        return part.type.size == self.types[part.root].size


def read_program(
    known: Mapping[str, ir.OpView], name: str, updates: Callable[[str], Mapping[int, int]]
) -> Program:
    """The steps of a function of stage "regions".

    Args:
        known: the functions of the module.
        name: of the function.
        updates: for a kernel, its results that lie in an argument's memory: result -> argument.

    Raises:
        LoweringError: an op that is neither a call nor a view of one piece of memory; an update of
            what others read too.
    """
    block = known[name].regions[0].blocks[0]
    types = [TensorType.of(argument) for argument in block.arguments]
    program = Program(types, len(types))
    parts: dict[ir.Value, Part] = {a: Part(i, 0, types[i]) for i, a in enumerate(block.arguments)}
    for view in block.operations:
        op = view.operation
        operands = [parts[value] for value in op.operands]
        if op.name == "func.call":
            step = _step(program, op, operands, known, updates(callee(op)))
            program.steps.append(step)
            parts.update(zip(op.results, step.results, strict=True))
        elif op.name in ("tensor.collapse_shape", "tensor.expand_shape"):
            kind = TensorType.of(op.results[0])
            parts[op.results[0]] = Part(operands[0].root, operands[0].start, kind)
        elif op.name == "tensor.empty":
            parts[op.results[0]] = program.add_root(TensorType.of(op.results[0]))
        elif op.name == "tensor.extract_slice":
            parts[op.results[0]] = _sliced(op, operands[0])
        elif op.name == "func.return":
            program.results = operands
        else:
            raise LoweringError(f"{op.name} cannot stand in a caller of stage regions")
    return program


def _step(
    program: Program,
    op: ir.Operation,
    operands: list[Part],
    known: Mapping[str, ir.OpView],
    updates: Mapping[int, int],
) -> Step:
    """A call, with memory for its results."""
    found: dict[int, Part] = {}
    loop, kept = loop_of(known[callee(op)]), []
    if isinstance(loop, Scan):
        kept = histories(loop, known[loop.body])
        for history in kept:
            carry = TensorType.of(op.results[history.carry])
            whole = program.add_root(places_type(loop, carry))
            for result, start in history.starts(loop, carry.size).items():
                kind = TensorType.of(op.results[result])
                found[result] = Part(whole.root, start, kind)
    for result, argument in updates.items():
        found[result] = _updated(program, operands[argument], op.operands[argument])
    for number, result in enumerate(op.results):
        if number not in found:
            found[number] = program.add_root(TensorType.of(result))
    results = [found[number] for number in range(len(op.results))]
    return Step(callee(op), operands, results, str(op.location), kept, made_again(op))


def _updated(program: Program, part: Part, value: ir.Value) -> Part:
    """The memory of a value that a step stores pieces into.

    Raises:
        LoweringError: an argument's, or that of a value which others read as it was.
    """
    if part.root < program.arguments or not program.is_whole(part) or len(list(value.uses)) > 1:
        raise LoweringError(f"{part.type} is updated by a kernel, but others read it as it was")
    return part


def _sliced(op: ir.Operation, part: Part) -> Part:
    """The piece of memory that a slice names.

    Raises:
        LoweringError: the slice is not one piece.
    """
    offsets, sizes, strides = (
        list(ir.DenseI64ArrayAttr(op.attributes[f"static_{name}"]))
        for name in ("offsets", "sizes", "strides")
    )
    shape = part.type.shape
    cut = [i for i, extent in enumerate(shape) if sizes[i] != extent]
    outer = cut[-1] if cut else 0
    if any(size != 1 for size in sizes[:outer]) or any(stride != 1 for stride in strides):
        raise LoweringError(f"a slice of {sizes} from {part.type} is not one piece of memory")
    start, step = 0, 1
    for extent, offset in zip(reversed(shape), reversed(offsets), strict=True):
        start, step = start + offset * step, step * extent
    return Part(part.root, part.start + start, TensorType.of(op.results[0]))
