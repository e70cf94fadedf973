"""Structured ops on tensors: `linalg.generic` over its whole iteration domain at once, and kin."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from mlir import ir

from ..errors import DialectError
from ..mlir import TensorType, layer_of
from .body import constant_tensor, evaluate_scalar
from .values import Environment

Tensor = torch.Tensor
Tensors = Sequence[Tensor]


def _over(function: Callable[[Tensor, int], Tensor]) -> Callable[[Tensor, Sequence[int]], Tensor]:
    def reduce(x: Tensor, dims: Sequence[int]) -> Tensor:
        for dim in sorted(dims, reverse=True):
            x = function(x, dim)
        return x

    return reduce


# What folds many values, and what folds the result into the accumulator.
COMBINERS: dict[str, tuple[Callable, Callable]] = {
    "arith.addf": (lambda x, dims: x.sum(tuple(dims)), torch.add),
    "arith.mulf": (_over(lambda x, dim: x.prod(dim)), torch.mul),
    "arith.maximumf": (lambda x, dims: x.amax(tuple(dims)), torch.maximum),
    "arith.minimumf": (lambda x, dims: x.amin(tuple(dims)), torch.minimum),
    "arith.addi": (lambda x, dims: x.long().sum(tuple(dims)), torch.add),
    "arith.muli": (_over(lambda x, dim: x.long().prod(dim)), torch.mul),
    "arith.maxsi": (lambda x, dims: x.amax(tuple(dims)), torch.maximum),
    "arith.minsi": (lambda x, dims: x.amin(tuple(dims)), torch.minimum),
    "arith.andi": (
        _over(lambda x, dim: _fold(torch.bitwise_and, x, dim)),
        torch.bitwise_and,
    ),
    "arith.ori": (_over(lambda x, dim: _fold(torch.bitwise_or, x, dim)), torch.bitwise_or),
}


def _fold(function: Callable[[Tensor, Tensor], Tensor], x: Tensor, dim: int) -> Tensor:
    parts = x.unbind(dim)
    made = parts[0]
    for part in parts[1:]:
        made = function(made, part)
    return made


def generic(op: ir.Operation, operands: Tensors, around: Environment) -> list[Tensor]:
    """Evaluates the body, each of its arguments a tensor that broadcasts to the domain."""
    maps = [ir.AffineMapAttr(item).value for item in op.attributes["indexing_maps"]]
    outputs = len(op.results)
    reductions = [
        dim for dim, kind in enumerate(op.attributes["iterator_types"]) if "reduction" in str(kind)
    ]
    extents = _extents(maps, operands)
    block = op.regions[0].blocks[0]
    arguments = list(block.arguments)
    env = Environment(around.number, around)
    for argument, tensor, indexing in zip(arguments, operands, maps, strict=True):
        if not (reductions and argument in arguments[-outputs:]):
            env[argument] = _over_domain(tensor, indexing, extents)
    *body, end = (view.operation for view in block.operations)
    accumulators = arguments[-outputs:] if reductions else []
    folds = [_fold_of(value, accumulators) for value in end.operands] if reductions else []
    for inner in body:
        if any(inner == fold for fold, _ in folds):
            continue
        _step(inner, env, extents)
    if not reductions:
        return [
            _to_result(env[value].broadcast_to(extents), indexing)
            for value, indexing in zip(end.operands, maps[-outputs:], strict=True)
        ]
    return [
        _reduced(fold.name, env[value].broadcast_to(extents), init, indexing, reductions)
        for (fold, value), init, indexing in zip(
            folds, operands[-outputs:], maps[-outputs:], strict=True
        )
    ]


def _step(op: ir.Operation, env: Environment, extents: Sequence[int]) -> None:
    if op.name == "linalg.index":
        dim = ir.IntegerAttr(op.attributes["dim"]).value
        env[op.results[0]] = _iota(dim, extents)
        return
    if op.name == "tensor.extract":
        tensor, *places = (env[value] for value in op.operands)
        env[op.results[0]] = tensor[tuple(places)] if places else tensor
        return
    operands = [env[value] for value in op.operands]
    for result, value in zip(op.results, evaluate_scalar(op, operands, env.number), strict=True):
        env[result] = value


def _iota(dim: int, extents: Sequence[int]) -> Tensor:
    shape = [-1 if i == dim else 1 for i in range(len(extents))]
    return torch.arange(extents[dim]).reshape(shape)


def _extents(maps: Sequence[ir.AffineMap], operands: Tensors) -> list[int]:
    known: dict[int, int] = {}
    for indexing, tensor in zip(maps, operands, strict=True):
        for expression, extent in zip(indexing.results, tensor.shape, strict=True):
            if isinstance(expression, ir.AffineDimExpr):
                known[expression.position] = extent
    for dim in range(maps[0].n_dims):
        if dim not in known:
            raise DialectError(f"no operand fixes the extent of dim {dim} of a generic")
    return [known[dim] for dim in range(maps[0].n_dims)]


def _over_domain(tensor: Tensor, indexing: ir.AffineMap, extents: Sequence[int]) -> Tensor:
    """The operand's elements at the points of the domain, broadcasting where it does not vary."""
    expressions = list(indexing.results)
    if all(isinstance(item, ir.AffineDimExpr | ir.AffineConstantExpr) for item in expressions):
        dims: list[int] = []
        for axis in range(len(expressions) - 1, -1, -1):
            item = expressions[axis]
            if isinstance(item, ir.AffineConstantExpr):
                tensor = tensor.select(axis, item.value)
            else:
                dims.insert(0, item.position)
        if len(set(dims)) == len(dims):
            ordered = tensor.permute(sorted(range(len(dims)), key=dims.__getitem__))
            sizes = dict(zip(sorted(dims), ordered.shape, strict=True))
            return ordered.reshape([sizes.get(dim, 1) for dim in range(len(extents))])
        raise DialectError(f"{indexing} reads one dim through two axes")
    return tensor[tuple(_affine(item, extents) for item in expressions)]


def _affine(expression: ir.AffineExpr, extents: Sequence[int]) -> Tensor:
    if isinstance(expression, ir.AffineConstantExpr):
        return torch.tensor(expression.value)
    if isinstance(expression, ir.AffineDimExpr):
        return _iota(expression.position, extents)
    kinds: dict[Any, Callable[[Tensor, Tensor], Tensor]] = {
        ir.AffineAddExpr: torch.add,
        ir.AffineMulExpr: torch.mul,
        ir.AffineModExpr: torch.remainder,
        ir.AffineFloorDivExpr: torch.floor_divide,
    }
    for kind, function in kinds.items():
        if isinstance(expression, kind):
            return function(_affine(expression.lhs, extents), _affine(expression.rhs, extents))
    raise DialectError(f"the index {expression} is not interpreted")


def _to_result(value: Tensor, indexing: ir.AffineMap) -> Tensor:
    """From domain order to the result's axes."""
    dims = [item.position for item in indexing.results if isinstance(item, ir.AffineDimExpr)]
    if len(dims) != len(list(indexing.results)) or len(dims) != value.dim():
        raise DialectError(f"a parallel generic writes through a permutation, not {indexing}")
    return value.permute(dims)


def _fold_of(yielded: ir.Value, accumulators: Sequence[ir.Value]) -> tuple[ir.Operation, ir.Value]:
    """The op that folds into an accumulator, and the value it folds in."""
    owner = yielded.owner
    operands = [] if isinstance(owner, ir.Block) else list(owner.operands)
    if not operands or owner.name not in COMBINERS or len(operands) != 2:
        raise DialectError(f"a reduction yields one of {', '.join(COMBINERS)} on its accumulator")
    left, right = operands
    if left not in accumulators and right not in accumulators:
        raise DialectError(f"{owner.name} does not fold into an accumulator of the reduction")
    return owner.operation, right if left in accumulators else left


def _reduced(
    combiner: str,
    value: Tensor,
    init: Tensor,
    indexing: ir.AffineMap,
    reductions: Sequence[int],
) -> Tensor:
    over, fold = COMBINERS[combiner]
    kept = [dim for dim in range(value.dim()) if dim not in reductions]
    made = over(value, reductions)
    order = [kept.index(item.position) for item in indexing.results]
    return fold(init, made.permute(order).to(init.dtype))


def _fill(op: ir.Operation, operands: Tensors, env: Environment) -> list[Tensor]:
    value, init = operands
    return [value.to(init.dtype).expand(init.shape)]


def _empty(op: ir.Operation, operands: Tensors, env: Environment) -> list[Tensor]:
    """Unset memory reads as NaN (or a large number), so that a use of it shows."""
    kind = TensorType.of(op.results[0])
    unset = float("nan") if kind.is_float else 77
    return [torch.full(kind.shape, unset, dtype=env.number.of(kind.dtype))]


def _ints(op: ir.Operation, name: str) -> list[int]:
    values = list(ir.DenseI64ArrayAttr(op.attributes[name]))
    if any(value < 0 and value == -(1 << 63) for value in values):
        raise DialectError(f"{op.name} with dynamic {name} (layer {layer_of(op) or '?'})")
    return values


def _window(op: ir.Operation) -> tuple[slice, ...]:
    bounds = zip(
        *(_ints(op, f"static_{name}") for name in ("offsets", "sizes", "strides")), strict=True
    )
    return tuple(slice(start, start + size * step, step) for start, size, step in bounds)


def _extract_slice(op: ir.Operation, operands: Tensors, env: Environment) -> list[Tensor]:
    return [operands[0][_window(op)].reshape(TensorType.of(op.results[0]).shape)]


def _insert_slice(op: ir.Operation, operands: Tensors, env: Environment) -> list[Tensor]:
    source, target = operands
    made = target.clone()
    window = made[_window(op)]
    window.copy_(source.reshape(window.shape))
    return [made]


def _concat(op: ir.Operation, operands: Tensors, env: Environment) -> list[Tensor]:
    return [torch.cat(list(operands), ir.IntegerAttr(op.attributes["dim"]).value)]


def _pad(op: ir.Operation, operands: Tensors, env: Environment) -> list[Tensor]:
    low, high = _ints(op, "static_low"), _ints(op, "static_high")
    yielded = list(op.regions[0].blocks[0].operations)[-1].operation.operands[0]
    value = operands[1] if len(operands) > 1 else _padding(yielded)
    flat = [n for a, b in reversed(list(zip(low, high, strict=True))) for n in (a, b)]
    return [torch.nn.functional.pad(operands[0], flat, value=value.item())]


def _padding(yielded: ir.Value) -> Tensor:
    """The constant that a tensor.pad's body yields, from inside it or from around it."""
    owner = yielded.owner
    if isinstance(owner, ir.Block) or owner.name != "arith.constant":
        raise DialectError("tensor.pad with other than a constant is not interpreted")
    return constant_tensor(owner.operation.attributes["value"])


LINALG: dict[str, Callable[..., list[Tensor]]] = {
    "linalg.generic": generic,
    "linalg.fill": _fill,
    "tensor.empty": _empty,
    "tensor.extract_slice": _extract_slice,
    "tensor.insert_slice": _insert_slice,
    "tensor.concat": _concat,
    "tensor.pad": _pad,
}
