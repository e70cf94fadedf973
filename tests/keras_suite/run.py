"""Runs Keras's own tests, those that pass on Keras's torch backend, on this backend.

    python tests/keras_suite/run.py                     every test of the list
    python tests/keras_suite/run.py layers ops.core     those whose id begins so
    python tests/keras_suite/run.py --part ci           the fixed part that CI runs
    python tests/keras_suite/run.py --backend torch     the same on torch, to compare

The tests are those of the installed Keras; the list, `torch_passes.txt.gz`, was made with Keras
3.15.1, torch 2.13 on a CPU and the packages of the `libraries` extra. Exits with 1 if a test
that is not in `excluded_tests.txt` did not pass.
"""

import argparse
import collections
import concurrent.futures
import gzip
import importlib.util
import json
import os
import pathlib
import re
import resource
import subprocess
import sys
import tempfile
import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

HERE = pathlib.Path(__file__).resolve().parent
LIST = HERE / "torch_passes.txt.gz"
CI_LEAVES_OUT = HERE / "ci_leaves_out.txt"
EXCLUDED = HERE.parents[1] / "excluded_tests.txt"
# Files of one pytest process. More processes spread the load better, but each imports Keras,
# torch and tensorflow, which takes 10 seconds.
SHARES_PER_WORKER = 4
# A test that Keras marks as one that may fail counts either way: its outcome hangs on a seed.
AS_EXPECTED = ("passed", "xfailed")


def listed():
    """The ids of all tests that pass on Keras's torch backend."""
    return gzip.decompress(LIST.read_bytes()).decode().splitlines()


def excluded():
    """Ids left out, with the reason that stands behind each one's " # "."""
    lines = EXCLUDED.read_text().splitlines()
    pairs = [line.partition(" # ") for line in lines if line and not line.startswith("#")]
    return {test.strip(): reason.strip() for test, _, reason in pairs}


def file_of(test):
    """The path below keras/src of the file a test stands in."""
    module = test.partition("::")[0].split(".")
    end = next(i for i, name in enumerate(module) if name.endswith("_test"))
    return "/".join(module[: end + 1]) + ".py"


def shares(tests, count):
    """The tests in at most `count` parts of about equal size, each file in one part."""
    files = collections.defaultdict(list)
    for test in tests:
        files[file_of(test)].append(test)
    parts = [[] for _ in range(count)]
    for name in sorted(files, key=lambda name: -len(files[name])):
        min(parts, key=len).extend(files[name])
    return [part for part in parts if part]


class Results:
    """What became of each test, and what was compiled meanwhile."""

    def __init__(self):
        self.tests = {}
        self.steps = collections.Counter()

    def take(self, path, part):
        """Adds a process's lines; returns the tests it never finished, the one it died in first."""
        started = None
        for line in path.read_text().splitlines() if path.exists() else ():
            entry = json.loads(line)
            if "started" in entry:
                started = entry["started"]
            elif "steps" in entry:
                self.steps.update(entry["steps"])
            elif self.tests.get(entry["id"], {}).get("outcome") != "failed":
                self.tests[entry["id"]] = entry
        left = [test for test in part if test not in self.tests]
        return sorted(left, key=lambda test: test != started), started in left

    def outcome(self, test):
        return self.tests.get(test, {"outcome": "not found"})["outcome"]


class Run:
    """One run of the list: worker processes, a progress bar, the results."""

    def __init__(self, backend, workers, folder, console):
        self.backend, self.workers, self.folder = backend, workers, folder
        self.results = Results()
        self.console = console

    def all(self, tests):
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        with Progress(*columns, TimeElapsedColumn(), console=self.console) as bar:
            task = bar.add_task(f"Keras's tests on {self.backend}", total=len(tests))
            pool = concurrent.futures.ThreadPoolExecutor(self.workers)
            parts = shares(tests, SHARES_PER_WORKER * self.workers)
            futures = [pool.submit(self.part, i, part) for i, part in enumerate(parts)]
            while not all(future.done() for future in futures):
                time.sleep(1)
                bar.update(task, completed=self.finished())
            for future in futures:
                future.result()
            bar.update(task, completed=self.finished())
        return self.results

    def part(self, number, tests):
        """Runs a part; a process that died is started again behind the test it died in."""
        for attempt in range(len(tests)):
            output = self.folder / f"results-{number}-{attempt}.jsonl"
            self.process(output, tests)
            tests, died = self.results.take(output, tests)
            if not died:
                return
            crash = {"id": tests[0], "outcome": "crashed", "seconds": 0, "text": "the process died"}
            self.results.tests[tests[0]] = crash
            tests = tests[1:]

    def process(self, output, tests):
        # Found, not imported: importing it would take seconds here as well.
        sources = pathlib.Path(importlib.util.find_spec("keras").origin).parent / "src"
        ids = output.with_suffix(".ids")
        ids.write_text("\n".join(tests))
        environment = {
            **os.environ,
            "KERAS_BACKEND": self.backend,
            "KERAS_HOME": str(self.folder / "home"),
            "KERAS_SUITE_IDS": str(ids),
            "KERAS_SUITE_RESULTS": str(output),
            "KERAS_TRITON_CACHE": str(self.folder / "cache"),
            # The workers share the cores: threads inside of them would only wait for each other.
            "OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // self.workers)),
            "PYTHONPATH": os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH")])),
            "TF_CPP_MIN_LOG_LEVEL": "3",
        }
        files = sorted({str(sources / file_of(test)) for test in tests})
        options = ["-p", "conftest", "-p", "no:cacheprovider", "-c", os.devnull, "-q", "--tb=short"]
        root = f"--rootdir={sources.parents[1]}"
        with open(output.with_suffix(".log"), "w") as log:
            command = [sys.executable, "-m", "pytest", *options, root, *files]
            subprocess.run(command, cwd=self.folder, env=environment, stdout=log, stderr=log)

    def finished(self):
        return sum(
            path.read_text().count('"outcome"') for path in self.folder.glob("results-*.jsonl")
        )


def chosen(arguments):
    tests = listed()
    if arguments.part == "ci":
        lines = CI_LEAVES_OUT.read_text().splitlines()
        left_out = tuple(line for line in lines if not line.startswith("#"))
        tests = [test for test in tests if not test.startswith(left_out)]
    if arguments.only:
        tests = [test for test in tests if test.startswith(tuple(arguments.only))]
    return tests


def report(results, tests, left_out, times, console):
    """Prints the figures by family and every test that did not pass; returns how many."""
    title = "Keras's own tests, {wall:.1f} minutes, {cpu:.1f} of processors".format(**times)
    table = Table(title=title, title_justify="left")
    for name in ("family", "passed", "excluded", "failed"):
        table.add_column(name, justify="left" if name == "family" else "right")
    count = collections.Counter()
    for test in (*tests, *left_out):
        kind = "excluded" if test in left_out else "failed"
        count[
            test.partition(".")[0], "passed" if results.outcome(test) in AS_EXPECTED else kind
        ] += 1
    families = sorted({family for family, _ in count})
    kinds = ("passed", "excluded", "failed")
    for family in families:
        table.add_row(family, *(str(count[family, kind]) for kind in kinds))
    table.add_section()
    totals = [sum(count[family, kind] for family in families) for kind in kinds]
    table.add_row("all", *map(str, totals))
    console.print(table)
    for test in tests:
        if results.outcome(test) not in AS_EXPECTED:
            console.print(f"{results.outcome(test)}: {test}", markup=False, soft_wrap=True)
    return totals[2]


def by_reason(steps):
    """How often torch ran something, by reason without the layer and the node it was met at."""
    count = collections.Counter()
    for reason, times in steps.items():
        if ": " in reason:
            count[re.sub(r" \([^()]*\) in layer [^:]*:", ":", reason)] += times
    return count


def report_steps(steps, console):
    """Prints what was compiled, and the reasons why something was not, most frequent first."""
    console.print(
        f"{steps['steps']} steps compiled to {steps['launches']} launches; "
        f"{steps['refused steps']} steps ran op by op."
    )
    table = Table("times", "what ran on torch, and why", title_justify="left")
    for reason, times in by_reason(steps).most_common():
        table.add_row(str(times), reason)
    if table.rows:
        console.print(table)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("only", nargs="*", help="beginnings of ids, such as layers or ops.numpy")
    parser.add_argument("--backend", default="triton")
    parser.add_argument("--part", choices=["all", "ci"], default="all")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--json", type=pathlib.Path, help="a file for every test's outcome")
    parser.add_argument("--folder", type=pathlib.Path, help="keep the logs of the processes here")
    arguments = parser.parse_args()
    console = Console(soft_wrap=True)
    left_out = excluded() if arguments.backend == "triton" else {}
    everything = chosen(arguments)
    tests = [test for test in everything if test not in left_out]
    with tempfile.TemporaryDirectory(prefix="keras-suite-") as temporary:
        folder = (arguments.folder or pathlib.Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        started = time.monotonic()
        results = Run(arguments.backend, arguments.workers, folder, console).all(tests)
        # Processor time too: it depends less on what else the machine is doing.
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        times = {
            "wall": (time.monotonic() - started) / 60,
            "cpu": (used.ru_utime + used.ru_stime) / 60,
        }
    left_out = [test for test in everything if test in left_out]
    failed = report(results, tests, left_out, times, console)
    if arguments.backend == "triton":
        report_steps(results.steps, console)
    if arguments.json:
        body = {"minutes": times, "tests": results.tests, "steps": results.steps}
        arguments.json.write_text(json.dumps(body, indent=1))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
