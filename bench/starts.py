"""`python -m keras_triton.bench.starts`: what it takes until a train step runs, and for which sizes it serves.

For each model and stack of blocks.py, in a process of its own: processor seconds to capture the step and
to compile it for the CPU, then the same with the compiled step on disk; and with the size of the batch left
open, how many of the kernels serve every size and what a new size costs. Nothing runs. `--write` keeps it in
`bench/results/starts.json` (seconds are those of one machine); a test makes the counts of the blocks again.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

RESULTS = Path(__file__).parent / "results" / "starts.json"


@dataclass(frozen=True)
class OpenBatch:
    """A step captured for batches of any size.

    Attributes:
        kernels: that the compiler makes for a CPU; products and the like are calls of torch there.
        any_size: those of them that one compilation makes for all sizes.
        closed: why the step is compiled for each size on its own; "" if it is not.
    """

    kernels: int
    any_size: int
    closed: str = ""


@dataclass(frozen=True)
class Start:
    """How a model starts. All seconds are the processor's.

    Attributes:
        nodes: of the captured graph.
        capture, compile: seconds of each.
        kept: seconds to make the step ready when it is found on disk, its capture included.
        new_size: seconds that another size of an open batch costs.
    """

    model: str
    nodes: int
    capture: float
    compile: float
    kept: float
    new_size: float
    open_batch: OpenBatch

    @property
    def cold(self) -> float:
        """Seconds until the step could run."""
        return self.capture + self.compile


def open_batch(name: str) -> tuple[OpenBatch, float]:
    """A model's step with its batch left open, and the seconds that a new size costs."""
    from keras_triton.compile import compile_quietly
    from keras_triton.explanation import example_of
    from keras_triton.families import batches_of
    from keras_triton.sized_program import SizedProgram

    from .blocks import example

    found = example_of(*example(name))
    family = batches_of(found.arguments.shapes)
    assert family is not None
    try:
        program = compile_quietly(found.capture(family.axes)).program
    except Exception as error:
        return OpenBatch(0, 0, str(error)), 0.0
    assert isinstance(program, SizedProgram)
    kernels = program.kernels
    begun = time.process_time()
    planned = kernels.at(3)
    seconds = time.process_time() - begun
    loops = [name for name, made in planned.kernels.items() if made.how.startswith("native")]
    return OpenBatch(len(loops), len(kernels.compiled.keys() & set(loops))), seconds


def measure(name: str) -> Start:
    """A model's start, in this process: the first model of a process pays for what is loaded."""
    from keras_triton import collector
    from keras_triton.compile import compile_quietly
    from keras_triton.explanation import example_of

    from .blocks import example

    found = example_of(*example(name))
    with collector.paused():  # as where a call finds no program
        begun = time.process_time()
        captured = found.capture()
        then = time.process_time()
        kept = compile_quietly(captured).kept
        end = time.process_time()
    nodes = len(captured.graph.graph.nodes)
    if kept:
        return Start(name, nodes, 0.0, 0.0, end - begun, 0.0, OpenBatch(0, 0))
    sizes, seconds = open_batch(name)
    return Start(name, nodes, then - begun, end - then, 0.0, seconds, sizes)


def start(name: str) -> Start:
    """A model's start in fresh processes: with nothing on disk, then with the step there."""
    with tempfile.TemporaryDirectory() as folder:
        cold, warm = (_in_a_process(name, folder) for _ in range(2))
    made = Start(**{**cold, "kept": warm["kept"], "open_batch": OpenBatch(**cold["open_batch"])})
    assert warm["kept"], f"{name} was not found on disk"
    return made


def _in_a_process(name: str, folder: str) -> dict:
    environment = {
        **os.environ,
        "KERAS_BACKEND": "triton",
        "KERAS_TRITON_TARGET": "cpu",
        "KERAS_TRITON_CACHE": folder,
        "KERAS_TRITON_CACHE_SIZE": "500",
    }
    command = [sys.executable, "-m", __spec__.name, "--here", name]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{name}: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout.splitlines()[-1])


def show(rows: Sequence[Start], console: Console) -> None:
    table = Table(
        title="Processor seconds until a train step can run on a CPU", title_justify="left"
    )
    table.add_column("model")
    for column in (
        "nodes", "capture", "compile", "cold", "from disk", "new size", "kernels", "any size",
    ):  # fmt: skip
        table.add_column(column, justify="right")
    for row in rows:
        seconds = (row.capture, row.compile, row.cold, row.kept, row.new_size)
        sizes = row.open_batch
        counts = (sizes.closed, "") if sizes.closed else (str(sizes.kernels), str(sizes.any_size))
        table.add_row(row.model, str(row.nodes), *(f"{s:.2f}" for s in seconds), *counts)
    console.print(table)


def read(path: Path = RESULTS) -> list[Start]:
    """What a file holds."""
    rows = json.loads(path.read_text())["rows"] if path.exists() else []
    return [Start(**{**row, "open_batch": OpenBatch(**row["open_batch"])}) for row in rows]


def write(rows: Sequence[Start], path: Path = RESULTS) -> None:
    """Keeps figures in a file, in place of older ones of the same models."""
    known = {row.model: row for row in [*read(path), *rows]}
    machine = f"{os.cpu_count()} cores, {platform.machine()}, torch {torch.__version__}"
    body = {"machine": machine, "rows": [asdict(row) for row in known.values()]}
    path.write_text(json.dumps(body, indent=1) + "\n")


def main(arguments: Sequence[str] | None = None) -> int:
    os.environ.setdefault("KERAS_BACKEND", "triton")
    from .blocks import BLOCKS, MODELS, STACKS

    known = [*MODELS, *STACKS]
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"of {', '.join(known)}")
    parser.add_argument("--all", action="store_true", help="whole models and stacks too (minutes)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--write", action="store_true", help=f"keep the figures in {RESULTS.name}")
    parser.add_argument("--here", metavar="MODEL", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.here:
        print(json.dumps(asdict(measure(options.here))))
        return 0
    unknown = [name for name in options.models if name not in known]
    if unknown:
        parser.error(f"no model is called {unknown[0]!r}; there are {', '.join(known)}")
    names = options.models or (known if options.all else BLOCKS)
    rows = [start(name) for name in track(list(names), "starting", console=Console(stderr=True))]
    if options.write:
        write(rows)
    if options.json:
        print(json.dumps([asdict(row) for row in rows], indent=1))
    else:
        show(rows, Console())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
