"""Writing MLIR text for the CPU target: numbered values, nested loops, shared constants."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from ..sizes import digits, is_symbolic

PARALLEL_LOOP = "#parallel"
ACCESS_GROUP = "#accesses"
# A parallel loop's accesses are independent from one iteration to another, which the vectorizer
# then need not check at run time. It holds for arguments and results that share memory element by
# element, too.
HEADER = f"""{ACCESS_GROUP} = #llvm.access_group<id = distinct[0]<>>
{PARALLEL_LOOP} = #llvm.loop_annotation<parallelAccesses = {ACCESS_GROUP}>
"""


@dataclass(frozen=True)
class Units:
    """How many independent pieces of work a kernel has: `lines` times the blocks of `extent`.

    Attributes:
        lines, extent, block: elements; the former two may depend on the symbolic size.
    """

    lines: int
    extent: int = 1
    block: int = 1

    @property
    def is_symbolic(self) -> bool:
        return is_symbolic(self.lines, self.extent)

    @property
    def most(self) -> int:
        """Not less than the number; it is the number unless that depends on the size."""
        return self.lines * (self.extent if self.is_symbolic else -(-self.extent // self.block))

    def write(self, code: Code) -> str:
        """The number, in a function."""
        if not self.is_symbolic:
            return code.integer(self.most)
        return code.let(
            f"arith.muli {code.integer(self.lines)}, {code.blocks(self.extent, self.block)} : i64"
        )


class Code:
    """The body of one function as it is written.

    Values are MLIR names ("%v3"). Integers and addresses are i64 and !llvm.ptr throughout. Integers that
    depend on the symbolic size are computed where the function begins, from the size in front of %table.
    """

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._constants: dict[str, str] = {}
        self._depth = 1
        self._next = 0

    def text(self) -> str:
        return "\n".join(
            [f"  {name} = {value}" for value, name in self._constants.items()] + self._lines
        )

    def name(self) -> str:
        self._next += 1
        return f"%v{self._next}"

    def line(self, text: str) -> None:
        self._lines.append("  " * self._depth + text)

    def let(self, expression: str) -> str:
        """Names the value of an operation with one result."""
        name = self.name()
        self.line(f"{name} = {expression}")
        return name

    def constant(self, value: str, kind: str) -> str:
        """A constant spelled as MLIR spells it; equal ones share a name."""
        # MLIR spells the type of a boolean by its value.
        return self._first(f"arith.constant {value}" + ("" if kind == "i1" else f" : {kind}"))

    def _first(self, expression: str) -> str:
        """Names a value that is computed once, where the function begins."""
        if expression not in self._constants:
            self._constants[expression] = f"%c{len(self._constants)}"
        return self._constants[expression]

    def integer(self, value: int, kind: str = "i64") -> str:
        if not is_symbolic(value):
            return self.constant(str(int(value)), kind)
        *rest, made = (self.constant(str(digit), "i64") for digit in digits(value))
        for digit in reversed(rest):
            product = self._first(f"arith.muli {made}, {self._size()} overflow<nsw> : i64")
            made = self._first(f"arith.addi {product}, {digit} overflow<nsw> : i64")
        return made if kind == "i64" else self._first(f"arith.trunci {made} : i64 to {kind}")

    def _size(self) -> str:
        """The symbolic size in this call."""
        entry = self._first("llvm.getelementptr %table[-1] : (!llvm.ptr) -> !llvm.ptr, i64")
        return self._first(f"llvm.load {entry} : !llvm.ptr -> i64")

    def blocks(self, value: int, block: int) -> str:
        """How many blocks of `block` elements cover `value` elements."""
        if not is_symbolic(value):
            return self.integer(-(-value // block))
        whole = self.integer(value), self.integer(block)
        return self._first(f"arith.ceildivui {', '.join(whole)} : i64")

    def real(self, value: float, kind: str = "f32") -> str:
        return self.constant(float_bits(value, kind), kind)

    def add(self, a: str, b: str) -> str:
        return self.let(f"arith.addi {a}, {b} overflow<nsw> : i64")

    def mul(self, a: str, factor: int) -> str:
        if factor == 1:
            return a
        return self.let(f"arith.muli {a}, {self.integer(factor)} overflow<nsw> : i64")

    def element(self, pointer: str, index: str, kind: str) -> str:
        """The address of element `index` of type `kind`."""
        types = f"(!llvm.ptr, i64) -> !llvm.ptr, {kind}"
        return self.let(f"llvm.getelementptr inbounds {pointer}[{index}] : {types}")

    def load(self, pointer: str, kind: str) -> str:
        return self.let(
            f"llvm.load {pointer} {{access_groups = [{ACCESS_GROUP}]}} : !llvm.ptr -> {kind}"
        )

    def store(self, value: str, pointer: str, kind: str) -> None:
        group = f"{{access_groups = [{ACCESS_GROUP}]}}"
        self.line(f"llvm.store {value}, {pointer} {group} : {kind}, !llvm.ptr")

    def stack(self, count: int, kind: str) -> str:
        """Room for `count` elements until the function returns; to be asked for outside loops."""
        return self.let(
            f"llvm.alloca {self.integer(count)} x {kind} {{alignment = 64 : i64}} : (i64) -> !llvm.ptr"
        )

    @contextmanager
    def loop(self, low: str, high: str, *, step: int = 1, parallel: bool = False) -> Iterator[str]:
        """`for index in range(low, high, step)`; parallel promises independent memory accesses."""
        index = self.name()
        self.line(f"scf.for {index} = {low} to {high} step {self.integer(step)} : i64 {{")
        self._depth += 1
        yield index
        self._depth -= 1
        self.line(f"}} {{llvm.loop_annotation = {PARALLEL_LOOP}}}" if parallel else "}")

    def fold(
        self,
        low: str,
        high: str,
        start: Sequence[str],
        kinds: Sequence[str],
        body: Callable[[str, list[str]], list[str]],
        *,
        step: int = 1,
        parallel: bool = False,
    ) -> list[str]:
        """A loop that carries values: `body(index, values)` gives the next; returns the last."""
        if not start:
            with self.loop(low, high, step=step, parallel=parallel) as index:
                body(index, [])
            return []
        index, result = self.name(), self.name()
        carried = [self.name() for _ in start]
        pairs = ", ".join(f"{name} = {value}" for name, value in zip(carried, start, strict=True))
        types = ", ".join(kinds)
        self.line(
            f"{result}:{len(start)} = scf.for {index} = {low} to {high} step {self.integer(step)} "
            f"iter_args({pairs}) -> ({types}) : i64 {{"
        )
        self._depth += 1
        following = body(index, carried)
        self.line(f"scf.yield {', '.join(following)} : {types}")
        self._depth -= 1
        self.line(f"}} {{llvm.loop_annotation = {PARALLEL_LOOP}}}" if parallel else "}")
        return [f"{result}#{position}" for position in range(len(start))]


def float_bits(value: float, kind: str) -> str:
    """A float as the hexadecimal bits of its type: exact, and the only spelling of NaN and inf."""
    form, width = {"f16": ("e", 4), "f32": ("f", 8), "f64": ("d", 16)}[kind]
    return "0x" + struct.pack(f">{form}", value).hex().upper().rjust(width, "0")
