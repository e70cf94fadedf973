"""`python -m keras_triton.bench.report`: what is committed of the compiler's figures, as one page of tables.

The page is `bench/results/compiler.md`; a test holds that it says what the files beside it hold. With `--make`
all figures are made anew first: compiler.py's, inductor.py's and starts.py's, for all models (twenty
minutes on two cores that do nothing else).
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from . import compiler, inductor, starts

PAGE = compiler.RESULTS.with_suffix(".md")
MEASURES = (compiler, inductor, starts)


def page() -> str:
    """The page, in Markdown."""
    sections = (_head(), _traffic(), _memory(), _kernels(), _sizes(), _seconds(), _stacks())
    return "\n\n".join("\n".join(section) for section in sections) + "\n"


TITLES = {
    "mlp": "perceptron with layer normalization, GELU, dropout",
    "transformer": "pre-norm transformer block",
    "bottleneck": "ResNet bottleneck block",
    "gru": "GRU of 64 steps",
}


def blocks() -> str:
    """The README's table: the blocks on a GPU."""
    columns = ["block", "launches", "op by op", "bytes moved, by the floor", "op by op"]
    rows = []
    for name, title in TITLES.items():
        (row,) = (r for r in compiler.read() if (r.model, r.target) == (name, "triton"))
        unfused = f"{row.unfused_bytes / row.floor_bytes:.1f}"
        counts = (row.launches, row.unfused_launches, f"{row.ratio:.2f}", unfused)
        rows.append((title, *counts, f"{row.peak_ratio:.2f}"))
    return "\n".join(_table([*columns, "peak memory, by torch's"], rows))


def _head() -> Iterator[str]:
    made = ", ".join(f"{name} {version}" for name, version in compiler.versions_of().items())
    yield "# The compiler's figures"
    yield ""
    yield (
        "Train steps in mixed_bfloat16 under Adam, of the models of [`blocks.py`](../blocks.py). "
        "Made by `python -m keras_triton.bench.report --make`; tests make the first four again and "
        f"compare. Captured with {made}."
    )


def _table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[str]:
    yield "| " + " | ".join(columns) + " |"
    yield "|---" * len(columns) + "|"
    for row in rows:
        yield "| " + " | ".join(map(str, row)) + " |"


def _traffic() -> Iterator[str]:
    yield "## Launches and bytes"
    yield ""
    yield (
        "Launches of a step, of them those of the block's own layers, and of the graph op by op. Bytes that "
        "launches read and write, by the floor: operands and results of each product, convolution and "
        "attention once, parameters and optimizer state once in and once out, the step's inputs and outputs."
    )
    yield ""
    columns = ("model", "target", "launches", "own", "op by op", "MB", "floor, MB")
    yield from _table(
        (*columns, "by the floor", "op by op"),
        (
            (
                f"`{row.model}`", row.target, row.launches, row.own_launches, row.unfused_launches,
                f"{row.bytes / 1e6:.1f}", f"{row.floor_bytes / 1e6:.1f}", f"{row.ratio:.2f}",
                f"{row.unfused_bytes / row.floor_bytes:.1f}",
            )
            for row in compiler.read()
        ),
    )  # fmt: skip


def _memory() -> Iterator[str]:
    yield "## Memory"
    yield ""
    yield (
        "What a step takes at its peak: variables, batch, results and temporaries, beside the same step of "
        "Keras on torch, op by op ([`eager.py`](../eager.py) says what that counts)."
    )
    yield ""
    columns = ("model", "target", "temporaries, MB", "peak, MB", "torch's peak, MB", "by torch's")
    yield from _table(
        columns,
        (
            (
                f"`{row.model}`", row.target, f"{row.arena_bytes / 1e6:.1f}",
                f"{row.peak_bytes / 1e6:.1f}", f"{row.eager_peak_bytes / 1e6:.1f}",
                f"{row.peak_ratio:.2f}",
            )
            for row in compiler.read()
        ),
    )  # fmt: skip


def _kernels() -> Iterator[str]:
    yield "## Generated kernels, beside Inductor's"
    yield ""
    yield (
        "The same captured graphs through torch's Inductor for a CPU, as far as its generated code: loop "
        "nests, the C++ functions that hold those between two calls, and calls of torch. Dropout and "
        "cross-entropy are ops of the graph, so calls there, and parts of kernels here. A function holds all "
        "nests between two calls, one after another; a kernel here is one nest."
    )
    yield ""
    ours = {(row.model, row.target): row for row in compiler.read()}
    columns = ["model", "Inductor: nests", "functions", "calls"]
    columns += ["for a GPU: kernels", "other launches", "for a CPU: kernels", "other launches"]
    rows = []
    for row in inductor.read():
        shown: list[object] = [f"`{row.model}`", row.kernels, row.functions, row.calls]
        for target in ("triton", "cpu"):
            plan = ours[row.model, target]
            shown += [plan.generated, plan.launches - plan.generated]
        rows.append(shown)
    yield from _table(columns, rows)


def _sizes() -> Iterator[str]:
    yield "## Batches of any size"
    yield ""
    yield (
        "Steps captured with an open batch: kernels that the compiler makes for a CPU, those of them that one "
        "compilation makes for all sizes, and processor seconds that another size costs."
    )
    yield ""
    yield from _table(
        ("model", "kernels", "for any size", "a new size, s"),
        (
            (
                f"`{row.model}`", row.open_batch.kernels,
                row.open_batch.closed or row.open_batch.any_size, f"{row.new_size:.2f}",
            )
            for row in starts.read()
        ),
    )  # fmt: skip


def _seconds() -> Iterator[str]:
    machine = json.loads(starts.RESULTS.read_text())["machine"]
    yield "## Starts"
    yield ""
    yield (
        "Processor seconds until the train step can run on a CPU, in a fresh process: to capture it and to "
        f"compile it, then with the compiled step found on disk. Of one machine ({machine})."
    )
    yield ""
    yield from _starts(row for row in starts.read() if not _blocks(row))


def _stacks() -> Iterator[str]:
    yield "## Twice the layers"
    yield ""
    yield "The same for stacks of equal transformer blocks; layers alike are compiled once."
    yield ""
    yield from _starts(filter(_blocks, starts.read()))


def _blocks(row: starts.Start) -> int:
    """How many layers a stack has; 0 of what is none."""
    return int(row.model.rpartition("_x")[2]) if "_x" in row.model else 0


def _starts(rows: Iterable[starts.Start]) -> Iterator[str]:
    yield from _table(
        ("model", "nodes", "capture", "compile", "both", "from disk"),
        (
            (
                f"`{row.model}`", row.nodes, f"{row.capture:.2f}", f"{row.compile:.2f}",
                f"{row.cold:.2f}", f"{row.kept:.2f}",
            )
            for row in rows
        ),
    )  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    os.environ.setdefault("KERAS_BACKEND", "triton")
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--make", action="store_true", help="make all figures anew (twenty minutes)"
    )
    parser.add_argument(
        "--output", metavar="FILE", type=Path, default=PAGE, help="default: %(default)s"
    )
    options = parser.parse_args(arguments)
    if options.make:
        for measure in MEASURES:
            measure.main(["--all", "--write"])
    options.output.write_text(page())
    print(f"{options.output} is written.")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
