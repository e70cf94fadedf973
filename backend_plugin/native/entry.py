"""How native code makes a launch; and why it does not make others."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .words import Words


@dataclass(frozen=True)
class Entry:
    """A launch as the driver makes it.

    Attributes:
        function: of the driver; it is given the row of the launch's operands.
        record: what else it is given.
        kept: what must live as long as that.
    """

    function: str
    record: Words
    kept: Any = field(default=None, repr=False)


class NoEntryError(Exception):
    """A launch that only Python makes; the sentence says why."""
