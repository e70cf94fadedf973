"""How long a kernel takes: the median of repeated runs, by the clock that the device calls for."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch


def seconds(run: Callable[[], None], device: torch.device, budget: float = 0.05) -> float:
    """The median seconds of one run, from as many runs as fit in about `budget` seconds (at least
    5).

    On CUDA: events around each run, the L2 cache flushed before it, as Triton's own `do_bench`
        does.
    """
    if device.type == "cuda":
        import triton.testing

        return (
            float(triton.testing.do_bench(run, rep=int(budget * 1e3), return_mode="median")) * 1e-3
        )
    run()
    times: list[float] = []
    end = time.perf_counter() + budget
    while len(times) < 5 or time.perf_counter() < end:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times)
