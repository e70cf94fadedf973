"""Programs of the `keras` dialect as plain data: what a random program is, and how it is spelt."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from keras_triton.lowering.mlir import TensorType

# Of every float that is exact: a multiple of a quarter up to here has 7 bits, and bfloat16 holds 8.
LARGEST_EXACT = 32.0


@dataclass(frozen=True)
class Value:
    """A tensor of a program.

    Attributes:
        number: its name among the values of one function.
        bound: no element's magnitude is larger.
        exact: every element is the same in whatever order and precision the program computes it:
            an integer, a bool, or a float that is a small multiple of a quarter. Only such a value
            may decide something (a comparison, a rounding, an argmax), where a last bit would jump.
    """

    number: int
    type: TensorType
    bound: float
    exact: bool

    def __str__(self) -> str:
        return f"%{self.number}"


@dataclass(frozen=True)
class Op:
    """An op of the dialect."""

    name: str
    operands: tuple[Value, ...]
    attributes: Mapping[str, Any]
    results: tuple[Value, ...]

    def text(self, label: str) -> str:
        taken = ", ".join(map(str, self.operands))
        attributes = ", ".join(f"{key} = {spelt(item)}" for key, item in self.attributes.items())
        return (
            f"{_names(self.results)} = {self.called(label)}({taken})"
            f"{f' {{{attributes}}}' if attributes else ''} : {_types(self.operands)} -> "
            f'{_types(self.results)} loc("model/{self.name}")'
        )

    def called(self, label: str) -> str:
        return f'"keras.{self.name}"'

    def declarations(self, label: str) -> list[str]:
        """The functions of the module that the op needs; `label` is a name of its own."""
        return []


@dataclass(frozen=True)
class Extern(Op):
    """A call of torch: `name` is the target, `attributes["args"]` its arguments as JSON."""

    def text(self, label: str) -> str:
        return _call(self, f"{label}_extern")

    def declarations(self, label: str) -> list[str]:
        fields = {"target": self.name, "args": self.attributes["args"], "reason": "random"}
        shown = ", ".join(f"{key} = {spelt(item)}" for key, item in fields.items())
        return [_declared(self, f"{label}_extern", f"keras.extern = {{{shown}}}")]


@dataclass(frozen=True)
class Scan(Op):
    """A loop of `length` iterations of `body`, whose first operands are carries."""

    body: Program
    carries: int
    scanned: int
    length: int
    reverse: bool

    def text(self, label: str) -> str:
        return _call(self, f"{label}_scan")

    def declarations(self, label: str) -> list[str]:
        said = (
            f"keras.scan = {{body = @{label}_body, carries = {self.carries} : i64, scanned = "
            f"{self.scanned} : i64, length = {self.length} : i64, "
            f"reverse = {str(self.reverse).lower()}}}"
        )
        inner = self.body.functions(f"{label}_body", "private ")
        return [_declared(self, f"{label}_scan", said), *inner]


@dataclass(frozen=True)
class Program:
    """A function: arguments, ops in order, results. Argument `donated[k]`'s new value is result k."""

    arguments: tuple[Value, ...]
    ops: tuple[Op, ...]
    results: tuple[Value, ...]
    donated: Mapping[int, int] = field(default_factory=dict)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """How hypothesis shows it."""
        printer.text(self.text())

    def text(self) -> str:
        """The program as a module of stage keras."""
        return (
            'module attributes {keras.stage = "keras"} {\n'
            + "\n".join(self.functions("main", ""))
            + "\n}\n"
        )

    def functions(self, name: str, visibility: str) -> list[str]:
        """The text of this function, and of those that its ops need before it."""
        needed, lines = [], []
        for number, op in enumerate(self.ops):
            needed += op.declarations(f"{name}{number}")
            lines.append(f"  {op.text(f'{name}{number}')}")
        back = {argument: result for result, argument in self.donated.items()}
        given = []
        for index, value in enumerate(self.arguments):
            donated = f", keras.donated = {back[index]} : i64" if index in back else ""
            said = f' {{keras.name = "a{index}"{donated}}}' if name == "main" else ""
            given.append(f"{value}: {value.type}{said}")
        head = f"func.func {visibility}@{name}({', '.join(given)}) -> {_types(self.results)} {{"
        taken, types = ", ".join(map(str, self.results)), _types(self.results)[1:-1]
        return [*needed, "\n".join([head, *lines, f"  return {taken} : {types}", "}"])]

    def inputs(self) -> list[torch.Tensor]:
        """A tensor for each argument, always the same ones for one program."""
        digest = hashlib.sha256(self.text().encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:4], "big"))
        return [_input(value, generator) for value in self.arguments]

    def live(self) -> Program:
        """Without the ops and arguments that no result needs."""
        needed, ops = {value.number for value in self.results}, []
        for op in reversed(self.ops):
            if any(value.number in needed for value in op.results):
                needed |= {value.number for value in op.operands}
                ops.append(op)
        back = {argument: result for result, argument in self.donated.items()}
        kept = [i for i, value in enumerate(self.arguments) if value.number in needed or i in back]
        donated = {back[old]: new for new, old in enumerate(kept) if old in back}
        arguments = tuple(self.arguments[i] for i in kept)
        return Program(arguments, tuple(ops[::-1]), self.results, donated)


def spelt(value: Any) -> str:
    """A Python value as an MLIR attribute."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return f"{value} : i64"
    if isinstance(value, float):
        return f"{value:.6e} : f64"
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    return f"array<i64: {', '.join(map(str, value))}>" if value else "array<i64>"


def _names(values: Sequence[Value]) -> str:
    return ", ".join(map(str, values))


def _types(values: Iterable[Value]) -> str:
    return f"({', '.join(str(value.type) for value in values)})"


def _call(op: Op, callee: str) -> str:
    return (
        f"{_names(op.results)} = call @{callee}({', '.join(map(str, op.operands))}) : "
        f'{_types(op.operands)} -> {_types(op.results)} loc("model/{callee}")'
    )


def _declared(op: Op, name: str, attribute: str) -> str:
    return (
        f"func.func private @{name}{_types(op.operands)} -> {_types(op.results)} "
        f"attributes {{{attribute}}}"
    )


def _input(value: Value, generator: torch.Generator) -> torch.Tensor:
    kind = value.type
    if kind.dtype == "i1":
        return torch.rand(kind.shape, generator=generator) < 0.5
    quarters = 4 if kind.is_float else 1
    largest = int(value.bound * quarters)
    drawn = torch.randint(-largest, largest + 1, kind.shape, generator=generator)
    return (drawn / quarters if kind.is_float else drawn).to(kind.torch_dtype)
