"""Tunes one kernel: tries what a search proposes, checks results first, keeps the best."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from . import measure
from .protocol import Candidate, Config, Search, Trial
from .search import Exhaustive, Random
from .store import Store

EFFORTS: dict[str, tuple[Search, float]] = {
    "quick": (Random(trials=12), 10.0),
    "full": (Exhaustive(), 600.0),
}
"""Effort -> the search and the seconds it may take."""

Progress = Callable[[Trial, Trial], None]


def choose(
    candidate: Candidate,
    effort: str,
    store: Store,
    device: torch.device,
    progress: Progress | None = None,
) -> Config:
    """The configuration to use: the stored best, else what tuning finds, else the first guess.

    `effort` "none" never runs a kernel. Ctrl-C ends the search and keeps the best so far.
    """
    known = store.best(candidate.key)
    if known is not None and candidate.allows(known.config):
        return known.config
    if effort == "none":
        return candidate.guess
    search, budget = EFFORTS[effort]
    best = tune(candidate, search, budget, device, progress)
    if best is None:
        return candidate.guess
    store.keep(candidate.key, best)
    return best.config


def tune(
    candidate: Candidate,
    search: Search,
    budget: float,
    device: torch.device,
    progress: Progress | None = None,
) -> Trial | None:
    """The fastest right configuration that `search` finds within `budget` seconds, or None.

    `progress(trial, best)` is called after each trial.
    """
    configs = candidate.configs()
    history: list[Trial] = []
    best: Trial | None = None
    end = time.monotonic() + budget
    try:
        while time.monotonic() < end:
            config = search.propose(configs, history)
            if config is None:
                break
            trial = _try(candidate, config, device)
            history.append(trial)
            if not trial.error and (best is None or trial.seconds < best.seconds):
                best = trial
            if progress is not None:
                progress(trial, best or trial)
    except KeyboardInterrupt:
        pass
    return best


def _try(candidate: Candidate, config: Config, device: torch.device) -> Trial:
    try:
        run = candidate.build(config)
        run()
        if not candidate.check():
            return Trial(config, float("inf"), "wrong result")
        return Trial(config, measure.seconds(run, device))
    except Exception as error:  # a configuration that does not build costs itself, never the run
        return Trial(config, float("inf"), f"{type(error).__name__}: {error}")
