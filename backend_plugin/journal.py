"""Remembers what this process compiled, and says so at exit if the user asked for it."""

from __future__ import annotations

import atexit

from .capture_errors import CaptureError
from .report import Report
from .settings import settings

_reports: list[Report] = []
_refusals: list[CaptureError] = []


def record(report: Report) -> None:
    """Keeps a compiled step's report; with KERAS_TRITON_VERBOSE, what was compiled prints at exit.

    At exit rather than at once: a table in the middle of Keras's progress bar helps nobody.
    """
    if not _reports and settings().verbose:
        atexit.register(_print)
    _reports.append(report)


def record_refusal(error: CaptureError) -> None:
    """Keeps why a step runs op by op."""
    _refusals.append(error)


def refusals() -> list[CaptureError]:
    """Why steps of this process ran op by op, in order."""
    return list(_refusals)


def stats() -> list[Report]:
    """The reports of all steps compiled so far in this process, in order."""
    return list(_reports)


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
