"""A "gates" kernel function, read: a product of which loops read equal blocks of columns at once.

The product stands first, and loops over one block read it only at their own place in each block. The
kernel returns what the loops make, and the product too if somebody else reads it.
"""

from __future__ import annotations

from dataclasses import dataclass

from mlir import ir

from .errors import RegionError
from .indexing import Dims, terms
from .region import Region, read_stages

KIND = "gates"


@dataclass(frozen=True)
class Gates:
    """The parts of a kernel of gates.

    Attributes:
        product: the op.
        count: the blocks of columns.
        extras: the arguments that the loops read.
        region: the loops; its arguments are the product and the extras.
        keeps: whether the kernel returns the product.
    """

    product: ir.Operation
    count: int
    extras: tuple[ir.Value, ...]
    region: Region
    keeps: bool


def read_gates(name: str, function: ir.OpView) -> Gates:
    """The parts of a kernel function of gates.

    Raises:
        RegionError: the function is none; the sentence says why.
    """
    block = function.regions[0].blocks[0]
    *ops, end = (view.operation for view in block.operations)
    products = [op for op in ops if op.name.startswith("keras.")]
    if len(products) != 1 or products[0].name != "keras.matmul":
        raise RegionError(f"{name}: a kernel of gates holds one product")
    (product,), arguments = products, list(block.arguments)
    if any(operand not in arguments for operand in product.operands):
        raise RegionError(f"{name}: a product of what the kernel makes")
    stages = [op for op in ops if op.name == "linalg.generic"]
    read = [value for stage in stages for value in list(stage.operands)[:-1]]
    extras = tuple(value for value in arguments if value in read)
    made = product.results[0]
    kept = [value for value in end.operands if value != made]
    region = read_stages(name, [made, *extras], [op.opview for op in stages], kept)
    count = _blocks(name, region)
    return Gates(product, count, extras, region, len(kept) < len(end.operands))


def _blocks(name: str, region: Region) -> int:
    """How many blocks the columns of a region's first argument are."""
    whole = region.arguments[0].shape
    if region.reduction or region.updates or region.looked_up or len(region.parallel) != 2:
        raise RegionError(f"{name}: gates are pointwise loops over rows and units")
    rows, units = region.parallel
    if whole[0] != rows or units == 0 or whole[1] % units:
        raise RegionError(f"{name}: {whole} is not made of blocks of {region.parallel}")
    reads = [
        read
        for stage in region.stages
        for read in stage.reads
        if (read.source, read.index) == ("argument", 0)
    ]
    if any(block_of(read.dims, units) is None for read in reads):
        raise RegionError(f"{name}: a gate reads the product at its own place in a block")
    return whole[1] // units


def block_of(dims: Dims, units: int) -> int | None:
    """Which block of `units` columns a read over (row, unit) is of; None if it is of none."""
    (row, *_), (column, step, start) = terms(dims[0]), terms(dims[1])
    if (row, column, step) != (0, 1, 1) or start % units:
        return None
    return start // units


def is_product(function: ir.OpView) -> bool:
    """Whether a kernel function is of one product alone, of two matrices as they are."""
    ops = [view.operation for view in function.regions[0].blocks[0].operations]
    if len(ops) != 2 or ops[0].name != "keras.matmul":
        return False
    return not any(_flag(ops[0], name) for name in ("transpose_a", "transpose_b"))


def _flag(op: ir.Operation, name: str) -> bool:
    return ir.BoolAttr(op.attributes[name]).value
