"""`python -m keras_triton.bench.run`: this backend against others, step by step in turn.

Rounds alternate between the backends, so that a machine whose speed drifts slows them alike; what is
reported is the ratio other / ours of each round, above 1 = ours is faster, with quantiles.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

from triton_keras_loader.environment import installed_version

# glibc returns freed blocks to the system and faults them in again at every step, which slows torch;
# equal settings for all, and the ones that favour the peer.
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "1073741824", "MALLOC_TRIM_THRESHOLD_": "1073741824"}


class Worker:
    """A backend running in its own process; `cache` is where ours keeps what it compiles."""

    def __init__(self, backend: str, model: str, batch: int, cache: str) -> None:
        self.backend = backend
        self.process = subprocess.Popen(
            [sys.executable, "-m", "keras_triton.bench.worker", model, str(batch)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={
                **os.environ,
                **ALLOCATOR,
                "KERAS_BACKEND": backend,
                "KERAS_TRITON_CACHE": cache,
            },
        )
        self._read()

    def run(self, mode: str, steps: int) -> tuple[list[float], float]:
        """Seconds of each step, and the process's peak memory in MB so far."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"mode": mode, "steps": steps}) + "\n")
        self.process.stdin.flush()
        answer = self._read()
        return answer["seconds"], answer["peak_mb"]

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()

    def _read(self) -> dict:
        """The worker's next answer; lines that are not JSON (warnings of libraries) are skipped."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        raise RuntimeError(f"the {self.backend} worker ended with status {self.process.wait()}")


def compare(model: str, batch: int, peers: list[str], rounds: int, steps: int) -> list[dict]:
    """Rows of one model at one batch size: a row for each peer and mode."""
    with tempfile.TemporaryDirectory() as cache:  # nothing is compiled yet
        workers = {backend: Worker(backend, model, batch, cache) for backend in ("triton", *peers)}
        rows = []
        for mode in ("train", "predict"):
            first = {backend: worker.run(mode, 1)[0][0] for backend, worker in workers.items()}
            for worker in workers.values():
                worker.run(mode, 5)
            medians: dict[str, list[float]] = {backend: [] for backend in workers}
            peaks: dict[str, float] = {}
            for _ in track(range(rounds), description=f"{model} {batch} {mode}", console=_stderr()):
                for backend, worker in workers.items():
                    seconds, peaks[backend] = worker.run(mode, steps)
                    medians[backend].append(statistics.median(seconds))
            rows += [_row(model, batch, mode, peer, medians, first, peaks) for peer in peers]
        for worker in workers.values():
            worker.close()
        again = _first_again(model, batch, cache)
    return [{**row, "ours_first_again_s": again[row["mode"]]} for row in rows]


def _first_again(model: str, batch: int, cache: str) -> dict[str, float]:
    """Seconds of the first step of each mode in a process that finds it compiled."""
    worker = Worker("triton", model, batch, cache)
    seconds = {mode: round(worker.run(mode, 1)[0][0], 2) for mode in ("train", "predict")}
    worker.close()
    return seconds


def _row(
    model: str, batch: int, mode: str, peer: str, medians: dict, first: dict, peaks: dict
) -> dict:
    ratios = [other / ours for other, ours in zip(medians[peer], medians["triton"], strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    return {
        "model": model,
        "batch": batch,
        "mode": mode,
        "peer": peer,
        "ratio_median": round(middle, 3),
        "ratio_quartiles": [round(low, 3), round(high, 3)],
        "ours_ms": round(1e3 * statistics.median(medians["triton"]), 3),
        "peer_ms": round(1e3 * statistics.median(medians[peer]), 3),
        "ours_first_s": round(first["triton"], 2),
        "peer_first_s": round(first[peer], 2),
        "ours_peak_mb": round(peaks["triton"]),
        "peer_peak_mb": round(peaks[peer]),
    }


def machine() -> dict:
    """What the figures were measured on."""
    import torch

    git = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(git, capture_output=True, text=True).stdout.strip()
    cpu = [
        line.split(":")[1].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if "model name" in line
    ]
    return {
        "commit": commit or "unknown",
        "cpu": f"{len(cpu)} x {cpu[0]}" if cpu else platform.processor(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "versions": {
            name: installed_version(name) for name in ("keras", "torch", "triton", "numpy")
        },
    }


def _print(rows: list[dict]) -> None:
    table = Table(title="time of the peer / time of keras-triton: above 1, keras-triton is faster")
    for column in (
        "model",
        "batch",
        "mode",
        "peer",
        "ratio",
        "quartiles",
        "ms",
        "first s",
        "peak MB",
        "first s again",
    ):
        table.add_column(column)
    for row in rows:
        low, high = row["ratio_quartiles"]
        pairs = (
            f"{row[f'ours_{key}']} / {row[f'peer_{key}']}" for key in ("ms", "first_s", "peak_mb")
        )
        names = (str(row[key]) for key in ("model", "batch", "mode", "peer"))
        table.add_row(
            *names,
            f"{row['ratio_median']:.2f}",
            f"{low:.2f}-{high:.2f}",
            *pairs,
            str(row["ours_first_again_s"]),
        )
    Console().print(table)


def _stderr() -> Console:
    return Console(stderr=True)


def main() -> None:
    parser = argparse.ArgumentParser("python -m keras_triton.bench.run", description=__doc__)
    parser.add_argument("--models", nargs="+", default=["digits", "mlp"], choices=["digits", "mlp"])
    parser.add_argument("--batches", nargs="+", type=int, default=[64])
    parser.add_argument(
        "--peers",
        nargs="+",
        default=["torch"],
        help="installed Keras backends: torch, jax, tensorflow",
    )
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=20, help="steps of each backend in a round")
    parser.add_argument("--json", type=Path, help="write machine and rows there")
    options = parser.parse_args()
    rows = [
        row
        for model in options.models
        for batch in options.batches
        for row in compare(model, batch, options.peers, options.rounds, options.steps)
    ]
    _print(rows)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps({**machine(), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
