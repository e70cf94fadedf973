"""What a search sees, and what it may answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

Config = Mapping[str, int | str | bool]


@dataclass(frozen=True)
class Trial:
    """One configuration that was tried.

    Attributes:
        config: the configuration as a plain record.
        seconds: the median time of a run, or infinity when it failed.
        error: why it failed (did not build, wrong result), or "".
    """

    config: Config
    seconds: float
    error: str = ""


@dataclass(frozen=True)
class Candidate:
    """A kernel to tune.

    Attributes:
        key: what the result is good for; see `Key`.
        guess: the configuration to use when nothing is known.
        allows: whether a configuration, stored once upon a time, still is one.
        configs: lists every configuration allowed, the guess first. Spaces hold thousands, so this is
            asked only when there is time to search.
        build: makes a configuration ready to run; what it raises costs that configuration only.
        check: says whether the last results are right; times of wrong kernels never count.
    """

    key: Key
    guess: Config
    allows: Callable[[Config], bool]
    configs: Callable[[], Sequence[Config]]
    build: Callable[[Config], Callable[[], None]]
    check: Callable[[], bool]


@dataclass(frozen=True)
class Key:
    """What a tuning result depends on: kernel source, problem, device and compiler."""

    kernel: str
    source: str
    problem: str
    device: str
    triton: str

    def text(self) -> str:
        return "\n".join((self.kernel, self.source, self.problem, self.device, self.triton))


class Search(Protocol):
    """An order in which to try configurations."""

    name: str

    def propose(self, configs: Sequence[Config], history: Sequence[Trial]) -> Config | None:
        """The configuration to try next, given what was tried; None ends the search."""
