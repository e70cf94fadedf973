"""Reads a module of stage "plan" into the dataclasses of plan.py.

Inside a loop, memory is named as the loop sees it: an operand, or something that moves. Where moving
memory is in each iteration is worked out here, once, so that a run only looks it up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mlir import ir

from .errors import DialectError
from .memory.fit import made_again
from .mlir import TensorType, callee, functions, layer_of, stage_of
from .plan import Call, Copy, Loop, Plan, PlanArg, Ref, Step, While, walk

DYNAMIC = -(1 << 63)
"""How MLIR spells an offset that an operand gives."""


def read_plan(module: ir.Module) -> Plan:
    """The plan that a module of stage "plan" spells.

    Raises:
        DialectError: a module of another stage, or an op that no plan holds.
    """
    if stage_of(module) != "plan":
        raise DialectError(
            f"a plan is read from a module of stage 'plan', not {stage_of(module)!r}"
        )
    parts = {ir.StringAttr(op.attributes["sym_name"]).value: op for op in module.body.operations}
    kernels, declared = functions(parts["kernels"]), functions(parts["plan"])
    main = declared.pop("main")
    reader = _Reader({name: output_count(function) for name, function in declared.items()})
    arguments, outputs, room = reader.bind(main)
    steps = reader.read(main.regions[0].blocks[0])
    called = {step.kernel for step, _ in walk(steps) if isinstance(step, Call)}
    found = {name: op for name, op in (declared | kernels).items() if name in called}
    return Plan(arguments, outputs, room.nbytes, steps, found, module)


def output_count(function: ir.OpView) -> int:
    """How many operands of a declared kernel are written, the last ones."""
    return ir.IntegerAttr(function.operation.attributes["keras.outputs"]).value


class _Reader:
    """Reads one block: what its values name."""

    def __init__(self, outputs: dict[str, int]) -> None:
        """`outputs`: how many operands of each kernel are written."""
        self.outputs = outputs
        self.refs: dict[ir.Value, Ref] = {}
        self.indices: dict[ir.Value, tuple[int, int]] = {}  # (times the iteration, plus)

    def bind(
        self, main: ir.OpView
    ) -> tuple[tuple[PlanArg, ...], tuple[TensorType, ...], TensorType]:
        """Names the memory that `@main` is given: arguments, outputs, and the arena."""
        arguments: list[PlanArg] = []
        outputs: list[TensorType] = []
        *values, arena = main.regions[0].blocks[0].arguments
        # A function of no arguments at all has none that says anything.
        attributes = main.operation.attributes
        entries = attributes["arg_attrs"] if "arg_attrs" in attributes else [{}] * len(values)
        for value, entry in zip(values, entries, strict=False):
            kind = TensorType.of(value)
            if "keras.name" in entry:
                donated = (
                    ir.IntegerAttr(entry["keras.donated"]).value
                    if "keras.donated" in entry
                    else None
                )
                self.refs[value] = Ref("argument", len(arguments), 0, kind, True)
                arguments.append(PlanArg(ir.StringAttr(entry["keras.name"]).value, kind, donated))
            else:
                self.refs[value] = Ref("output", len(outputs), 0, kind, True)
                outputs.append(kind)
        room = TensorType.of(arena)
        self.refs[arena] = Ref("arena", 0, 0, room, True)
        return tuple(arguments), tuple(outputs), room

    def read(self, block: ir.Block) -> tuple[Step, ...]:
        """The block's steps."""
        steps = (self._read(view.operation) for view in block.operations)
        return tuple(step for step in steps if step is not None)

    def ref(self, value: ir.Value) -> Ref:
        """The memory that a value names, as this block sees it."""
        if value not in self.refs:
            raise DialectError(f"{value} names no memory of the plan")
        return self.refs[value]

    def index(self, value: ir.Value) -> tuple[int, int]:
        """An index as (factor, addend) of the iteration's number."""
        if value not in self.indices:
            raise DialectError(f"{value} is no index that follows from the iteration's number")
        return self.indices[value]

    def _read(self, op: ir.Operation) -> Step | None:
        """The step that an op is; None for an op that only names memory."""
        if op.name in _NAMING:
            _NAMING[op.name](self, op)
        elif op.name == "memref.copy":
            source, target = (self.ref(value) for value in op.operands)
            return Copy(source, target, layer_of(op))
        elif op.name == "func.call":
            operands = tuple(self.ref(value) for value in op.operands)
            outputs, again = self.outputs[callee(op)], made_again(op)
            return Call(callee(op), operands, outputs, layer_of(op), again)
        elif op.name == "scf.for":
            return self._for(op)
        elif op.name == "scf.while":
            return self._while(op)
        elif op.name not in ("func.return", "scf.yield", "scf.condition", "memref.load"):
            raise DialectError(f"{op.name} has no place in a plan (layer {layer_of(op) or '?'})")
        return None

    def _constant(self, op: ir.Operation) -> None:
        self.indices[op.results[0]] = (0, ir.IntegerAttr(op.attributes["value"]).value)

    def _sum(self, op: ir.Operation) -> None:
        (a, b), (c, d) = (self.index(value) for value in op.operands)
        sign = -1 if op.name == "arith.subi" else 1
        self.indices[op.results[0]] = (a + sign * c, b + sign * d)

    def _arena_view(self, op: ir.Operation) -> None:
        _, start = self.index(op.operands[1])
        self._name(op, self.ref(op.operands[0]), start)

    def _reshape(self, op: ir.Operation) -> None:
        self._name(op, self.ref(op.operands[0]), 0)

    def _cast(self, op: ir.Operation) -> None:
        self.refs[op.results[0]] = self.ref(op.operands[0])

    def _subview(self, op: ir.Operation) -> None:
        """A piece at fixed offsets; or, along the first axis, at the iteration's place."""
        source = self.ref(op.operands[0])
        offsets = list(ir.DenseI64ArrayAttr(op.attributes["static_offsets"]))
        factor, first = self.index(op.operands[1]) if DYNAMIC in offsets else (0, offsets[0])
        if any(offset != 0 for offset in offsets[1:]):
            raise DialectError("a plan cuts pieces along the first axis only")
        kind = TensorType.of(op.operands[0])
        row = kind.nbytes // kind.shape[0]
        self._name(op, self.moved(source, factor * row), first * row)

    def _name(self, op: ir.Operation, source: Ref, start: int) -> None:
        """The result is the source's memory from byte `start` on."""
        kind = TensorType.of(op.results[0])
        self.refs[op.results[0]] = replace(
            source, offset=source.offset + start, type=kind, whole=False
        )

    def moved(self, source: Ref, step: int) -> Ref:
        """Memory that begins `step` bytes further in each iteration."""
        if step:
            raise DialectError("memory moves within a loop only")
        return source

    def _for(self, op: ir.Operation) -> Loop:
        (_, low), (_, high), (_, step) = (self.index(value) for value in list(op.operands)[:3])
        if (low, step) != (0, 1):
            raise DialectError(f"a plan's loops count from 0 by 1, not from {low} by {step}")
        inner = _LoopReader(self, high)
        block = op.regions[0].blocks[0]
        iteration, *carried = block.arguments
        inner.indices[iteration] = (1, 0)
        first = [inner.ref(value) for value in list(op.operands)[3:]]
        for value in carried:
            inner.refs[value] = inner.new_moving(TensorType.of(value))
        steps = inner.read(block)
        yielded = list(list(block.operations)[-1].operation.operands)
        last = inner.carry(first, [inner.refs[v] for v in carried], [inner.ref(v) for v in yielded])
        for result, (operand, offset) in zip(op.results, last, strict=True):
            around = inner.operands[operand]
            kind = TensorType.of(result)
            self.refs[result] = replace(
                around, offset=around.offset + offset, type=kind, whole=False
            )
        moving = tuple(map(tuple, inner.moving))
        return Loop(high, tuple(inner.operands), moving, steps, layer_of(op))

    def _while(self, op: ir.Operation) -> While:
        inner = _LoopReader(self, 1)
        before, after = (region.blocks[0] for region in op.regions)
        condition = inner.read(before)
        loaded = list(before.operations)[-1].operation.operands[0].owner
        flag = inner.ref(loaded.operands[0])
        steps = inner.read(after)
        return While(tuple(inner.operands), condition, flag, steps, layer_of(op))


class _LoopReader(_Reader):
    """Reads the body of a loop; memory from around it becomes an operand when it is first met."""

    def __init__(self, around: _Reader, count: int) -> None:
        super().__init__(around.outputs)
        self.around, self.count = around, count
        self.operands: list[Ref] = []
        self.moving: list[list[tuple[int, int]]] = []

    def ref(self, value: ir.Value) -> Ref:
        if value not in self.refs:
            around = self.around.ref(value)
            if around not in self.operands:
                self.operands.append(around)
            number = self.operands.index(around)
            self.refs[value] = Ref("operand", number, 0, around.type, True)
        return self.refs[value]

    def index(self, value: ir.Value) -> tuple[int, int]:
        if value not in self.indices:
            factor, addend = self.around.index(value)
            if factor:
                raise DialectError("a loop's places follow from its own iterations")
            return 0, addend
        return self.indices[value]

    def new_moving(self, kind: TensorType) -> Ref:
        """Memory of which it is not yet known how it moves."""
        self.moving.append([])
        return Ref("moving", len(self.moving) - 1, 0, kind, True)

    def moved(self, source: Ref, step: int) -> Ref:
        if not step:
            return source
        if source.base != "operand":
            raise DialectError("what moves already is cut at fixed places only")
        made = self.new_moving(source.type)
        self.moving[made.index] = [
            (source.index, source.offset + step * i) for i in range(self.count)
        ]
        return made

    def carry(
        self, first: Sequence[Ref], inside: Sequence[Ref], yielded: Sequence[Ref]
    ) -> list[tuple[int, int]]:
        """Works out where carried memory is in each iteration; returns where it is after the last."""
        now = [self._at(ref, 0) for ref in first]
        for i in range(self.count):
            for ref, place in zip(inside, now, strict=True):
                self.moving[ref.index].append(place)
            now = [self._at(ref, i) for ref in yielded]
        return now

    def _at(self, ref: Ref, iteration: int) -> tuple[int, int]:
        if ref.base == "operand":
            return ref.index, ref.offset
        operand, offset = self.moving[ref.index][iteration]
        return operand, offset + ref.offset


_NAMING = {
    "arith.constant": _Reader._constant,
    "arith.addi": _Reader._sum,
    "arith.subi": _Reader._sum,
    "memref.view": _Reader._arena_view,
    "memref.collapse_shape": _Reader._reshape,
    "memref.expand_shape": _Reader._reshape,
    "memref.cast": _Reader._cast,
    "memref.subview": _Reader._subview,
}
