"""Straight-line scalar code: what a `linalg.generic` computes at one point of its domain.

Passes work on bodies in this light form and print them once; equal ops get one number, so common
subexpressions vanish as bodies are joined.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlir import ir

from ..errors import SizeError
from ..indexing import Dims, Index, rename, terms
from ..lookups import LOOKUP
from ..mlir import TORCH_DTYPES, TensorType
from ..sizes import Extent

EXTENSION, TRUNCATION = "arith.extf", "arith.truncf"
OVERFLOW = "overflowFlags = #arith.overflow<none>"


@dataclass(frozen=True)
class ScalarOp:
    """One op of a body.

    Attributes:
        name: the MLIR op, or "read" for an element of a tensor.
        operands: numbers of earlier values.
        attributes: its attribute dictionary as text; for "read" the pair (source, dims), for a lookup
            the source.
        types: of its results.
    """

    name: str
    operands: tuple[int, ...]
    attributes: Any
    types: tuple[str, ...]


class Body:
    """Scalar code under construction; values are numbers, several in a row for an op of several
    results.
    """

    def __init__(self) -> None:
        self.ops: list[ScalarOp] = []
        self.types: list[str] = []
        self._first: list[int] = []
        self._maker: list[int] = []
        self._numbers: dict[ScalarOp, int] = {}
        # What a value needs is settled when it is made, and asked for at every attempt to fuse it.
        self._live: dict[int, list[int]] = {}
        self._reads: dict[int, list[tuple[Any, Dims]]] = {}
        self._tables: dict[int, list[Any]] = {}

    def add(
        self,
        name: str,
        operands: Iterable[int] = (),
        types: Iterable[str] = (),
        attributes: Any = "",
    ) -> int:
        """The number of the op's first result; an equal earlier op is taken instead of a new one.

        Within a region half floats stay in float32: an extension undoes the truncation it follows.
        """
        op = ScalarOp(name, tuple(operands), attributes, tuple(types))
        if op in self._numbers:
            return self._numbers[op]
        if name == EXTENSION:
            folded = self._extended(op)
            if folded is not None:
                return folded
        number = self._numbers[op] = len(self.types)
        self.types.extend(op.types)
        self._maker.extend([len(self.ops)] * len(op.types))
        self._first.append(number)
        self.ops.append(op)
        return number

    def _extended(self, op: ScalarOp) -> int | None:
        source = self.op_of(op.operands[0])
        if source.name == TRUNCATION and self.types[source.operands[0]] == op.types[0]:
            return source.operands[0]
        if source.name == "arith.constant":
            value = source.attributes.removeprefix("value = ").rsplit(" : ", 1)[0]
            if not value.startswith("0x"):
                return self.add("arith.constant", (), op.types, f"value = {value} : {op.types[0]}")
        return None

    def op_of(self, value: int) -> ScalarOp:
        """The op that makes `value`."""
        return self.ops[self._maker[value]]

    def read(self, source: Any, dims: Dims, dtype: str) -> int:
        """The element of `source` at these indices."""
        return self.add("read", (), (dtype,), (source, dims))

    def lookup(self, source: Any, places: Iterable[int], dtype: str) -> int:
        """The element of `source` at values of type index: one for each axis, all within it."""
        return self.add(LOOKUP, places, (dtype,), source)

    def constant(self, value: float | int | bool, dtype: str) -> int:
        """`value` rounded to `dtype`.

        Raises:
            SizeError: a float that depends on the symbolic size.
        """
        if isinstance(value, Extent):
            if not dtype.startswith("i"):
                raise SizeError(f"{value.text} is a {dtype} only in a call")
            whole = self._whole(value)
            return whole if dtype == "index" else self.add("arith.index_cast", (whole,), (dtype,))
        return self.add("arith.constant", (), (dtype,), f"value = {literal(value, dtype)}")

    def index(self, item: Index) -> int:
        """An index of the domain as a value of type index."""
        dim, step, offset = terms(item)
        if dim is None:
            return self._whole(offset)
        value = self.add("linalg.index", (), ("index",), f"dim = {dim} : i64")
        if step != 1:
            value = self.add("arith.muli", (value, self._whole(step)), ("index",), OVERFLOW)
        if offset:
            value = self.add("arith.addi", (value, self._whole(offset)), ("index",), OVERFLOW)
        return value

    def _whole(self, value: int) -> int:
        return self.add("arith.constant", (), ("index",), f"value = {value} : index")

    def live(self, values: Sequence[int]) -> Sequence[int]:
        """Positions in `ops` of what `values` need, in order."""
        if len(values) != 1:
            return self._needed(values)
        if values[0] not in self._live:
            self._live[values[0]] = self._needed(values)
        return self._live[values[0]]

    def _needed(self, values: Sequence[int]) -> list[int]:
        needed: set[int] = set()
        stack = [self._maker[value] for value in values]
        while stack:
            position = stack.pop()
            if position not in needed:
                needed.add(position)
                stack.extend(self._maker[value] for value in self.ops[position].operands)
        return sorted(needed)

    def reads(self, value: int) -> Sequence[tuple[Any, Dims]]:
        """(source, dims) of every read that `value` needs, in order."""
        if value not in self._reads:
            needed = (self.ops[position] for position in self.live([value]))
            self._reads[value] = [op.attributes for op in needed if op.name == "read"]
        return self._reads[value]

    def tables(self, value: int) -> Sequence[Any]:
        """The sources in which `value` needs lookups, each once."""
        if value not in self._tables:
            ops = (self.ops[i] for i in self.live([value]))
            found = dict.fromkeys(op.attributes for op in ops if op.name == LOOKUP)
            self._tables[value] = list(found)
        return self._tables[value]

    def inline(
        self,
        other: Body,
        value: int,
        dims: Dims,
        read: Callable[[Any, Dims, str], int] | None = None,
    ) -> int:
        """`other`'s value computed here, its dim i being this domain's index `dims[i]`.

        `read` makes the reads, with their dims already renamed; it defaults to reads of the same
        sources.
        """
        read = read or self.read
        numbers: dict[int, int] = {}
        for position in other.live([value]):
            op, first = other.ops[position], other._first[position]
            if op.name == "read":
                source, inner = op.attributes
                made = read(source, rename(inner, dims), op.types[0])
            elif op.name == "linalg.index":
                made = self.index(dims[int(op.attributes.split()[2])])
            else:
                made = self.add(op.name, [numbers[o] for o in op.operands], op.types, op.attributes)
            numbers.update({first + i: made + i for i in range(len(op.types))})
        return numbers[value]

    def lines(
        self,
        values: list[int],
        names: Mapping[tuple[Any, Dims], str],
        tables: Mapping[Any, tuple[str, TensorType]],
    ) -> tuple[list[str], list[str]]:
        """MLIR text of the code that `values` need, and their names; `names` are the reads', `tables`
        the names and types of what is looked up in.
        """
        shown: dict[int, str] = {}
        lines = []
        for position in self.live(values):
            op, first = self.ops[position], self._first[position]
            if op.name == "read":
                shown[first] = names[op.attributes]
                continue
            count = len(op.types)
            shown.update(
                {first + i: f"%v{first}" + (f"#{i}" if count > 1 else "") for i in range(count)}
            )
            operands = [(shown[o], self.types[o]) for o in op.operands]
            properties = f" <{{{op.attributes}}}>" if op.attributes else ""
            if op.name == LOOKUP:
                name, table = tables[op.attributes]
                operands, properties = [(name, str(table)), *operands], ""
            arguments, kinds = (", ".join(item[i] for item in operands) for i in range(2))
            results = ", ".join(op.types)
            bound = f"%v{first}" + (f":{count}" if count > 1 else "")
            lines.append(
                f'{bound} = "{op.name}"({arguments}){properties} : ({kinds}) -> ({results})'
            )
        return lines, [shown[value] for value in values]


def read_block(
    block: ir.Block,
    sources: Sequence[tuple[Any, Dims]],
    tables: Mapping[ir.Value, Any],
) -> tuple[Body, dict[ir.Value, int]]:
    """A generic's block as a Body whose first block arguments are reads of `sources`; `tables` are the
    sources of lookups.

    A further block argument (the result's old value, or an accumulator) becomes a read of "result".
    """
    body = Body()
    numbers: dict[ir.Value, int] = {}
    for i, argument in enumerate(block.arguments):
        source, dims = sources[i] if i < len(sources) else ("result", ())
        numbers[argument] = body.read(source, dims, str(argument.type))
    for op in block.operations:
        op = op.operation
        if op.name == "linalg.yield":
            break
        types = [str(result.type) for result in op.results]
        if op.name == LOOKUP:
            table, *places = op.operands
            first = body.lookup(tables[table], [numbers[o] for o in places], types[0])
        else:
            attributes = ", ".join(f"{name} = {op.attributes[name]}" for name in op.attributes)
            first = body.add(op.name, [numbers[o] for o in op.operands], types, attributes)
        for i, result in enumerate(op.results):
            numbers[result] = first + i
    return body, numbers


_INFINITIES = {"f64": 0x7FF0000000000000, "f32": 0x7F800000, "f16": 0x7C00, "bf16": 0x7F80}
_QUIET = {"f64": 0x7FF8000000000000, "f32": 0x7FC00000, "f16": 0x7E00, "bf16": 0x7FC0}
_SIGN = {"f64": 1 << 63, "f32": 1 << 31, "f16": 1 << 15, "bf16": 1 << 15}


def literal(value: float | int | bool, dtype: str) -> str:
    """`value` as an MLIR attribute of `dtype` ("1.0e-07 : f32"), rounded to it first."""
    if dtype == "i1":
        return "true" if value else "false"
    if dtype not in _SIGN:
        return f"{int(value)} : {dtype}"
    import torch

    rounded = torch.tensor(float(value), dtype=TORCH_DTYPES[dtype]).item()
    if rounded != rounded:
        return f"{_QUIET[dtype]:#x} : {dtype}"
    if rounded in (float("inf"), float("-inf")):
        return f"{_INFINITIES[dtype] | (_SIGN[dtype] if rounded < 0 else 0):#x} : {dtype}"
    shown = repr(rounded)
    if "e" in shown and "." not in shown:
        shown = shown.replace("e", ".0e")
    return f"{shown} : {dtype}"
