"""A plan as the runtime takes it: dataclasses read from a module of stage "plan"."""

from __future__ import annotations

from dataclasses import dataclass

from mlir import ir

from .errors import DialectError
from .mlir import TensorType, functions, layer_of, stage_of


@dataclass(frozen=True)
class Ref:
    """A contiguous piece of memory.

    Attributes:
        base: "argument", "output" or "arena".
        index: which argument or output (0 for the arena).
        offset: in bytes from the base's start.
        type: shape and dtype of what lies there.
        whole: it is its base, in shape and extent.
    """

    base: str
    index: int
    offset: int
    type: TensorType
    whole: bool


@dataclass(frozen=True)
class PlanArg:
    """An argument of the step; `donated` is the result that it holds afterwards, None if it
    stays.
    """

    name: str
    type: TensorType
    donated: int | None


@dataclass(frozen=True)
class Call:
    """A launch of a kernel or extern; the last `outputs` operands are written."""

    kernel: str
    operands: tuple[Ref, ...]
    outputs: int
    layer: str


@dataclass(frozen=True)
class Copy:
    """A copy of `source` to `target`, of equal types."""

    source: Ref
    target: Ref
    layer: str


@dataclass(frozen=True)
class Plan:
    """A step's launches.

    Attributes:
        arguments: of the step; those that are donated are updated in place.
        outputs: the types of the results that are no argument's new value, in order.
        arena_bytes: memory for temporaries; offsets in it are multiples of 64.
        steps: in order of execution.
        kernels: the function of every kernel that is called (regions stage), and of every extern
        its
            declaration, which carries `keras.extern`.
        module: what the plan was read from; the bindings free a module under the feet of functions
            that were taken from it, so it must live as long as they do.
    """

    arguments: tuple[PlanArg, ...]
    outputs: tuple[TensorType, ...]
    arena_bytes: int
    steps: tuple[Call | Copy, ...]
    kernels: dict[str, ir.OpView]
    module: ir.Module


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
    return _Reader(declared.pop("main"), declared, kernels).plan(module)


class _Reader:
    def __init__(
        self, main: ir.OpView, declared: dict[str, ir.OpView], kernels: dict[str, ir.OpView]
    ) -> None:
        self.main, self.declared, self.kernels = main, declared, kernels
        self.refs: dict[ir.Value, Ref] = {}
        self.offsets: dict[ir.Value, int] = {}
        self.steps: list[Call | Copy] = []

    def plan(self, module: ir.Module) -> Plan:
        arguments: list[PlanArg] = []
        outputs: list[TensorType] = []
        block = self.main.regions[0].blocks[0]
        *values, arena = block.arguments
        entries = self.main.operation.attributes["arg_attrs"]
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
        for view in block.operations:
            self._read(view.operation)
        called = {step.kernel for step in self.steps if isinstance(step, Call)}
        kernels = {
            name: op for name, op in (self.declared | self.kernels).items() if name in called
        }
        return Plan(
            tuple(arguments), tuple(outputs), room.nbytes, tuple(self.steps), kernels, module
        )

    def _read(self, op: ir.Operation) -> None:
        if op.name == "arith.constant":
            self.offsets[op.results[0]] = ir.IntegerAttr(op.attributes["value"]).value
        elif op.name == "memref.view":
            kind = TensorType.of(op.results[0])
            self.refs[op.results[0]] = Ref("arena", 0, self.offsets[op.operands[1]], kind, False)
        elif op.name in ("memref.collapse_shape", "memref.expand_shape"):
            self._view(op, 0)
        elif op.name == "memref.reinterpret_cast":
            (start,) = ir.DenseI64ArrayAttr(op.attributes["static_offsets"])
            self._view(op, start)
        elif op.name == "memref.copy":
            source, target = (self.refs[value] for value in op.operands)
            self.steps.append(Copy(source, target, layer_of(op)))
        elif op.name == "func.call":
            kernel = ir.FlatSymbolRefAttr(op.attributes["callee"]).value
            count = ir.IntegerAttr(
                self.declared[kernel].operation.attributes["keras.outputs"]
            ).value
            operands = tuple(self.refs[value] for value in op.operands)
            self.steps.append(Call(kernel, operands, count, layer_of(op)))
        elif op.name != "func.return":
            raise DialectError(f"{op.name} has no place in a plan (layer {layer_of(op) or '?'})")

    def _view(self, op: ir.Operation, start: int) -> None:
        """The operand's memory from element `start` on, in another shape."""
        source, kind = self.refs[op.operands[0]], TensorType.of(op.results[0])
        offset = source.offset + start * kind.torch_dtype.itemsize
        self.refs[op.results[0]] = Ref(source.base, source.index, offset, kind, False)
