"""`keras.scatter` for the CPU: updates folded into the rows of a table, in their order.

Threads share out the columns and each goes through all updates: no two write one element, and what an
element becomes does not depend on how many there are.
"""

from __future__ import annotations

from dataclasses import dataclass

from mlir import ir

from ..dialect import attributes_of
from ..linalg.rules import FOLDS
from ..mlir import TensorType
from . import body as cpu_body
from .text import Code

# A cache line of float32: threads that share one would wait for each other.
COLUMNS = 16


@dataclass(frozen=True)
class Scatter:
    """A kernel function of one `keras.scatter`.

    Attributes:
        updates, indices: which argument of the function each operand is.
        update: the type of the updates as [indices, columns].
        index: the element type of the indices.
        rows: of the result.
        combiner: the op that folds.
    """

    updates: int
    indices: int
    update: TensorType
    index: str
    rows: int
    combiner: str

    @property
    def count(self) -> int:
        """How many updates there are."""
        return self.update.shape[0]

    @property
    def columns(self) -> int:
        return self.update.shape[1]

    def write(self, code: Code, low: str, high: str) -> None:
        """The code of columns low..high, given the kernel's table of addresses as %table."""
        updates, indices, result = (
            self._pointer(code, slot) for slot in (self.updates, self.indices, 2)
        )
        dtype = self.update.dtype
        kind = cpu_body.stored_kind(dtype)
        start = cpu_body.neutral(code, self.combiner, dtype)
        with code.loop(code.integer(0), code.integer(self.rows)) as row:
            first = code.mul(row, self.columns)
            with code.loop(low, high, parallel=True) as column:
                code.store(start, code.element(result, code.add(first, column), kind), kind)
        with code.loop(code.integer(0), code.integer(self.count)) as number:
            row = code.load(code.element(indices, number, self.index), self.index)
            if self.index != "i64":
                row = code.let(f"arith.extsi {row} : {self.index} to i64")
            inside = code.let(f"arith.cmpi ult, {row}, {code.integer(self.rows)} : i64")
            code.line(f"scf.if {inside} {{")
            source, target = code.mul(number, self.columns), code.mul(row, self.columns)
            with code.loop(low, high, parallel=True) as column:
                update = code.load(code.element(updates, code.add(source, column), kind), kind)
                place = code.element(result, code.add(target, column), kind)
                total = code.load(place, kind)
                code.store(cpu_body.fold(code, self.combiner, dtype, total, update), place, kind)
            code.line("}")

    @staticmethod
    def _pointer(code: Code, slot: int) -> str:
        entry = f"llvm.getelementptr %table[{slot}] : (!llvm.ptr) -> !llvm.ptr, !llvm.ptr"
        return code.let(f"llvm.load {code.let(entry)} : !llvm.ptr -> !llvm.ptr")


def read_scatter(function: ir.OpView) -> Scatter:
    """What a "scatter" kernel function does."""
    block = function.regions[0].blocks[0]
    op = next(iter(block.operations)).operation
    updates, indices = op.operands
    kind, index, attributes = TensorType.of(updates), TensorType.of(indices), attributes_of(op)
    arguments = list(block.arguments)
    return Scatter(
        arguments.index(updates),
        arguments.index(indices),
        kind.with_shape((index.size, kind.shape[-1])),
        index.dtype,
        attributes["rows"],
        FOLDS[attributes["fold"]][0 if kind.is_float else 1],
    )
