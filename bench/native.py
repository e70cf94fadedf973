"""`python -m keras_triton.bench.native NAME..`: what one native call a step saves, and what Python still takes.

Train steps on a CPU, whose launches one native call makes or Python one by one, in turn.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from rich.console import Console
from rich.table import Table

from keras_triton.lowering.emit_llvm.driver import driver

POLICIES = ("float32", "mixed_bfloat16")


@dataclass(frozen=True)
class Times:
    """Microseconds of a model's train step, medians.

    Attributes:
        calls: native ones a step, and the launches that Python makes.
        launches: those of loops with them.
        native, one_by_one: the step.
        ratio: the latter by the former, of each round.
        python: what the step takes beside its native calls.
        idle: the same if they do nothing, so that nothing else has used the processor's caches.
    """

    model: str
    calls: str
    launches: int
    native: float
    one_by_one: float
    ratio: float
    python: float
    idle: float


def measure(name: str, policy: str, rounds: int) -> Times:
    """The step of a model of blocks.py, on data and variables of zeros."""
    from keras_triton.compile import compile_quietly
    from keras_triton.explanation import capture_example
    from keras_triton.lowering.plan import walk
    from keras_triton.runtime import Program
    from keras_triton.settings import settings

    from .blocks import example

    captured = capture_example(*example(name, policy))
    compiled = compile_quietly(captured, replace(settings(), target="cpu"))
    native = compiled.program
    assert isinstance(native, Program)
    plan = native.plan
    python = Program(plan, native.executors, native.device)
    arguments = [torch.zeros(arg.type.shape, dtype=arg.type.torch_dtype) for arg in plan.arguments]

    def native_step() -> object:
        return native(arguments)

    def python_step() -> object:
        return python(arguments)

    pairs = [(seconds(native_step), seconds(python_step)) for _ in range(rounds + 3)][3:]
    with watched() as inside:
        beside = [seconds(native_step) - inside.pop() for _ in range(rounds)]
    with watched(idle=True):
        idle = [seconds(native_step) for _ in range(10 * rounds)]
    return Times(
        name,
        str(compiled.report.calls),
        sum(times or 1 for _, times in walk(plan.steps)),
        _micros([fast for fast, _ in pairs]),
        _micros([slow for _, slow in pairs]),
        statistics.median(slow / fast for fast, slow in pairs),
        _micros(beside),
        _micros(idle),
    )


def seconds(step: Callable[[], object]) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


@contextmanager
def watched(*, idle: bool = False) -> Iterator[list[float]]:
    """Takes the seconds of each native call; if idle, none does anything."""
    run, found = driver().run, []

    def timed(*call: int) -> int:
        start = time.perf_counter()
        status = 0 if idle else run(*call)
        found.append(time.perf_counter() - start)
        return status

    driver().run = timed  # type: ignore[assignment, method-assign]
    try:
        yield found
    finally:
        del driver().run


def _micros(values: Sequence[float]) -> float:
    return 1e6 * statistics.median(values)


def _print(rows: Sequence[Times], title: str) -> None:
    table = Table(title=title, title_justify="left")
    for column in (
        "model", "native calls", "launches", "µs", "one by one", "ratio", "Python's µs",
        "if nothing runs",
    ):  # fmt: skip
        table.add_column(column, overflow="fold")
    for row in rows:
        figures = f"{row.native:.0f}", f"{row.one_by_one:.0f}", f"{row.ratio:.2f}"
        beside = f"{row.python:.0f}", f"{row.idle:.1f}"
        table.add_row(row.model, row.calls, str(row.launches), *figures, *beside)
    Console().print(table)


def main() -> None:
    os.environ.setdefault("KERAS_BACKEND", "triton")
    from .blocks import BLOCKS, MODELS

    parser = argparse.ArgumentParser("python -m keras_triton.bench.native", description=__doc__)
    parser.add_argument("models", nargs="*", default=[*BLOCKS, "lstm_tagger"], metavar="NAME")
    parser.add_argument("--policy", default="float32", choices=POLICIES)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    for name in options.models:
        if name not in MODELS:
            parser.error(f"no model {name}: {', '.join(MODELS)}")
    torch.set_num_threads(options.threads)
    rows = [measure(name, options.policy, options.rounds) for name in options.models]
    _print(rows, f"train steps in {options.policy}, {options.threads} threads")


if __name__ == "__main__":
    main()
