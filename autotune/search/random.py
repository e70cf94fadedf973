"""A fixed number of configurations, drawn without replacement: the first guess, then at random."""

from __future__ import annotations

import random
from collections.abc import Sequence

from ..protocol import Config, Trial


class Random:
    """Deterministic for a seed: the same list of configurations is tried in the same order."""

    name = "random"

    def __init__(self, trials: int = 16, seed: int = 0) -> None:
        self.trials, self.seed = trials, seed

    def propose(self, configs: Sequence[Config], history: Sequence[Trial]) -> Config | None:
        tried = len(history)
        if tried >= min(self.trials, len(configs)):
            return None
        order = list(range(1, len(configs)))
        random.Random(self.seed).shuffle(order)
        return configs[[0, *order][tried]]
