"""`python -m keras_triton.bench.compiler`: how good the compiler's plans are, told with no hardware.

For each model's train step and each target: launches, bytes moved, their floor, and memory beside what
Keras on torch takes. Nothing is compiled or run, so the figures are the same on every machine;
`bench/results/compiler.json` holds them, and a test makes those of the blocks again: a pass that loses a
fusion is seen at once.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

from triton_keras_loader.environment import installed_version

if TYPE_CHECKING:
    from keras_triton.lowering.plan import Call, Plan
    from keras_triton.lowering.work import Floor

    from .launches import Launch

RESULTS = Path(__file__).parent / "results" / "compiler.json"
TARGETS = ("cpu", "triton")


@dataclass(frozen=True)
class Figures:
    """One train step on one target.

    Attributes:
        launches: of a step, those in loops each time; of them
        generated: kernels that the compiler writes,
        templates: products, convolutions, norms and the like, with what is fused behind them,
        torch: calls of torch for what the dialect does not express, and copies.
        own_launches: of the launches, those with an op of the block's own layers (launches.py).
        bytes: that they read and write, each operand and result once a launch.
        floor_bytes: what no fusion can save.
        unfused_bytes, unfused_launches: of the graph op by op.
        arena_bytes: memory for temporaries.
        peak_bytes: what the step takes at its peak: arguments, results, temporaries, and what a call of
            torch makes, or a template lays aside, beside them. On a GPU the figure holds for the first
            guess of configurations.
        eager_peak_bytes: the same of Keras on torch, op by op; eager.py says what that counts.
    """

    model: str
    target: str
    launches: int
    generated: int
    templates: int
    torch: int
    own_launches: int
    bytes: int
    floor_bytes: int
    unfused_bytes: int
    unfused_launches: int
    arena_bytes: int
    peak_bytes: int
    eager_peak_bytes: int

    @property
    def ratio(self) -> float:
        """Bytes moved by the floor."""
        return self.bytes / self.floor_bytes

    @property
    def peak_ratio(self) -> float:
        """The peak by that of Keras on torch."""
        return self.peak_bytes / self.eager_peak_bytes


def plans(name: str) -> Iterator[tuple[str, Plan, Floor]]:
    """The plan of a model of blocks.py on each target, and the floor of its step."""
    from keras_triton.compile import import_captured
    from keras_triton.explanation import capture_example
    from keras_triton.lowering.pipeline import lower
    from keras_triton.lowering.plan_reader import read_plan
    from keras_triton.lowering.work import floor_of
    from keras_triton.targets.base import asked_by
    from keras_triton.targets.cpu import CpuTarget
    from keras_triton.targets.triton import TritonTarget

    from .blocks import example

    module = import_captured(capture_example(*example(name)))
    floor = floor_of(module)
    # The classes say what they ask for; one of a GPU's can only be made where there is one.
    for target, asking in zip(TARGETS, (CpuTarget, TritonTarget), strict=True):
        yield target, read_plan(lower(module, **asked_by(asking))), floor


def figures(name: str, eager_peak: int) -> Iterator[Figures]:
    """The figures of a model of blocks.py on each target; `eager_peak` is that of `eager_peaks`."""
    from keras_triton.lowering.peak import peak_of

    from .launches import launches_of

    for target, plan, floor in plans(name):
        launches = list(launches_of(plan))
        counted = _counted(launches)
        yield Figures(
            name,
            target,
            sum(counted.values()),
            **counted,
            own_launches=sum(launch.times for launch in launches if launch.own),
            bytes=sum(launch.bytes * launch.times for launch in launches),
            floor_bytes=floor.bytes,
            unfused_bytes=floor.unfused,
            unfused_launches=floor.unfused_launches,
            arena_bytes=plan.arena_bytes,
            peak_bytes=peak_of(plan, partial(_workspace, target, plan)).bytes,
            eager_peak_bytes=eager_peak,
        )


def _counted(launches: Sequence[Launch]) -> dict[str, int]:
    """Launches by who makes them."""
    counted = dict.fromkeys(("generated", "templates", "torch"), 0)
    for launch in launches:
        written = launch.kind in ("loop", "multi")
        who = "generated" if written else "templates" if launch.kind else "torch"
        counted[who] += launch.times
    return counted


def _workspace(target: str, plan: Plan, call: Call) -> int:
    """What torch makes of a launch before it is copied to its place; of a GPU's templates, what they lay
    aside for a second kernel.
    """
    from keras_triton.kernels import spec
    from keras_triton.lowering import emit_llvm, emit_triton
    from keras_triton.lowering.errors import EmitError
    from keras_triton.lowering.peak import result_bytes
    from keras_triton.lowering.region import kernel_kind
    from keras_triton.vendor import CALLS

    function = plan.kernels[call.kernel]
    kind = kernel_kind(function)
    if target == "triton" and spec.has(kind):
        with suppress(EmitError):  # torch runs it
            program = emit_triton.load(emit_triton.emit(function)).program
            return sum(scratch.bytes for scratch in program.scratch.values())
    ours = {"loop", "multi"}
    if target == "cpu":
        in_place = (name for name, (_, _, copied) in CALLS.items() if not copied)
        ours = {*emit_llvm.KINDS, *in_place}
    return 0 if kind in ours else result_bytes(call)


def show(rows: Sequence[Figures], console: Console) -> None:
    table = Table(title="Train steps in mixed_bfloat16 under Adam", title_justify="left")
    for column in ("model", "target"):
        table.add_column(column)
    for column in (
        "launches", "own", "generated", "templates", "torch", "MB", "of the floor", "op by op", "MB op by op",
        "MB of temporaries", "MB at the peak", "of torch's",
    ):  # fmt: skip
        table.add_column(column, justify="right")
    for row in rows:
        counts = (row.launches, row.own_launches, row.generated, row.templates, row.torch)
        table.add_row(
            row.model,
            row.target,
            *map(str, counts),
            f"{row.bytes / 1e6:.1f}",
            f"{row.ratio:.2f}",
            str(row.unfused_launches),
            f"{row.unfused_bytes / 1e6:.1f}",
            f"{row.arena_bytes / 1e6:.1f}",
            f"{row.peak_bytes / 1e6:.1f}",
            f"{row.peak_ratio:.2f}",
        )
    console.print(table)


def versions() -> dict[str, str]:
    """Of what captures a step: another one may capture another graph."""
    return {name: str(installed_version(name)) for name in ("keras", "torch")}


def kept(path: Path = RESULTS) -> dict[str, Any]:
    """What a file holds; nothing if there is none."""
    return json.loads(path.read_text()) if path.exists() else {}


def keep(body: dict[str, Any], path: Path = RESULTS) -> None:
    """Writes all of a file."""
    path.write_text(json.dumps(body, indent=1) + "\n")


def read(path: Path = RESULTS) -> list[Figures]:
    """The figures that a file holds."""
    return [Figures(**row) for row in kept(path).get("rows", [])]


def versions_of(path: Path = RESULTS) -> dict[str, str]:
    """The versions that a file's figures were made with."""
    return kept(path)["versions"]


def write(rows: Sequence[Figures], path: Path = RESULTS) -> None:
    """Keeps figures in a file, in place of older ones of the same models."""
    known = {(row.model, row.target): row for row in [*read(path), *rows]}
    figures = [asdict(row) for row in known.values()]
    keep({**kept(path), "versions": versions(), "rows": figures}, path)


def main(arguments: Sequence[str] | None = None) -> int:
    os.environ.setdefault("KERAS_BACKEND", "triton")
    from .blocks import BLOCKS, MODELS
    from .eager import eager_peaks

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"of {', '.join(MODELS)}")
    parser.add_argument("--all", action="store_true", help="the whole models too (minutes)")
    parser.add_argument("--launches", action="store_true", help="list the launches instead")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--write", action="store_true", help=f"keep the figures in {RESULTS.name}")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.models if name not in MODELS]
    if unknown:
        parser.error(f"no model is called {unknown[0]!r}; there are {', '.join(MODELS)}")
    names = list(options.models or (MODELS if options.all else BLOCKS))
    if options.launches:
        _list_launches(names)
        return 0
    waiting = Console(stderr=True)
    peaks = eager_peaks(names)
    shown = track(names, "lowering", console=waiting)
    rows = [row for name in shown for row in figures(name, peaks[name])]
    if options.write:
        write(rows)
    if options.json:
        print(json.dumps([asdict(row) for row in rows], indent=1))
    else:
        show(rows, Console())
    return 0


def _list_launches(names: Iterable[str]) -> None:
    from .launches import launches_of, show_launches

    for name in names:
        for target, plan, _ in plans(name):
            show_launches(name, target, list(launches_of(plan)), Console())


if __name__ == "__main__":
    raise SystemExit(main())
