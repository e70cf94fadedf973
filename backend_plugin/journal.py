"""Remembers what this process compiled and what it could not, and says so at exit if asked to."""

from __future__ import annotations

import atexit
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from rich.console import Console
from rich.table import Table

from .capture_errors import CaptureError
from .report import Report
from .settings import settings


@dataclass
class CallCounts:
    """How often a function was captured, ran compiled, and ran op by op."""

    captures: int = 0
    compiled: int = 0
    op_by_op: int = 0


@dataclass(frozen=True)
class Stats:
    """What became of the steps and functions that this process was to compile.

    Attributes:
        reports: one a compiled program, in order; each lists its launches.
        refused: why steps and functions run op by op, in order.
        counts: calls and captures of all of them together. A step that is not compiled yet, or has
            an argument that is no tensor, runs op by op too, so there may be more such calls than
            refusals.
        kept: how many of the programs were found on disk: nothing was lowered or compiled for them.
        closed: why steps and functions are compiled for each size of the data on its own.
        unrecorded: why programs on a GPU launch their kernels one by one at each call.
    """

    reports: tuple[Report, ...]
    refused: tuple[CaptureError, ...]
    counts: CallCounts
    kept: int = 0
    closed: tuple[str, ...] = ()
    unrecorded: tuple[str, ...] = ()

    @property
    def launches(self) -> int:
        """Launches of all programs, once each."""
        return sum(len(report.rows) for report in self.reports)

    @property
    def fallbacks(self) -> dict[str, int]:
        """Why torch runs launches that the compiler would have liked to run: reason -> launches."""
        rows = (row for report in self.reports for row in report.fallbacks)
        return _counted(row.fallback for row in rows)

    @property
    def refusals(self) -> dict[str, int]:
        """Why steps and functions run op by op: reason -> signatures."""
        return _counted(error.reason for error in self.refused)

    def json(self) -> str:
        """Everything but the reports' rows."""
        body = {
            "programs": [report.summary() for report in self.reports],
            "programs_found_on_disk": self.kept,
            "launches": self.launches,
            "calls": asdict(self.counts),
            "fallbacks": self.fallbacks,
            "refusals": self.refusals,
            "compiled_for_each_size": _counted(self.closed),
            "launched_one_by_one": _counted(self.unrecorded),
        }
        return json.dumps(body, indent=1)

    def print(self, console: Console | None = None) -> None:
        """The totals as lines, the reasons as a table."""
        console = console or Console()
        counts = self.counts
        console.print(
            f"captures: {counts.captures}; programs: {len(self.reports)} ({self.kept} found on disk), "
            f"of {self.launches} launches; "
            f"calls: {counts.compiled} compiled, {counts.op_by_op} op by op"
        )
        rows = [("launch on torch", *item) for item in self.fallbacks.items()]
        rows += [("op by op", *item) for item in self.refusals.items()]
        rows += [("compiled for each size", *item) for item in _counted(self.closed).items()]
        rows += [("launched one by one", *item) for item in _counted(self.unrecorded).items()]
        if rows:
            table = Table("what", "reason", "count")
            for what, reason, count in rows:
                table.add_row(what, reason, str(count))
            console.print(table)


_reports: list[Report] = []
_kept: list[Report] = []
_refusals: list[CaptureError] = []
_closed: list[str] = []
_unrecorded: list[str] = []
_counts: list[CallCounts] = []


def record(report: Report, *, kept: bool) -> None:
    """Keeps a compiled step's report, and whether the program was found on disk; with
    KERAS_TRITON_VERBOSE, what was compiled prints at exit.

    At exit rather than at once: a table in the middle of Keras's progress bar helps nobody.
    """
    if not _reports and settings().verbose:
        atexit.register(_print)
    _reports.append(report)
    if kept:
        _kept.append(report)


def record_refusal(error: CaptureError) -> None:
    """Keeps why a step runs op by op."""
    _refusals.append(error)


def record_closed(reason: str) -> None:
    """Keeps why a step is compiled for each size of its data on its own."""
    _closed.append(reason)


def record_unrecorded(reason: str) -> None:
    """Keeps why a program on a GPU launches its kernels one by one."""
    _unrecorded.append(reason)


def new_counts() -> CallCounts:
    """Counts of one step or function, which `stats()` adds up."""
    _counts.append(CallCounts())
    return _counts[-1]


def stats() -> Stats:
    """What this process compiled so far, and what it could not."""
    totals = CallCounts(
        sum(counts.captures for counts in _counts),
        sum(counts.compiled for counts in _counts),
        sum(counts.op_by_op for counts in _counts),
    )
    return Stats(
        tuple(_reports),
        tuple(_refusals),
        totals,
        len(_kept),
        tuple(_closed),
        tuple(_unrecorded),
    )


def _counted(reasons: Iterable[str]) -> dict[str, int]:
    """The reasons, most frequent first."""
    return dict(Counter(reasons).most_common())


def _print() -> None:
    """Each step once: compiled for several shapes, it becomes the same launches most of the time."""
    alike: dict[tuple, list[Report]] = {}
    for report in _reports:
        launches = tuple((row.how, row.ops) for row in report.rows)
        alike.setdefault((report.step, report.target, launches), []).append(report)
    for first, *more in alike.values():
        if settings().verbose == 1:
            print(f"keras-triton: {first.summary()}")
        else:
            first.print()
        if more:
            print(
                f"keras-triton: the same launches for {len(more)} more signatures of {first.step}"
            )
