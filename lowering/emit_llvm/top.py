"""`keras.top` for the CPU: the first few elements of each row in order, by insertion.

An element is compared with the last of those kept so far, and rarely goes further: of a row in random order
k log(n / k) do.
"""

from __future__ import annotations

from dataclasses import dataclass

from mlir import ir

from ..dialect import attributes_of
from ..mlir import TensorType
from . import body as cpu_body
from .text import Code


@dataclass(frozen=True)
class Top:
    """A kernel function of one `keras.top`.

    Attributes:
        kind: the type of the operand as [rows, length].
        k: how many of a row are kept.
        descending: the greatest first.
        kept: which of values and places the function returns, in order.
    """

    kind: TensorType
    k: int
    descending: bool
    kept: tuple[int, ...]

    def write(self, code: Code, low: str, high: str) -> None:
        """The code of rows low..high, given the kernel's table of addresses as %table."""
        slots = [self._pointer(code, slot) for slot in range(1 + len(self.kept))]
        results = dict(zip(self.kept, slots[1:], strict=True))
        stored = cpu_body.stored_kind(self.kind.dtype)
        values, places = (
            results[i] if i in results else code.stack(self.k, kind)
            for i, kind in enumerate((stored, "i64"))
        )
        with code.loop(low, high) as row:
            begin, first = code.mul(row, self.kind.shape[1]), code.mul(row, self.k)
            tops = [
                code.element(pointer, first, kind) if i in results else pointer
                for i, (pointer, kind) in enumerate(((values, stored), (places, "i64")))
            ]
            with code.loop(code.integer(0), code.integer(self.kind.shape[1])) as place:
                value = code.load(code.element(slots[0], code.add(begin, place), stored), stored)
                self._insert(code, tops[0], tops[1], value, place)

    def _insert(self, code: Code, values: str, places: str, value: str, place: str) -> None:
        """Takes an element among the first k where it belongs, moving what comes after it."""
        stored = cpu_body.stored_kind(self.kind.dtype)
        last = code.integer(self.k - 1)
        slot = code.let(f"arith.minsi {place}, {last} : i64")
        # The slot is free, or holds the last of k, which the element must come before.
        free = code.let(f"arith.cmpi slt, {place}, {code.integer(self.k)} : i64")
        lowest = code.load(code.element(values, slot, stored), stored)
        taken = code.let(f"arith.ori {free}, {self._before(code, value, lowest)} : i1")
        code.line(f"scf.if {taken} {{")
        found, at, moved = code.name(), code.name(), code.name()
        code.line(f"{found} = scf.while ({at} = {slot}) : (i64) -> i64 {{")
        before = code.add(at, code.integer(-1))
        near = code.let(f"arith.maxsi {before}, {code.integer(0)} : i64")
        neighbour = code.load(code.element(values, near, stored), stored)
        inner = code.let(f"arith.cmpi sgt, {at}, {code.integer(0)} : i64")
        goes_on = code.let(f"arith.andi {inner}, {self._before(code, value, neighbour)} : i1")
        code.line(f"scf.condition({goes_on}) {at} : i64")
        code.line("} do {")
        code.line(f"^bb0({moved}: i64):")
        source = code.add(moved, code.integer(-1))
        for pointer, kind in ((values, stored), (places, "i64")):
            shifted = code.load(code.element(pointer, source, kind), kind)
            code.store(shifted, code.element(pointer, moved, kind), kind)
        code.line(f"scf.yield {source} : i64")
        code.line("}")
        code.store(value, code.element(values, found, stored), stored)
        code.store(place, code.element(places, found, "i64"), "i64")
        code.line("}")

    def _before(self, code: Code, a: str, b: str) -> str:
        """Whether `a` comes before `b`, which stood before it: NaN is the greatest of all."""
        dtype = self.kind.dtype
        if not self.kind.is_float:
            order = "sgt" if self.descending else "slt"
            return code.let(f"arith.cmpi {order}, {a}, {b} : {cpu_body.stored_kind(dtype)}")
        wide = "f64" if dtype == "f64" else "f32"
        a, b = (cpu_body.convert_float(code, item, dtype, wide) for item in (a, b))
        order, number = ("ugt", b) if self.descending else ("ult", a)
        before = code.let(f"arith.cmpf {order}, {a}, {b} : {wide}")
        some = code.let(f"arith.cmpf ord, {number}, {number} : {wide}")
        return code.let(f"arith.andi {before}, {some} : i1")

    @staticmethod
    def _pointer(code: Code, slot: int) -> str:
        entry = f"llvm.getelementptr %table[{slot}] : (!llvm.ptr) -> !llvm.ptr, !llvm.ptr"
        return code.let(f"llvm.load {code.let(entry)} : !llvm.ptr -> !llvm.ptr")


def read_top(function: ir.OpView) -> Top:
    """What a "top" kernel function does."""
    op, end = (view.operation for view in function.regions[0].blocks[0].operations)
    kind, attributes = TensorType.of(op.operands[0]), attributes_of(op)
    length = kind.shape[-1]
    kept = tuple(list(op.results).index(value) for value in end.operands)
    rows = kind.with_shape((kind.size // max(length, 1), length))
    return Top(rows, attributes["k"], attributes["descending"], kept)
