"""Python's and NumPy's own random numbers, which a graph would freeze."""

import random
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class HostRandom:
    """The state of both generators at one moment."""

    python: Any
    numpy: Any

    @classmethod
    def now(cls) -> "HostRandom":
        return cls(random.getstate(), np.random.get_state(legacy=False))

    def is_current(self) -> bool:
        """Whether nothing was drawn since."""
        return _comparable(self) == _comparable(HostRandom.now())

    def restore(self) -> None:
        """As if nothing had been drawn since."""
        random.setstate(self.python)
        np.random.set_state(self.numpy)


def _comparable(state: HostRandom) -> tuple[Any, ...]:
    drawn = state.numpy["state"]
    return state.python, drawn["pos"], drawn["key"].tobytes()
