"""Runs random programs through every pass and target, and keeps each failure as a small module.

`python tests/fuzz_passes.py [--examples N] [--seed N] [--interpret SHARE] [--out DIR]` draws programs of
the `keras` dialect with hypothesis, compares their values after each pass and on the CPU target with
their meaning in float64, and those of a share of them in Triton's interpreter, too. What fails is made
small and written to DIR, once for each kind of failure. An interrupt ends the search early.
Returns 1 if anything failed.
"""

import argparse
import contextlib
import os
import pathlib
import signal
import sys
import tempfile
from collections import Counter


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--examples", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--interpret", type=float, default=0.2, help="share that runs in Triton's interpreter"
    )
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("fuzz-failures"))
    options = parser.parse_args()
    os.environ["KERAS_BACKEND"] = "triton"
    for end in (signal.SIGINT, signal.SIGTERM):  # a shell lets what runs behind it ignore the first
        signal.signal(end, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="keras-triton-fuzz-") as folder:
        os.environ["KERAS_TRITON_CACHE"] = folder
        found = fuzz(options.examples, options.seed, options.interpret)
    return report(found, options.out)


def fuzz(examples, seed, share):
    """Kind of failure -> [how often, the first program, its failure]."""
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis import seed as seeded
    from random_programs import Failure, check, programs
    from rich.progress import Progress, TextColumn

    found, counts = {}, Counter()
    shown = (*Progress.get_default_columns(), TextColumn("{task.fields[failed]} failed"))
    with Progress(*shown) as progress:
        task = progress.add_task("random programs", total=examples, failed=0)

        @seeded(seed)
        @settings(
            max_examples=examples,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(programs())
        def run(program):
            counts["programs"] += 1
            # The interpreter takes its share evenly: whenever the share's whole number grows.
            interpreted = int(counts["programs"] * share) > int((counts["programs"] - 1) * share)
            try:
                check(program, ("cpu", "interpret")[: 1 + interpreted])
            except Failure as failure:
                counts["failed"] += 1
                found.setdefault((failure.where, failure.kind), [0, program, failure])[0] += 1
            progress.update(task, advance=1, failed=counts["failed"])

        with contextlib.suppress(KeyboardInterrupt):  # what was found so far is told all the same
            run()
    return found


def report(found, out):
    """Prints each kind of failure and writes its module; returns the exit status."""
    from random_programs import minimised
    from rich.console import Console

    console = Console()
    for number, (times, program, failure) in enumerate(found.values()):
        smaller, shown = minimised(program, failure)
        out.mkdir(parents=True, exist_ok=True)
        path = out / f"{number:02}-{failure.where.split()[0]}.mlir"
        comment = "".join(f"// {line}\n" for line in str(shown).splitlines())
        path.write_text(f"// {times} times\n{comment}{smaller.text()}")
        console.print(f"{times} x {failure}", style="red", markup=False, highlight=False)
        console.print(f"  {path}:\n{smaller.text()}", markup=False, highlight=False)
    console.print(f"{len(found)} kinds of failure")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
