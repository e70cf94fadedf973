"""Typed tuning spaces: a configuration is a frozen dataclass, its fields list their candidates."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

from .device import Device

Value = int | str | bool
Use = TypeVar("Use")
"""What a configuration is chosen for: a template's `Problem`, or a region of loops."""


def dimension(*values: Value, default: Value) -> Any:
    """A configuration field: its candidate values in order, and its default (one of them)."""
    if default not in values:
        raise ValueError(f"default {default!r} is not among the candidates {values}")
    return dataclasses.field(default=default, metadata={"values": values})


@dataclass(frozen=True)
class Dimension:
    """One tuning dimension as a search sees it."""

    name: str
    values: tuple[Value, ...]
    default: Value

    def neighbours(self, value: Value) -> tuple[Value, ...]:
        """The candidates next to ``value`` in order: the moves of a local search."""
        at = self.values.index(value)
        return self.values[max(at - 1, 0) : at] + self.values[at + 1 : at + 2]


@dataclass(frozen=True)
class Space(Generic[Use]):
    """All configurations of one template.

    ``refuse(config, problem, device)`` returns a sentence why a configuration cannot run or is
    hopeless, or None; ``guess(problem, device)`` returns a configuration that is not refused.
    """

    config: type
    refuse: Callable[[Any, Use, Device], str | None]
    guess: Callable[[Use, Device], Any]

    @property
    def dimensions(self) -> tuple[Dimension, ...]:
        return tuple(
            Dimension(field.name, field.metadata["values"], cast(Value, field.default))
            for field in dataclasses.fields(self.config)
        )

    def configs(self, problem: Use, device: Device) -> Iterator[Any]:
        """Every configuration that is not refused."""
        for values in itertools.product(*(d.values for d in self.dimensions)):
            config = self.config(*values)
            if self.refuse(config, problem, device) is None:
                yield config

    def parse(self, record: Mapping[str, Value]) -> Any:
        """The configuration of a record written by ``record``; ValueError when it does not fit."""
        known = {d.name: d for d in self.dimensions}
        if set(record) != set(known):
            raise ValueError(f"{self.config.__name__} has fields {sorted(known)}: {sorted(record)}")
        for name, value in record.items():
            if value not in known[name].values:
                allowed = known[name].values
                raise ValueError(f"{self.config.__name__}.{name} = {value!r}; allowed: {allowed}")
        return self.config(**record)

    def record(self, config: Any) -> dict[str, Value]:
        """The configuration as a plain mapping, for a file."""
        return dataclasses.asdict(config)
