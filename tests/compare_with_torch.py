"""Models of libraries, run with the triton backend and with Keras's torch backend.

    python tests/compare_with_torch.py FAMILY [--json FILE] [NAME ...]

FAMILY is `applications` (all of `keras.applications` predict), `hub_backbones` (tiny backbones of
keras-hub predict) or `hub_generate` (keras-hub's language models generate). For each model it
prints how far the two are apart, relative to the largest output, how many launches its step became,
and which of them torch runs for want of a kernel; it fails if a model is farther off than the
family allows or its step was not compiled. Each backend has a process of its own.
"""

import argparse
import collections
import gc
import importlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

FAMILIES = ("applications", "hub_backbones", "hub_generate")


def family(name: str) -> Any:
    """A module with `NAMES`, `TOLERANCE` and `run(name) -> (outputs, function that ran)`."""
    return importlib.import_module(name)


def work(members: Any, names: list[str], folder: Path) -> None:
    """Run each with this process's backend, keep its outputs, print what was compiled."""
    import keras

    backend = keras.config.backend()
    for name in names:
        keras.backend.clear_session()
        gc.collect()
        outputs, function = members.run(name)
        np.savez(folder / f"{name}.{backend}.npz", *outputs)
        print(json.dumps(_compiled(function) if backend == "triton" else {}), flush=True)


def _compiled(function: Any) -> dict[str, Any]:
    import keras_triton

    rows = keras_triton.stats().reports[-1].rows
    return {
        "calls": vars(function.step.counts),
        "launches": len(rows),
        "fallbacks": dict(collections.Counter(row.how for row in rows if row.fallback)),
    }


def compare(family_name: str, names: list[str]) -> dict[str, dict[str, Any]]:
    """By name: the distance between the backends, the calls, the launches and the fallbacks."""
    with tempfile.TemporaryDirectory() as path:
        _run_process("torch", family_name, names, path)
        rows = _run_process("triton", family_name, names, path)
        return {
            name: {"distance": _distance(Path(path), name), **row}
            for name, row in zip(names, rows, strict=True)
        }


def _run_process(
    backend: str, family_name: str, names: list[str], folder: str
) -> list[dict[str, Any]]:
    command = [sys.executable, __file__, family_name, "--work", folder, *names]
    environment = {**os.environ, "KERAS_BACKEND": backend}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def _distance(folder: Path, name: str) -> float:
    with (
        np.load(folder / f"{name}.triton.npz") as ours,
        np.load(folder / f"{name}.torch.npz") as theirs,
    ):
        return max(_apart(ours[key], theirs[key]) for key in theirs.files)


def _apart(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The largest difference, in parts of the largest number; NaN where a number is not finite."""
    difference = ours.astype("float64") - theirs
    return float(np.abs(difference).max() / max(np.abs(theirs).max(), 1e-30))


def failure(row: dict[str, Any], tolerance: float) -> str:
    """What is wrong with a row, or ""."""
    # A first call may run op by op: it builds layers.
    if row["calls"]["captures"] != 1 or not row["calls"]["compiled"]:
        return f"not compiled: {row['calls']}"
    if any("captured graph" in how for how in row["fallbacks"]):
        return "the whole step runs on torch"
    return "" if row["distance"] <= tolerance else "too far from torch"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("family", choices=FAMILIES)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--json", type=Path, help="where to write the rows")
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_intermixed_args()
    members = family(options.family)
    names = options.names or list(members.NAMES)
    if options.work:
        work(members, names, options.work)
        return 0
    rows = compare(options.family, names)
    failures = {name: failure(row, members.TOLERANCE) for name, row in rows.items()}
    for name, row in rows.items():
        print(
            f"{name:20} {row['distance']:.1e} {row['launches']:5} launches"
            f"  {row['fallbacks']}  {failures[name]}"
        )
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))
    failed = sum(map(bool, failures.values()))
    print(f"{len(rows) - failed} of {len(rows)} as torch within {members.TOLERANCE}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
