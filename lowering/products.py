"""A "products" kernel function, read: several matrix products that are one launch.

What hangs together by values made inside is an *instance*: products of equal operands' types, and the
loops behind them. Several products of one instance are added up, so one accumulator does for all. A
reduction that reads nothing but an instance's right operand adds up that operand's columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mlir import ir

from .dialect import attributes_of
from .errors import RegionError
from .indexing import map_dims
from .mlir import TensorType
from .region import iterators

PRODUCTS = ("keras.matmul", "keras.batch_matmul")
KINDS = ("matmul", "batch_matmul", "products")
"""The kernels that hold products and nothing else but loops."""
_ALLOWED = frozenset([*PRODUCTS, "linalg.generic", "linalg.fill", "tensor.empty", "arith.constant"])
_CASTS = frozenset(["arith.extf", "arith.truncf"])
_LINEAR = frozenset([*_CASTS, "arith.addf", "linalg.yield"])


@dataclass(frozen=True)
class Instance:
    """A part of a "products" kernel that depends on no other.

    Attributes:
        products: ops of equal attributes on operands of equal types.
        stages: the pointwise loops behind them, in order.
        results: what the kernel returns of those, in order.
        sums: what it returns of the sums of the right operand's columns; None if it asks for none.
    """

    products: tuple[ir.Operation, ...]
    stages: tuple[ir.OpView, ...]
    results: tuple[ir.Value, ...]
    sums: ir.Value | None


def read_products(function: ir.OpView) -> list[Instance]:
    """The instances of a kernel function of products.

    Raises:
        RegionError: the function is none, or one of its instances is not as described above.
    """
    block = function.regions[0].blocks[0]
    *ops, end = (op.operation for op in block.operations)
    if strange := {op.name for op in ops} - _ALLOWED:
        raise RegionError(f"a kernel of products holds no {min(strange)}")
    parts = _connected(ops)
    returned = list(end.operands)
    sums: dict[ir.Value, list[ir.Value]] = {}
    for part in parts:
        if not any(op.name in PRODUCTS for op in part):
            found = _column_sums(part)
            if found is None:
                raise RegionError("loops beside products add up columns")
            sums.setdefault(found[0], []).append(found[1])
    instances = []
    for part in parts:
        made = [op for op in part if op.name in PRODUCTS]
        if made:
            total = sums.get(made[0].operands[1], [])
            instances.append(_instance(part, made, returned, total.pop(0) if total else None))
    if not instances or any(sums.values()):
        raise RegionError("columns are added up of what is no product's right operand")
    told = {v for instance in instances for v in (*instance.results, instance.sums)}
    if set(returned) - told:
        raise RegionError("a kernel of products returns what its instances make")
    if len({instance.sums is None for instance in instances}) > 1:
        raise RegionError("columns are added up in some of the instances only")
    return instances


def _connected(ops: Sequence[ir.Operation]) -> list[list[ir.Operation]]:
    """The ops that depend on each other's results, directly or not, in order of their first."""
    parts: list[list[ir.Operation]] = []
    number: dict[ir.Operation, int] = {}
    for op in ops:
        mine = {number[v.owner] for v in op.operands if not isinstance(v.owner, ir.Block)}
        whole = [op, *(other for i in mine for other in parts[i])]
        for i in mine:
            parts[i] = []
        number |= dict.fromkeys(whole, len(parts))
        parts.append(whole)
    place = {op: i for i, op in enumerate(ops)}
    found = [sorted(part, key=place.__getitem__) for part in parts if part]
    return sorted(found, key=lambda part: place[part[0]])


def _instance(
    part: Sequence[ir.Operation],
    products: Sequence[ir.Operation],
    returned: Sequence[ir.Value],
    sums: ir.Value | None,
) -> Instance:
    kinds = {
        (op.name, str(attributes_of(op)), *(TensorType.of(value) for value in op.operands))
        for op in products
    }
    if len(kinds) > 1:
        raise RegionError("products of several shapes")
    stages = [op for op in part if op.name == "linalg.generic"]
    if any("reduction" in iterators(op.opview) for op in stages):
        raise RegionError("only pointwise loops stand behind products")
    if not all(isinstance(v.owner, ir.Block) for op in products for v in op.operands):
        raise RegionError("a product of what the kernel makes")
    inside = {value for op in (*products, *stages) for value in op.results}
    results = tuple(value for value in returned if value in inside)
    if len(products) > 1 and not _adds_up(products, stages, results):
        raise RegionError("products of one instance are added up, and not used otherwise")
    return Instance(tuple(products), tuple(op.opview for op in stages), results, sums)


def _adds_up(
    products: Sequence[ir.Operation], stages: Sequence[ir.Operation], results: Sequence[ir.Value]
) -> bool:
    """Whether the products count only through their sum: computed with 0 in place of all but one of
    them, and the sum in place of that one, everything comes out the same.
    """
    whole = frozenset(range(len(products)))
    within = {op.results[0]: frozenset([i]) for i, op in enumerate(products)}
    for stage in stages:
        block = stage.regions[0].blocks[0]
        for value, argument, indices in zip(
            stage.operands, block.arguments, stage.attributes["indexing_maps"], strict=True
        ):
            if value in within:
                within[argument] = within[value]
                if map_dims(indices) != tuple(range(TensorType.of(value).rank)):
                    return False
        for op in (view.operation for view in block.operations):
            terms = [within[value] for value in op.operands if value in within]
            together = frozenset().union(*terms)
            if terms and (op.name not in _LINEAR or sum(map(len, terms)) > len(together)):
                return False
            if terms and together != whole:
                within[(stage if op.name == "linalg.yield" else op).results[0]] = together
    return not any(value in within for value in results)


def column_sums(function: ir.OpView) -> dict[ir.Value, ir.Value] | None:
    """For each value that a kernel returns the argument whose columns it adds up: the trailing axes
    are kept, in order. None if the kernel does anything else.
    """
    *ops, end = (view.operation for view in function.regions[0].blocks[0].operations)
    made: dict[ir.Value, ir.Value] = {}
    for part in _connected(ops):
        found = _column_sums(part)
        if found is None:
            return None
        made[found[1]] = found[0]
    return made if set(end.operands) <= made.keys() else None


def _column_sums(part: Sequence[ir.Operation]) -> tuple[ir.Value, ir.Value] | None:
    """(argument, sums) of ops that add up an argument's columns and at most cast what comes out."""
    first, *casts = [op for op in part if op.name == "linalg.generic"] or [None]
    if first is None or len(first.operands) != 2:
        return None
    kinds = iterators(first.opview)
    parallel, rank = kinds.count("parallel"), len(kinds)
    indices = map_dims(first.attributes["indexing_maps"][0])
    body = [op.operation.name for op in first.regions[0].blocks[0].operations]
    adds = body[-2:] == ["arith.addf", "linalg.yield"] and not set(body[:-2]) - _CASTS
    if not adds or parallel == rank or indices != (*range(parallel, rank), *range(parallel)):
        return None
    value = first.results[0]
    for op in casts:
        names = {inner.operation.name for inner in op.regions[0].blocks[0].operations}
        if names - {*_CASTS, "linalg.yield"} or op.operands[0] != value:
            return None
        value = op.results[0]
    return (first.operands[0], value) if isinstance(first.operands[0].owner, ir.Block) else None
