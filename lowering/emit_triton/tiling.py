"""How a Triton function covers the rows and columns of a domain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

WIDE, OPEN = "tl.int64", "INDEX"
"""Types of offsets: of 64 bits, and the one that a function of any size is told."""


@dataclass(frozen=True)
class Tiling:
    """How one function covers the domain.

    Attributes:
        rows, columns: elements of a tile, powers of two; columns is 0 without reductions.
        slices: programs that share a row's columns.
        index: the type of offsets, "" for that of `tl.arange`; OPEN in a function of any size.
        whole: a tile is as wide as the domain, however many columns that may have.
    """

    rows: int
    columns: int
    slices: int
    index: str = ""
    whole: bool = False

    @property
    def cast(self) -> str:
        """What makes an offset of a number."""
        return f".to({self.index})" if self.index else ""


@dataclass(frozen=True)
class Function:
    """One generated @triton.jit function.

    Attributes:
        name, text: its name and source.
        pointers: its pointer parameters, each the buffer it takes.
        columns: of a tile; 0 for a function over elements.
        open: it takes the symbolic size, as `size`, and the type of its offsets, as INDEX.
    """

    name: str
    text: str
    pointers: Mapping[str, str]
    columns: int
    open: bool = False


def slice_columns(extent: int, columns: int, slices: int) -> int:
    """Columns of one slice: whole tiles, so that only the last slice is ragged."""
    tiles = -(-extent // columns)
    return -(-tiles // slices) * columns
