"""What was compiled to what: a row a launch, from the plan and what the target made of its kernels."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from mlir import ir
from rich.console import Console
from rich.table import Table

from keras_triton.lowering.dialect import walk
from keras_triton.lowering.extern import Extern
from keras_triton.lowering.plan import Call, Copy, Plan
from keras_triton.lowering.plan import walk as plan_walk
from keras_triton.lowering.region import kernel_kind

from .targets.base import Compiled

# Ops of a kernel function that compute nothing a reader asks after.
_QUIET = (
    "tensor.empty",
    "linalg.fill",
    "linalg.generic",
    "linalg.yield",
    "linalg.index",
    "arith.constant",
)


WIDE = 130
"""Columns of a console from which a report shows everything."""


@dataclass(frozen=True)
class Row:
    """One launch of a step, or the launches of it that a loop makes.

    Attributes:
        kernel: its name.
        how: what runs it ("native loop", "Triton template matmul", "torch.mm").
        layers: the Keras layers whose ops it holds.
        ops: the scalar and dialect ops inside, in order.
        bytes: read plus written, each operand and result once a launch.
        fallback: why torch runs it although the compiler would have liked to, or "".
        reason: why it was not fused with its neighbour, or "".
        times: how often a step launches it; None where a while loop decides that (its bytes are then
            those of one iteration).
    """

    kernel: str
    how: str
    layers: tuple[str, ...]
    ops: tuple[str, ...]
    bytes: int
    fallback: str = ""
    reason: str = ""
    times: int | None = 1


@dataclass(frozen=True)
class Report:
    """A compiled step: its launches in order, and the memory they need."""

    step: str
    target: str
    rows: tuple[Row, ...]
    arena_bytes: int = 0

    @classmethod
    def whole_step_on_torch(cls, step: str, target: str, reason: str) -> Report:
        """The report of a step that could not be lowered."""
        return cls(step, target, (Row(step, "torch (captured graph)", (), (), 0, fallback=reason),))

    def followed_by(self, backward: Report) -> Report:
        """The report of both passes of a function; `backward` marks the kernels of its own."""
        rows = [replace(row, kernel=f"backward/{row.kernel}") for row in backward.rows]
        arena_bytes = max(self.arena_bytes, backward.arena_bytes)
        return replace(self, rows=(*self.rows, *rows), arena_bytes=arena_bytes)

    @property
    def fallbacks(self) -> tuple[Row, ...]:
        return tuple(row for row in self.rows if row.fallback)

    @property
    def bytes(self) -> int:
        """Bytes that the launches of one step read and write."""
        return sum(row.bytes for row in self.rows)

    @property
    def _loops(self) -> bool:
        return any(row.times != 1 for row in self.rows)

    def json(self) -> str:
        body = {**asdict(self), "bytes": self.bytes, "fallbacks": len(self.fallbacks)}
        return json.dumps(body, indent=1)

    def summary(self) -> str:
        """One line: launches, fallbacks, bytes."""
        total = sum(row.times or 1 for row in self.rows)
        within = f" ({total} with those of loops)" if self._loops else ""
        return (
            f"{self.step} on {self.target}: {len(self.rows)} launches{within}, "
            f"{len(self.fallbacks)} fallbacks, "
            f"{self.bytes / 1e6:.2f} MB moved, {self.arena_bytes / 1e6:.2f} MB of temporaries"
        )

    def print(self, console: Console | None = None) -> None:
        """The report as a table; a narrow console gets no ops and only the notes on fallbacks."""
        console = console or Console()
        wide = console.width >= WIDE
        table = Table(title=self.summary(), title_justify="left")
        loops = ("times",) if self._loops else ()
        names = ("kernel", "runs as", "layers", *loops, "kB", *(("ops", "notes") if wide else ()))
        for name in names:
            number = name in ("kB", "times")
            table.add_column(name, overflow="fold", justify="right" if number else "left")
        for row in self.rows:
            layers = "\n".join(row.layers)
            times = ("while" if row.times is None else str(row.times),) if loops else ()
            cells = [row.kernel, row.how, layers, *times, f"{row.bytes / 1e3:.1f}"]
            if wide:
                note = f"fallback: {row.fallback}" if row.fallback else row.reason
                cells += [_counted(row.ops), note]
            table.add_row(*cells)
        console.print(table)
        if not wide:
            for row in self.fallbacks:
                console.print(f"{row.kernel} falls back to {row.how}: {row.fallback}")


def describe(step: str, target: str, plan: Plan, compiled: Mapping[str, Compiled]) -> Report:
    """The report of a plan whose kernels a target compiled."""
    rows = (_repeated(_row(item, plan, compiled), times) for item, times in plan_walk(plan.steps))
    return Report(step, target, tuple(rows), plan.arena_bytes)


def _repeated(row: Row, times: int | None) -> Row:
    """The row of one launch as that of all that a loop makes."""
    return replace(row, times=times, bytes=row.bytes * (times or 1))


def _row(item: Call | Copy, plan: Plan, compiled: Mapping[str, Compiled]) -> Row:
    layers = (item.layer,) if item.layer else ()
    if isinstance(item, Copy):
        return Row("copy", "torch copy", layers, ("copy",), 2 * item.source.type.nbytes)
    made = compiled[item.kernel]
    moved = sum(ref.type.nbytes for ref in item.operands)
    function = plan.kernels[item.kernel]
    extern = Extern.of(function)
    if extern is not None:
        return Row(item.kernel, made.how, layers, (extern.target,), moved, made.fallback)
    within = tuple(_strings(function, "keras.layers"))
    reason = _grouped(_strings(function, "keras.reason"))
    return Row(item.kernel, made.how, within, _ops(function), moved, made.fallback, reason)


def _strings(function: ir.OpView, name: str) -> list[str]:
    attributes = function.operation.attributes
    if name not in attributes:
        return []
    value = attributes[name]
    return [
        ir.StringAttr(item).value
        for item in (value if isinstance(value, ir.ArrayAttr) else [value])
    ]


def _grouped(reasons: Sequence[str]) -> str:
    """ "why: kernel, kernel" for each why; a pass writes "kernel: why; kernel: why"."""
    groups: dict[str, list[str]] = {}
    for reason in "; ".join(reasons).split("; "):
        producer, _, why = reason.partition(": ")
        groups.setdefault(why or producer, []).append(producer if why else "")
    lines = (f"{why} ({', '.join(names)})" if any(names) else why for why, names in groups.items())
    return "; ".join(lines)


def _ops(function: ir.OpView) -> tuple[str, ...]:
    """The ops inside a kernel, of one instance if it has many."""
    names = [
        op.name
        for op in walk(function.operation)
        if op.name not in _QUIET and op.name != "func.return"
    ]
    if kernel_kind(function) == "multi":
        names = names[
            : len(names) // ir.IntegerAttr(function.operation.attributes["keras.instances"]).value
        ]
    return tuple(name.split(".", 1)[1] for name in names)


def _counted(ops: Sequence[str]) -> str:
    """ "add ×3 mul tanh": each op once, in order of first use."""
    counts = dict.fromkeys(ops, 0)
    for op in ops:
        counts[op] += 1
    return " ".join(op if count == 1 else f"{op}×{count}" for op, count in counts.items())
