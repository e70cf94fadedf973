"""What a pass is: a frozen dataclass whose fields are its options."""

from __future__ import annotations

import sys
from dataclasses import dataclass, fields
from typing import ClassVar

from mlir import ir

from ..errors import LoweringError
from ..mlir import stage_of


class PassError(LoweringError):
    """A module that a pass cannot take; the sentence says which op and why."""


@dataclass(frozen=True)
class Pass:
    """A rewrite of a module of stage `takes` into a module of stage `gives`.

    A pass never changes the module that it is given. `str(pass)` is its textual spelling with
    options.
    """

    name: ClassVar[str]
    takes: ClassVar[str]
    gives: ClassVar[str]
    by_size: ClassVar[bool] = False
    """What it does follows from numbers of bytes: a module with a symbolic size goes through it for each
    size."""

    @property
    def summary(self) -> str:
        """What it does, in a sentence: its module's after the pass's name, else its class's."""
        told = sys.modules[type(self).__module__].__doc__ or ""
        name, _, about = told.partition(": ")
        first = (about if name == self.name else type(self).__doc__ or "").split("\n\n")[0]
        return " ".join(first.split()).partition(". ")[0].rstrip(".")

    def run(self, module: ir.Module) -> ir.Module:
        """The rewritten module; the same one, if there is nothing to rewrite in it.

        Raises:
            PassError: the module is of another stage, or holds what the pass cannot express.
        """
        raise NotImplementedError

    def check_stage(self, module: ir.Module) -> None:
        if stage_of(module) != self.takes:
            raise PassError(
                f"{self.name} takes a module of stage {self.takes!r}, not {stage_of(module)!r}"
            )

    def __str__(self) -> str:
        options = " ".join(
            f"{field.name}={_shown(getattr(self, field.name))}" for field in fields(self)
        )
        return f"{self.name}{{{options}}}" if options else self.name


def _shown(value: object) -> str:
    return (
        ",".join(sorted(map(str, value)))
        if isinstance(value, frozenset | tuple)
        else str(value).lower()
    )
