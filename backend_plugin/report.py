"""What was compiled to what: a row a launch, from the plan and what the target made of its kernels."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from mlir import ir
from rich.console import Console
from rich.table import Table

from keras_triton.kernels.device import Device
from keras_triton.lowering.dialect import walk
from keras_triton.lowering.extern import Extern
from keras_triton.lowering.heads import told_of
from keras_triton.lowering.memory.fit import Fit
from keras_triton.lowering.peak import Peak, peak_of, result_bytes
from keras_triton.lowering.plan import Call, Copy, Plan
from keras_triton.lowering.plan import walk as plan_walk
from keras_triton.lowering.region import kernel_kind
from keras_triton.lowering.work import Cost, Floor, cost_of

from .native.census import NativeCalls
from .targets.base import Compiled, Target

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
WHOLE_STEP = "torch (captured graph)"
NOTHING = Cost(0, 0, 0, False)


@dataclass(frozen=True)
class Row:
    """One launch of a step, or the launches of it that a loop makes.

    Attributes:
        kernel: its name.
        how: what runs it ("native loop", "Triton template matmul", "torch.mm").
        layers: the Keras layers whose ops it holds.
        ops: the scalar and dialect ops inside, in order.
        cost: what that takes: bytes read and written, each operand and result once a launch, and
            arithmetic operations.
        fallback: why torch runs it although the compiler would have liked to, or "".
        reason: why it was not fused with its neighbour, or "".
        times: how often a step launches it; None where a while loop decides that (its bytes are then
            those of one iteration).
        again: why it makes values a second time, or "".
    """

    kernel: str
    how: str
    layers: tuple[str, ...]
    ops: tuple[str, ...]
    cost: Cost
    fallback: str = ""
    reason: str = ""
    times: int | None = 1
    again: str = ""

    @property
    def note(self) -> str:
        """What a reader is told of it beside its figures."""
        fallback = f"fallback: {self.fallback}" if self.fallback else self.reason
        return "; ".join(note for note in (self.again, fallback) if note)

    @property
    def bytes(self) -> int:
        """Read plus written."""
        return self.cost.bytes


@dataclass(frozen=True)
class Record:
    """All that compiling a program went through, kept for a page of it.

    Attributes:
        rows: its launches, in the order of the plan's steps.
        texts: the captured graph and the last module of each stage, by file name.
        kernels: makes the texts of each kernel, by file name.
    """

    step: str
    rows: tuple[Row, ...]
    plan: Plan
    texts: Mapping[str, str]
    kernels: Mapping[str, Callable[[], Mapping[str, str]]]


@dataclass(frozen=True)
class Report:
    """A compiled step: its launches in order, and the memory they need.

    Attributes:
        peak: the memory that it takes; of two programs that of the one that takes more.
        fitted: what became of a budget of memory; None if there was none, or nothing to do for it.
        logits: for each cross-entropy of logits whether they are stored, and why.
        float32_products: their precision, as `torch.get_float32_matmul_precision` names it.
        calls: of native code that a step makes; None where Python launches everything.
        floor: what its graph asks for whatever the kernels are; None where that was not looked into.
        records: what `html` shows of each program; only `explain` keeps any.
    """

    step: str
    target: str
    rows: tuple[Row, ...]
    peak: Peak = field(default_factory=Peak)
    floor: Floor | None = None
    fitted: Fit | None = None
    logits: tuple[str, ...] = ()
    float32_products: str = "highest"
    calls: NativeCalls | None = None
    records: tuple[Record, ...] = field(default=(), repr=False, compare=False)

    @classmethod
    def whole_step_on_torch(cls, step: str, target: str, reason: str) -> Report:
        """The report of a step that could not be lowered."""
        return cls(step, target, (Row(step, WHOLE_STEP, (), (), NOTHING, fallback=reason),))

    @property
    def is_whole_step_on_torch(self) -> bool:
        return any(row.how == WHOLE_STEP for row in self.rows)

    def followed_by(self, backward: Report) -> Report:
        """The report of both passes of a function; `backward` marks the kernels of its own."""
        rows = [replace(row, kernel=f"backward/{row.kernel}") for row in backward.rows]
        peak = max(self.peak, backward.peak, key=lambda peak: peak.bytes)
        records = (*self.records, *backward.records)
        calls = self.calls and backward.calls and self.calls + backward.calls
        return replace(
            self,
            rows=(*self.rows, *rows),
            peak=peak,
            logits=(*self.logits, *backward.logits),
            calls=calls,
            records=records,
        )

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

    @property
    def arena_bytes(self) -> int:
        """Of the temporaries."""
        return self.peak.arena

    def json(self, gpu: Device | None = None) -> str:
        """All of it; with a GPU, the seconds that its roofline allows each row."""
        body = {
            **asdict(replace(self, records=())),
            "bytes": self.bytes,
            "arena_bytes": self.arena_bytes,
            "peak_bytes": self.peak.bytes,
            "fallbacks": len(self.fallbacks),
        }
        del body["records"]
        body["rows"] = [self._json_row(row, gpu) for row in self.rows]
        if self.floor is not None:
            body["floor"]["bytes"] = self.floor.bytes
        return json.dumps(body, indent=1)

    @staticmethod
    def _json_row(row: Row, gpu: Device | None) -> dict:
        body = asdict(row)
        body |= {"bytes": row.bytes, **body.pop("cost")}
        return body if gpu is None else body | {"seconds": row.cost.seconds(gpu)}

    def html(self, path: str | Path, gpu: Device | None = None) -> None:
        """Writes a page of the launches, memory, kernels and stages that needs no other file; with a
        GPU, it has the time that its roofline allows each launch.

        Raises:
            ValueError: the report is not of `explain`, so it holds no stages.
            OSError: the file cannot be written.
        """
        from .page import render

        Path(path).write_text(render(self, gpu))

    def summary(self) -> str:
        """One line: launches, fallbacks, bytes."""
        total = sum(row.times or 1 for row in self.rows)
        within = f" ({total} with those of loops)" if self._loops else ""
        return (
            f"{self.step} on {self.target}: {len(self.rows)} launches{within}, "
            f"{len(self.fallbacks)} fallbacks, "
            f"{self.bytes / 1e6:.2f} MB moved, {self.arena_bytes / 1e6:.2f} MB of temporaries, "
            f"float32 products: {self.float32_products}"
        )

    def launching(self) -> str:
        """How many calls of native code make the launches, and which launches Python makes."""
        return str(self.calls or "")

    def memory(self) -> str:
        """The memory that the step takes at its peak, and what for."""
        peak = self.peak
        parts = (
            (peak.arguments, "variables and batch"),
            (peak.outputs, "results"),
            (peak.arena, "temporaries"),
            (peak.workspace, "beside them in one launch"),
        )
        shown = ", ".join(f"{nbytes / 1e6:.2f} {what}" for nbytes, what in parts if nbytes)
        return f"{peak.bytes / 1e6:.2f} MB at the peak: {shown}" if peak.bytes else ""

    def budget(self) -> str:
        """What a budget of memory changed."""
        fit = self.fitted
        if fit is None:
            return ""
        again = sum(bool(row.again) for row in self.rows)
        return (
            f"{fit.after / 1e6:.2f} MB of variables, batch, results and temporaries instead of "
            f"{fit.before / 1e6:.2f} MB: {again} launches make values again, and that is "
            f"{'within' if fit.is_within else 'NOT within'} the budget of {fit.budget / 1e6:.2f} MB"
        )

    def compared(self) -> str:
        """The bytes moved beside the floor, and beside what the graph moves op by op."""
        floor = self.floor
        if floor is None or not floor.bytes:
            return ""
        return (
            f"{self.bytes / floor.bytes:.2f} times the floor of {floor.bytes / 1e6:.2f} MB; op by op "
            f"{floor.unfused / 1e6:.2f} MB in {floor.unfused_launches} launches"
        )

    def print(self, console: Console | None = None, gpu: Device | None = None) -> None:
        """The report as a table; with a GPU, the microseconds that its roofline allows each row.

        A narrow console gets no costs but bytes, no ops and only the notes on fallbacks.
        """
        console = console or Console()
        wide = console.width >= WIDE
        lines = self.summary(), self.launching(), self.memory(), self.budget(), self.compared()
        title = "\n".join(line for line in (*lines, *self.logits) if line)
        table = Table(title=title, title_justify="left")
        for name in ("kernel", "runs as", "layers"):
            table.add_column(name, overflow="fold")
        numbers = columns(wide, self._loops, gpu)
        for name in numbers:
            table.add_column(name, overflow="fold", justify="right")
        for name in ("ops", "notes") if wide else ():
            table.add_column(name, overflow="fold")
        for row in self.rows:
            cells = [row.kernel, row.how, "\n".join(row.layers)]
            cells += [show(row) for show in numbers.values()]
            if wide:
                cells += [counted(row.ops), row.note]
            table.add_row(*cells)
        console.print(table)
        if not wide:
            for row in self.fallbacks:
                console.print(f"{row.kernel} falls back to {row.how}: {row.fallback}")


def columns(wide: bool, loops: bool, gpu: Device | None) -> dict[str, Callable[[Row], str]]:
    """The columns of numbers: a name, and what a row shows there."""
    columns: dict[str, Callable[[Row], str]] = {}
    if loops:
        columns["times"] = lambda row: "while" if row.times is None else str(row.times)
    if wide:
        columns["kB read"] = lambda row: f"{row.cost.read / 1e3:.1f}"
        columns["kB written"] = lambda row: f"{row.cost.written / 1e3:.1f}"
        columns["Mflop"] = lambda row: f"{row.cost.flops / 1e6:.2f}"
        columns["flop/B"] = lambda row: f"{row.cost.flops / max(row.bytes, 1):.1f}"
    else:
        columns["kB"] = lambda row: f"{row.bytes / 1e3:.1f}"
    if gpu is not None:
        columns[f"µs on {gpu.name.split()[-1]}"] = lambda row: f"{1e6 * row.cost.seconds(gpu):.2f}"
    return columns


def describe(step: str, target: Target, plan: Plan, compiled: Mapping[str, Compiled]) -> Report:
    """The report of a plan whose kernels a target compiled."""
    rows = (_repeated(_row(item, plan, compiled), times) for item, times in plan_walk(plan.steps))

    def workspace(call: Call) -> int:
        made = compiled[call.kernel]
        return made.scratch + (result_bytes(call) if made.copied else 0)

    peak, fitted = peak_of(plan, workspace), Fit.of(plan.module)
    executors = {name: made.executor for name, made in compiled.items()}
    return Report(
        step,
        target.name,
        tuple(rows),
        peak,
        fitted=fitted,
        logits=told_of(plan.module),
        float32_products=torch.get_float32_matmul_precision(),
        calls=NativeCalls.of(plan.steps, executors) if target.native else None,
    )


def _repeated(row: Row, times: int | None) -> Row:
    """The row of one launch as that of all that a loop makes."""
    return replace(row, times=times, cost=row.cost * (times or 1))


def _row(item: Call | Copy, plan: Plan, compiled: Mapping[str, Compiled]) -> Row:
    layers, cost = (item.layer,) if item.layer else (), cost_of(item, plan)
    if isinstance(item, Copy):
        return Row("copy", "torch copy", layers, ("copy",), cost)
    made = compiled[item.kernel]
    function = plan.kernels[item.kernel]
    extern = Extern.of(function)
    if extern is not None:
        called = (extern.target,)
        return Row(item.kernel, made.how, layers, called, cost, made.fallback, again=item.again)
    within = tuple(_strings(function, "keras.layers"))
    reason = _grouped(_strings(function, "keras.reason"))
    ops, fallback = _ops(function), made.fallback
    return Row(item.kernel, made.how, within, ops, cost, fallback, reason, again=item.again)


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


def counted(ops: Sequence[str]) -> str:
    """ "add ×3 mul tanh": each op once, in order of first use."""
    counts = dict.fromkeys(ops, 0)
    for op in ops:
        counts[op] += 1
    return " ".join(op if count == 1 else f"{op}×{count}" for op, count in counts.items())
