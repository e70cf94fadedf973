"""A template's kernel function taken apart: what is computed of its operands as they are loaded, its
op, and what is computed of its result.

The op is a product or the like. Each operand is an argument, or what a *prologue* makes of arguments:
loops before the op, over the operand's shape. Loops after it are its *epilogue*: those over the shape
of its result, and *statistics*: sums of that over all axes but the last, and loops over that axis.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mlir import ir

from .errors import RegionError
from .mlir import TensorType
from .region import Region, extents_of, iterators, read_stages


@dataclass(frozen=True)
class Prologue:
    """What stands before an operand.

    Attributes:
        arguments: the arguments of the function that it reads.
        region: over the operand's shape, its arguments being those; its one result is the operand.
    """

    arguments: tuple[ir.Value, ...]
    region: Region


@dataclass(frozen=True)
class TemplateKernel:
    """A template's kernel function.

    Attributes:
        op: the template op.
        arguments, results: of the function.
        prologues: operand number -> what makes it, where that is no argument.
        extras: the arguments that loops after the op read.
        epilogue: over the shape of the op's first result; its arguments are that and the extras.
        statistics: its kept axis is the last of that shape; its arguments are the op's first result,
            all values of the epilogue in order, and the extras.
        made: the values of the function that the epilogue, and those that the statistics return.
    """

    op: ir.Operation
    arguments: tuple[ir.Value, ...]
    results: tuple[ir.Value, ...]
    prologues: Mapping[int, Prologue]
    extras: tuple[ir.Value, ...]
    epilogue: Region
    statistics: Region | None
    made: tuple[tuple[ir.Value, ...], tuple[ir.Value, ...]]


def read_template(name: str, kind: str, function: ir.OpView) -> TemplateKernel:
    """The parts of a kernel function of the template op `keras.<kind>`.

    Raises:
        RegionError: other ops, or loops that fit neither before nor behind the template.
    """
    block = function.regions[0].blocks[0]
    found = [i for i, op in enumerate(block.operations) if _is_keras(op)]
    ops = list(block.operations)
    if len(found) != 1 or ops[found[0]].operation.name != f"keras.{kind}":
        names = [ops[i].operation.name for i in found]
        raise RegionError(f"{name}: a {kind} kernel holds one keras.{kind}, not {names}")
    op, arguments = ops[found[0]].operation, tuple(block.arguments)
    before, after = _generics(ops[: found[0]]), _generics(ops[found[0] :])
    shape = TensorType.of(op.results[0]).shape
    full = [stage for stage in after if _is_full(stage, shape)]
    folded = [stage for stage in after if stage not in full]
    extras = _read_by(after, arguments)
    results = tuple(ops[-1].operation.operands)
    made = [[stage.operation.results[0] for stage in stages] for stages in (full, folded)]
    kept = [tuple(value for value in results if value in values) for values in made]
    return TemplateKernel(
        op,
        arguments,
        results,
        _prologues(name, op, arguments, before),
        extras,
        _epilogue(name, op, extras, full, kept[0]),
        _statistics(name, shape, [op.results[0], *made[0], *extras], folded, kept[1]),
        (kept[0], kept[1]),
    )


def columns_first(shape: Sequence[int]) -> tuple[int, ...]:
    """The axes of a template's result in the order of its statistics: the last one, then the others."""
    return (len(shape) - 1, *range(len(shape) - 1))


def _is_keras(op: ir.OpView) -> bool:
    return bool(op.operation.name.startswith("keras."))


def _generics(ops: Sequence[ir.OpView]) -> list[ir.OpView]:
    return [op for op in ops if op.operation.name == "linalg.generic"]


def _is_full(stage: ir.OpView, shape: tuple[int, ...]) -> bool:
    return extents_of(stage) == shape and "reduction" not in iterators(stage)


def _read_by(stages: Sequence[ir.OpView], values: Sequence[ir.Value]) -> tuple[ir.Value, ...]:
    used = [value for stage in stages for value in list(stage.operation.operands)[:-1]]
    return tuple(value for value in values if value in used)


def _prologues(
    name: str, op: ir.Operation, arguments: Sequence[ir.Value], before: Sequence[ir.OpView]
) -> dict[int, Prologue]:
    found: dict[int, Prologue] = {}
    for number, operand in enumerate(op.operands):
        if operand in arguments:
            continue
        stages = _needed(operand, before)
        if not stages:
            raise RegionError(f"{name}: operand {number} is no argument, and no loop makes it")
        read = _read_by(stages, arguments)
        region = read_stages(f"{name} operand {number}", read, stages, [operand])
        if region.reduction or region.parallel != TensorType.of(operand).shape:
            raise RegionError(f"{name}: a prologue computes at the points of the operand")
        found[number] = Prologue(read, region)
    return found


def _needed(value: ir.Value, stages: Sequence[ir.OpView]) -> list[ir.OpView]:
    """The stages that a value is made by, in order."""
    wanted, needed = [value], []
    for stage in reversed(stages):
        if stage.operation.results[0] in wanted:
            needed.append(stage)
            wanted += list(stage.operation.operands)[:-1]
    return needed[::-1]


def _epilogue(
    name: str,
    op: ir.Operation,
    extras: Sequence[ir.Value],
    stages: Sequence[ir.OpView],
    kept: Sequence[ir.Value],
) -> Region:
    result = op.results[0]
    if stages:
        return read_stages(name, [result, *extras], stages, kept)
    types = tuple(TensorType.of(value) for value in (result, *extras))
    return Region(name, types[0].shape, (), types, (), (), (), {})


def _statistics(
    name: str,
    shape: tuple[int, ...],
    arguments: Sequence[ir.Value],
    stages: Sequence[ir.OpView],
    kept: Sequence[ir.Value],
) -> Region | None:
    if not stages:
        return None
    region = read_stages(name, arguments, stages, kept)
    if region.parallel + region.reduction != tuple(shape[axis] for axis in columns_first(shape)):
        raise RegionError(
            f"{name}: behind a template stand loops over its result and sums of its columns"
        )
    for stage in region.stages:
        if stage.kind == "reduce" and stage.combiner != "arith.addf":
            raise RegionError(f"{name}: {stage.combiner} folds columns; only sums can be partial")
        for read in stage.reads:
            inside = read.source == "stage" and region.stages[read.index].kind != "full"
            if stage.kind != "row" and inside:
                raise RegionError(f"{name}: a tile reads the sums of all tiles")
            tile = read.source == "argument" and not _is_argument(arguments[read.index])
            if stage.kind == "row" and tile:
                raise RegionError(f"{name}: a row reads elements of itself")
    return region


def _is_argument(value: ir.Value) -> bool:
    return isinstance(value.owner, ir.Block)
