"""Every configuration, the first guess first."""

from __future__ import annotations

from collections.abc import Sequence

from ..protocol import Config, Trial


class Exhaustive:
    name = "exhaustive"

    def propose(self, configs: Sequence[Config], history: Sequence[Trial]) -> Config | None:
        return configs[len(history)] if len(history) < len(configs) else None
