"""`keras.cumulate` for the CPU: sums and products so far, along one axis.

A *line* is what lies along the axis at one place of the others. Threads share out the lines; those that
lie side by side in memory are gone through together, so that the inner loop is over neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from mlir import ir

from ..dialect import attributes_of
from ..linalg.rules import FOLDS
from ..mlir import TensorType
from . import body as cpu_body
from .text import Code

# A cache line of float32.
NEIGHBOURS = 16


@dataclass(frozen=True)
class Cumulate:
    """A kernel function of one `keras.cumulate`.

    Attributes:
        kind: the type of the operand as [outer, length, inner].
        combiner: the op that folds.
    """

    kind: TensorType
    combiner: str

    @property
    def lines(self) -> int:
        return self.kind.shape[0] * self.kind.shape[2]

    @property
    def align(self) -> int:
        """Lines that no two threads should share."""
        return 1 if self.kind.shape[2] == 1 else NEIGHBOURS

    def write(self, code: Code, low: str, high: str) -> None:
        """The code of lines low..high, given the kernel's table of addresses as %table."""
        x, y = (self._pointer(code, slot) for slot in range(2))
        if self.kind.shape[2] == 1:
            with code.loop(low, high) as line:
                self._line(code, x, y, code.mul(line, self.kind.shape[1]))
            return
        outer, length, inner = self.kind.shape
        with code.loop(code.integer(0), code.integer(outer)) as block:
            begin = code.mul(block, inner)
            bounds = [code.let(f"arith.subi {bound}, {begin} : i64") for bound in (low, high)]
            first = code.let(f"arith.maxsi {bounds[0]}, {code.integer(0)} : i64")
            last = code.let(f"arith.minsi {bounds[1]}, {code.integer(inner)} : i64")
            self._neighbours(code, x, y, code.mul(begin, length), first, last)

    def _line(self, code: Code, x: str, y: str, begin: str) -> None:
        """One line, whose elements follow one another in memory from `begin` on."""
        dtype = self.kind.dtype
        stored = cpu_body.stored_kind(dtype)

        def step(place: str, total: list[str]) -> list[str]:
            at = code.add(begin, place)
            value = code.load(code.element(x, at, stored), stored)
            made = cpu_body.fold(code, self.combiner, dtype, total[0], value)
            code.store(made, code.element(y, at, stored), stored)
            return [made]

        start = cpu_body.neutral(code, self.combiner, dtype)
        code.fold(code.integer(0), code.integer(self.kind.shape[1]), [start], [stored], step)

    def _neighbours(self, code: Code, x: str, y: str, begin: str, first: str, last: str) -> None:
        """Lines first..last, side by side in the block that begins at `begin`."""
        dtype, (_, length, inner) = self.kind.dtype, self.kind.shape
        stored = cpu_body.stored_kind(dtype)
        some = code.let(f"arith.minsi {code.integer(length)}, {code.integer(1)} : i64")
        with code.loop(code.integer(0), some), code.loop(first, last, parallel=True) as line:
            at = code.add(begin, line)
            value = code.load(code.element(x, at, stored), stored)
            code.store(value, code.element(y, at, stored), stored)
        with code.loop(code.integer(1), code.integer(length)) as place:
            row = code.add(begin, code.mul(place, inner))
            before = code.add(row, code.integer(-inner))
            with code.loop(first, last, parallel=True) as line:
                at = code.add(row, line)
                total = code.load(code.element(y, code.add(before, line), stored), stored)
                value = code.load(code.element(x, at, stored), stored)
                made = cpu_body.fold(code, self.combiner, dtype, total, value)
                code.store(made, code.element(y, at, stored), stored)

    @staticmethod
    def _pointer(code: Code, slot: int) -> str:
        entry = f"llvm.getelementptr %table[{slot}] : (!llvm.ptr) -> !llvm.ptr, !llvm.ptr"
        return code.let(f"llvm.load {code.let(entry)} : !llvm.ptr -> !llvm.ptr")


def read_cumulate(function: ir.OpView) -> Cumulate:
    """What a "cumulate" kernel function does."""
    op = next(iter(function.regions[0].blocks[0].operations)).operation
    kind, attributes = TensorType.of(op.operands[0]), attributes_of(op)
    axis, shape = attributes["axis"], TensorType.of(op.operands[0]).shape
    lines = kind.with_shape((prod(shape[:axis]), shape[axis], prod(shape[axis + 1 :])))
    return Cumulate(lines, FOLDS[attributes["fold"]][0 if kind.is_float else 1])
