"""Memory as the steps of one level of a plan see it: those of the step itself, or of a loop's body.

A level is entered with its bases, the tensors that all its memory lies in. What a launch needs of it is
prepared then for every iteration at once: native kernels read their pointers from the rows of one
table, which a single NumPy call writes; others get views. So an iteration only looks up its row. What
lies in the arena never moves, and its views are made once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from keras_triton.lowering.plan import Loop, Plan, Ref, While

Bases = Sequence[torch.Tensor]
Place = tuple[int, int]  # base, offset in bytes
Row = TypeVar("Row")
_NOWHERE = -1
"""The base at address 0: an offset from it is a number."""


@dataclass
class Rows(Generic[Row]):
    """What a launch is given, an entry an iteration; memory fills it when it is entered."""

    rows: list[Row] = field(default_factory=list)


class Memory:
    """The memory of one level.

    Attributes:
        count: iterations, 1 for the step itself and for while loops.
        threads: how many threads native kernels may use.
        profiled: torch's profiler is on.
    """

    def __init__(
        self,
        starts: Mapping[str, int],
        count: int,
        moving: Sequence[Sequence[Place]] = (),
        fixed: Mapping[int, torch.Tensor] | None = None,
        size: int = 0,
    ) -> None:
        """Args:
        starts: for each kind of base ("argument") the number of its first one.
        count: iterations.
        moving: for each memory that moves, where it is in each iteration.
        fixed: the bases that are the same tensor whenever the level is entered.
        size: the symbolic size, for kernels that take any.
        """
        self.count, self.threads, self.profiled = count, 1, False
        self._size = size
        self._starts, self._moving, self._fixed = starts, moving, dict(fixed or {})
        self._columns: list[list[Place]] = []
        self._pointers: list[tuple[Rows[int], int]] = []
        self._tensors: list[tuple[Rows[list[torch.Tensor]], list[_Pieces]]] = []
        self._table = np.zeros((count, 0), np.int64)

    @classmethod
    def of_plan(cls, plan: Plan, arena: torch.Tensor, size: int = 0) -> Memory:
        """Bases: arguments, outputs, the arena."""
        outputs = len(plan.arguments)
        last = outputs + len(plan.outputs)
        return cls({"argument": 0, "output": outputs, "arena": last}, 1, (), {last: arena}, size)

    def inside(self, step: Loop | While) -> Memory:
        """The memory of a loop of this level; its bases are the loop's operands."""
        fixed = {}
        for number, ref in enumerate(step.operands):
            pieces = _Pieces(self._places(ref), ref)
            if len(pieces.places) == 1 and self._is_fixed(pieces.places):
                (fixed[number],) = pieces.of(self._fixed)
        if isinstance(step, While):
            return Memory({"operand": 0}, 1, (), fixed, self._size)
        return Memory({"operand": 0}, step.count, step.moving, fixed, self._size)

    def pointers(self, refs: Sequence[Ref]) -> Rows[int]:
        """Addresses of tables of the addresses of `refs`; in front of each lies the size."""
        entry: Rows[int] = Rows()
        self._columns.append([(_NOWHERE, self._size)])
        self._pointers.append((entry, len(self._columns)))
        self._columns += map(self._places, refs)
        return entry

    def tensors(self, refs: Sequence[Ref]) -> Rows[list[torch.Tensor]]:
        """The tensors that `refs` name; nobody may change the lists."""
        entry: Rows[list[torch.Tensor]] = Rows()
        self._tensors.append((entry, [_Pieces(self._places(ref), ref) for ref in refs]))
        return entry

    def freeze(self) -> None:
        """Ends registrations: allocates the table, and makes views of what never moves."""
        shape = (self.count, len(self._columns))
        places = np.zeros((*shape, 2), np.int64)
        for column, found in enumerate(self._columns):
            places[:, column] = found
        self._table = np.zeros(shape, np.int64)
        self._bases, self._offsets = places[..., 0], places[..., 1]
        self._addresses: list[int] | None = None
        start, pitch = self._table.ctypes.data, self._table.strides[0]
        for addresses, first in self._pointers:
            addresses.rows = [start + row * pitch + 8 * first for row in range(self.count)]
        moves = []
        for entry, pieces in self._tensors:
            if all(self._is_fixed(item.places) for item in pieces):
                entry.rows = self._listed([item.of(self._fixed) for item in pieces])
            else:
                moves.append((entry, pieces))
        self._tensors = moves

    def words(self) -> tuple[int, NDArray, NDArray, NDArray]:
        """For native code that enters a loop: the entries of the table, for each which entry of the row of
        the loop's operands it begins at, and how far behind; and the table. Frozen memory has them.
        """
        # The size is in front of the row, too.
        offsets = np.where(self._bases == _NOWHERE, 0, self._offsets)
        return self._table.size, np.ascontiguousarray(self._bases), offsets, self._table

    def enter(self, bases: Bases, threads: int, profiled: bool) -> None:
        """Points everything registered at these bases."""
        self.threads, self.profiled = threads, profiled
        addresses = [base.data_ptr() for base in bases]
        if addresses != self._addresses and self._columns:
            self._addresses = addresses
            starts = np.array([*addresses, 0], np.int64)  # the last one is _NOWHERE
            np.add(starts[self._bases], self._offsets, out=self._table)
        given = dict(enumerate(bases))
        for entry, pieces in self._tensors:
            entry.rows = self._listed([item.of(given) for item in pieces])

    def leave(self) -> None:
        """Lets go of the bases: they may be a user's batch, or results that are freed soon."""
        for entry, _ in self._tensors:
            entry.rows = []

    def _places(self, ref: Ref) -> list[Place]:
        """Where a ref is: one place, or one an iteration."""
        if ref.base == "moving":
            return [(base, offset + ref.offset) for base, offset in self._moving[ref.index]]
        return [(self._starts[ref.base] + ref.index, ref.offset)]

    def _is_fixed(self, places: Sequence[Place]) -> bool:
        return all(base in self._fixed for base, _ in places)

    def _listed(self, columns: Sequence[list[torch.Tensor]]) -> list[list[torch.Tensor]]:
        """Columns of one or `count` tensors as rows."""
        if all(len(column) == 1 for column in columns):
            return [[column[0] for column in columns]] * self.count
        whole = (column if len(column) > 1 else column * self.count for column in columns)
        return [list(row) for row in zip(*whole, strict=True)]


class _Pieces:
    """Views of one type at one place or several, in as few calls of torch as there are bases."""

    def __init__(self, places: Sequence[Place], ref: Ref) -> None:
        kind = ref.type
        self.places, self.kind = places, kind
        self.whole = ref.whole and len(places) == 1
        self.unique = sorted(set(places))
        numbers = {place: i for i, place in enumerate(self.unique)}
        self.order = [numbers[place] for place in places]
        size = kind.torch_dtype.itemsize
        self.runs = [
            (base, start // size, step // size, count)
            for base, start, step, count in _runs(self.unique)
        ]
        self.strides = [kind.with_shape(kind.shape[i + 1 :]).size for i in range(kind.rank)]

    def of(self, bases: Mapping[int, torch.Tensor]) -> list[torch.Tensor]:
        """A tensor for each place."""
        made: list[torch.Tensor] = []
        for base, start, step, count in self.runs:
            tensor = bases[base]
            if self.whole:
                return [tensor]
            if tensor.dtype != self.kind.torch_dtype:  # bytes of the arena
                tensor = tensor.view(self.kind.torch_dtype)
            start += int(tensor.storage_offset())
            if count == 1:
                made.append(tensor.as_strided(self.kind.shape, self.strides, start))
            else:
                shape, strides = (count, *self.kind.shape), (step, *self.strides)
                made += tensor.as_strided(shape, strides, start).unbind(0)
        return [made[number] for number in self.order]


def _runs(places: Sequence[Place]) -> list[tuple[int, int, int, int]]:
    """Sorted places as (base, first offset, step, count): evenly spaced in one base, or single."""
    runs: list[tuple[int, int, int, int]] = []
    for base in dict.fromkeys(base for base, _ in places):
        offsets = [offset for other, offset in places if other == base]
        steps = {b - a for a, b in pairwise(offsets)}
        if len(steps) == 1:
            runs.append((base, offsets[0], steps.pop(), len(offsets)))
        else:
            runs += [(base, offset, 0, 1) for offset in offsets]
    return runs
