"""What a step costs on any machine: bytes that must move, and floating-point operations.

A *floor* says what no fusion can save: the operands and results of every product, convolution and
attention once each, and the step's arguments and results once each (parameters and optimizer state
once in and once out). Pointwise work, norms, casts, changes of layout and residuals count nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod

from mlir import ir

from keras_triton.kernels import spec
from keras_triton.kernels.device import Device

from .dialect import walk
from .emit_triton.template import problem_of
from .errors import LoweringError
from .extern import Extern
from .loops import Scan, loop_of
from .mlir import TensorType, callee, functions, stage_of
from .operands import meetings
from .ops import CONTRACTIONS
from .plan import Call, Copy, Plan
from .region import Region, extents_of, kernel_kind, read_region
from .templates import read_template

# Calls of torch that are contractions, by a part of their name.
_TORCH_CONTRACTIONS = ("convolution", "conv", "mm", "attention")
# Ops that torch shows another view for, or knows with no memory.
_VIEWS = frozenset(
    f"keras.{name}"
    for name in ("reshape", "transpose", "slice", "broadcast_to", "broadcast_in_dim", "full")
)


@dataclass(frozen=True)
class Cost:
    """What one launch takes.

    Attributes:
        read, written: bytes of its operands and of its results, each once; of an operand that is looked
            up in, and of a result of which pieces are stored, those that are.
        flops: arithmetic operations; see `kernel_flops`.
        tensor_cores: products of half-precision numbers make them.
    """

    read: int
    written: int
    flops: int
    tensor_cores: bool

    @property
    def bytes(self) -> int:
        return self.read + self.written

    def seconds(self, device: Device) -> float:
        """The least time that a device's roofline allows it.

        Williams, Waterman and Patterson 2009, "Roofline: an insightful visual performance model".
        """
        peak = device.tensor_flops if self.tensor_cores else device.vector_flops
        return max(self.bytes / device.bandwidth, self.flops / peak)

    def __mul__(self, times: int) -> Cost:
        return Cost(self.read * times, self.written * times, self.flops * times, self.tensor_cores)


def cost_of(item: Call | Copy, plan: Plan) -> Cost:
    """What a launch of a plan takes."""
    if isinstance(item, Copy):
        return Cost(item.source.type.nbytes, item.target.type.nbytes, 0, False)
    split = len(item.operands) - item.outputs
    function = plan.kernels[item.kernel]
    region = read_region(function) if kernel_kind(function) == "loop" else None
    read, written = (
        sum(
            min(ref.type.nbytes, parts.get(i, ref.type.size) * ref.type.torch_dtype.itemsize)
            for i, ref in enumerate(operands)
        )
        for operands, parts in (
            (item.operands[:split], _read_in_part(region) if region else {}),
            (item.operands[split:], _stored_in_part(region) if region else {}),
        )
    )
    return Cost(read, written, kernel_flops(function), _uses_tensor_cores(function))


def _stored_in_part(region: Region) -> dict[int, int]:
    """Result -> how many elements of it are stored, of those that only pieces are stored of."""
    found: Counter[int] = Counter()
    for store in region.stores:
        if store.result in region.updates:
            found[store.result] += prod(region.stages[store.stage].type.shape)
    return found


def _read_in_part(region: Region) -> dict[int, int]:
    """Argument -> how many elements of it are looked up, of those arguments that are not read whole;
    none of one that pieces are stored into.
    """
    found: Counter[int] = Counter(dict.fromkeys(region.updates.values(), 0))
    for stage in region.stages:
        extents = region.parallel + (() if stage.kind == "row" else region.reduction)
        for lookup in stage.lookups.values():
            found[lookup.argument] += prod(extents)
    reads = (read for stage in region.stages for read in stage.reads)
    whole = {read.index for read in reads if read.source == "argument"}
    return {argument: count for argument, count in found.items() if argument not in whole}


def _uses_tensor_cores(function: ir.OpView) -> bool:
    return any(
        op.name in CONTRACTIONS and TensorType.of(op.operands[0]).dtype in ("bf16", "f16")
        for op in walk(function.operation)
    )


@dataclass(frozen=True)
class Floor:
    """What a step's graph asks for, in bytes, whatever its kernels are.

    Attributes:
        contractions: operands and results of products, convolutions and attention.
        state: the step's arguments and results: data, parameters, optimizer state.
        unfused: what the graph moves op by op, each op's operands and results once (views nothing).
        unfused_launches: how many ops that is.
    """

    contractions: int
    state: int
    unfused: int
    unfused_launches: int

    @property
    def bytes(self) -> int:
        """The floor."""
        return self.contractions + self.state


def floor_of(module: ir.Module) -> Floor:
    """The floor of a module of stage "keras", as it was imported.

    The body of a scan counts once an iteration; that of a while loop, whose count is not known, once.

    Raises:
        LoweringError: a module of another stage.
    """
    if stage_of(module) != "keras":
        raise LoweringError(
            f"the floor of a step is told by its module of stage 'keras', not {stage_of(module)!r}"
        )
    known = functions(module)
    contractions = unfused = launches = 0
    for op, times in _executed(known, "main", 1):
        moved = times * _moved(op)
        if op.name == "func.call" or op.name not in _VIEWS:
            unfused, launches = unfused + moved, launches + times
        if _contracts(op, known):
            contractions += moved
    main = known["main"].regions[0].blocks[0]
    returned = list(list(main.operations)[-1].operands)
    state = sum(map(_read_of, main.arguments)) + sum(map(_nbytes, returned))
    return Floor(contractions, state, unfused, launches)


def _read_of(argument: ir.Value) -> int:
    """Bytes of an argument; of a table that nothing else reads, those that it is looked up for."""
    uses = list(argument.uses)
    if not uses or any(use.owner.name != "keras.gather" or use.operand_number for use in uses):
        return _nbytes(argument)
    return min(_nbytes(argument), sum(_nbytes(use.owner.results[0]) for use in uses))


def _moved(op: ir.Operation) -> int:
    """Bytes of an op's operands and results; of a table, those that it is looked up for."""
    operands, results = (sum(map(_nbytes, values)) for values in (op.operands, op.results))
    if op.name == "keras.gather":
        table = _nbytes(op.operands[0])
        operands += min(table, results) - table
    return operands + results


def _nbytes(value: ir.Value) -> int:
    return TensorType.of(value).nbytes


def _executed(
    known: Mapping[str, ir.OpView], name: str, times: int
) -> Iterator[tuple[ir.Operation, int]]:
    """Every op that computes, with how often it runs."""
    for op in walk(known[name].operation):
        if op.name == "func.return":
            continue
        loop = loop_of(known[callee(op)]) if op.name == "func.call" else None
        if loop is None:
            yield op, times
            continue
        inner = times * loop.length if isinstance(loop, Scan) else times
        for body in loop.functions:
            yield from _executed(known, body, inner)


def _contracts(op: ir.Operation, known: Mapping[str, ir.OpView]) -> bool:
    if op.name != "func.call":
        return op.name in CONTRACTIONS
    extern = Extern.of(known[callee(op)])
    name = "" if extern is None else extern.target.split(".")[1]
    return any(part in name for part in _TORCH_CONTRACTIONS)


def kernel_flops(function: ir.OpView) -> int:
    """Arithmetic operations of one launch of a kernel (stage "regions").

    A multiply-add is two; a division or an exponential is one, as is each scalar op of a loop at each
    of its points, and for an operand that is made as it is loaded, each time that it is. What a template
    computes its own file says. Calls of torch count nothing.
    """
    return sum(_flops(op) for op in walk(function.operation)) + _made_again(function)


def _made_again(function: ir.OpView) -> int:
    """Operations on elements of operands that are made as they are loaded, but for the first time."""
    kind = kernel_kind(function)
    if not spec.has(kind) or not spec.get(kind).prologues:
        return 0
    parts, count = read_template("", kind, function), 0
    for number, made in parts.prologues.items():
        _met, loads = meetings(parts.op, number)
        bodies = (stage.block for stage in made.region.stages)
        each = sum(_is_arithmetic(op.operation) for body in bodies for op in body.operations)
        count += (loads - 1) * prod(made.region.parallel) * each
    return count


def _flops(op: ir.Operation) -> int:
    if op.name == "linalg.generic":
        return prod(extents_of(op.opview)) * sum(_is_arithmetic(inner) for inner in walk(op))
    kind = op.name.removeprefix("keras.")
    if not op.name.startswith("keras.") or not spec.has(kind):
        return 0
    return spec.get(kind).work(problem_of(op, kind)).flops


def _is_arithmetic(op: ir.Operation) -> bool:
    dialect, _, name = op.name.partition(".")
    return dialect == "math" or (dialect == "arith" and name != "constant")
