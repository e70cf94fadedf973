"""The functions of a CPU kernel around its loops: its work is shared out to torch's OpenMP threads."""

from __future__ import annotations

from dataclasses import dataclass

from ..sizes import is_symbolic
from .text import Code, Units

SYMBOL = "KERNEL"
"""Stands for the kernel's name until its code is known."""
OPENMP = """llvm.func @GOMP_parallel(!llvm.ptr, !llvm.ptr, i32, i32)
llvm.func @omp_get_thread_num() -> i32
llvm.func @omp_get_num_threads() -> i32
"""
# What a thread must have to do before another is woken: about 20 µs split in two.
_THREAD_NS = 10_000.0
# Threads a point is worth, as a fraction of 2**_BITS.
_BITS = 24


@dataclass(frozen=True)
class Work:
    """What there is to share out.

    Attributes:
        units: the independent pieces.
        align: a thread's share is a multiple of so many.
        points: elements that are computed, in all units.
        point_ns: about how long a core takes for one.
        least: units that a thread must have.
    """

    units: Units
    align: int
    points: int
    point_ns: float
    least: int = 1

    @property
    def is_symbolic(self) -> bool:
        return self.units.is_symbolic or is_symbolic(self.points)

    @property
    def threads(self) -> int:
        """The most threads that it is worth; 0 if that depends on the size, and each call decides."""
        if self.is_symbolic:
            return 0
        worth = int(self.points * self.point_ns / _THREAD_NS)
        return max(1, min(self.units.most // self.least, worth))

    def write_threads(self, code: Code) -> str:
        """The same in a function, an i32."""
        if not self.is_symbolic:
            return code.integer(self.threads, "i32")
        rate = round(self.point_ns / _THREAD_NS * 2**_BITS)
        total = code.mul(code.integer(self.points), rate)
        worth = code.let(f"arith.shrui {total}, {code.integer(_BITS)} : i64")
        units = code.let(f"arith.divui {self.units.write(code)}, {code.integer(self.least)} : i64")
        most = code.let(f"arith.minui {worth}, {units} : i64")
        return code.let(f"arith.trunci {most} : i64 to i32")


def functions_of(code: Code, work: Work) -> str:
    """The kernel around the code of units %low..%high.

    Shares are fixed by the number of threads, and no unit depends on another: results do not depend
    on it.
    """
    span = f"""llvm.func internal @{SYMBOL}_span(%table: !llvm.ptr, %low: i64, %high: i64) {{
{code.text()}
  llvm.return
}}
"""
    if work.threads == 1:
        return span + _function(SYMBOL, "%table: !llvm.ptr, %threads: i32", _whole(Code(), work))
    return (
        span
        + _function(f"{SYMBOL}_share", "%table: !llvm.ptr", _part(Code(), work), "internal ")
        + _function(SYMBOL, "%table: !llvm.ptr, %threads: i32", _shared(Code(), work))
    )


def _function(name: str, parameters: str, code: Code, visibility: str = "") -> str:
    return f"llvm.func {visibility}@{name}({parameters}) {{\n{code.text()}\n  llvm.return\n}}\n"


def _span(code: Code, low: str, high: str) -> None:
    code.line(f"llvm.call @{SYMBOL}_span(%table, {low}, {high}) : (!llvm.ptr, i64, i64) -> ()")


def _whole(code: Code, work: Work) -> Code:
    """All of it by the thread that calls."""
    _span(code, code.integer(0), work.units.write(code))
    return code


def _part(code: Code, work: Work) -> Code:
    """One thread's share."""
    end, align = work.units.write(code), code.integer(work.align)
    me, all_ = (
        code.let(f"arith.extui {code.let(f'llvm.call @omp_get_{name}() : () -> i32')} : i32 to i64")
        for name in ("thread_num", "num_threads")
    )
    groups = code.let(f"arith.ceildivui {end}, {align} : i64")
    share = code.let(f"arith.ceildivui {groups}, {all_} : i64")
    step = code.mul(share, work.align)
    first = code.let(f"arith.muli {me}, {step} : i64")
    low, high = (
        code.let(f"arith.minui {bound}, {end} : i64") for bound in (first, code.add(first, step))
    )
    _span(code, low, high)
    return code


def _shared(code: Code, work: Work) -> Code:
    """Wakes the threads that the work is worth."""
    used = code.let(f"arith.minsi %threads, {work.write_threads(code)} : i32")
    if work.is_symbolic:
        alone = code.let(f"arith.cmpi slt, {used}, {code.integer(2, 'i32')} : i32")
        code.line(f"scf.if {alone} {{")
        _whole(code, work)
        code.line("} else {")
    share = code.let(f"llvm.mlir.addressof @{SYMBOL}_share : !llvm.ptr")
    operands, kinds = f"{share}, %table, {used}, {code.integer(0, 'i32')}", "!llvm.ptr, i32, i32"
    code.line(f"llvm.call @GOMP_parallel({operands}) : (!llvm.ptr, {kinds}) -> ()")
    if work.is_symbolic:
        code.line("}")
    return code
