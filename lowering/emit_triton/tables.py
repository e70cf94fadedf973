"""The tables of a "multi" kernel: where its instances lie, and which program does what."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch

from keras_triton.kernels.problem import ceil_div

from .. import sizes

ALIGNMENT = 16
"""Bytes that addresses must be multiples of for 16 bytes to be moved at once."""
REMEMBERED = 64
"""Tables of addresses that are kept for when the same tensors come again."""

_keepers: list[list[torch.Tensor]] = []


@contextmanager
def kept() -> Iterator[list[torch.Tensor]]:
    """The tables that launches take meanwhile: whoever makes these launches again, without asking for the
    tables, must hold them.
    """
    _keepers.append([])
    try:
        yield _keepers[-1]
    finally:
        _keepers.pop()


@dataclass(frozen=True)
class InstanceTable:
    """The instances of a "multi" kernel.

    Attributes:
        sizes: elements of each instance.
        arguments, results: tensors of one instance.
        block: elements a program does.
    """

    sizes: tuple[int, ...]
    arguments: int
    results: int
    block: int

    def at(self, size: int) -> InstanceTable:
        """The instances where the symbolic size is `size`."""
        return replace(self, sizes=tuple(sizes.at(elements, size) for elements in self.sizes))

    def programs(self) -> tuple[list[int], list[int]]:
        """For each program its instance, and which of the instance's blocks it does."""
        owners = [i for i, size in enumerate(self.sizes) for _ in range(0, size, self.block)]
        starts = [k for size in self.sizes for k in range(ceil_div(size, self.block))]
        return owners, starts

    def dtypes(self) -> dict[str, str]:
        """Buffer name -> dtype name of the tables."""
        return dict.fromkeys(("addresses", "owners", "starts", "sizes"), "int64")


class Tables:
    """The tables on a device: those of the sizes made once, those of addresses when they are new."""

    def __init__(self, table: InstanceTable) -> None:
        self.table = table
        self.alignment = ALIGNMENT
        self._constants: dict[torch.device, dict[str, torch.Tensor]] = {}
        self._addresses: dict[tuple[int, ...], torch.Tensor] = {}

    def buffers(self, tensors: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
        """The table buffers for `tensors`: the arguments instance-major, then the results.

        Also sets `alignment`, of which all addresses are multiples.
        """
        addresses = tuple(tensor.data_ptr() for tensor in tensors)
        device = tensors[0].device
        aligned = not any(address % ALIGNMENT for address in addresses)
        self.alignment = ALIGNMENT if aligned else 1
        rows = self._addresses.get(addresses)
        if rows is None:
            rows = torch.tensor(self._rows(addresses), dtype=torch.int64).to(device)
            if len(self._addresses) == REMEMBERED:
                del self._addresses[next(iter(self._addresses))]
            self._addresses[addresses] = rows
        for keeper in _keepers:
            keeper.append(rows)
        return {**self._constants_on(device), "addresses": rows}

    def _rows(self, addresses: tuple[int, ...]) -> list[int]:
        """Addresses instance after instance, each its arguments then its results."""
        count, arguments, results = len(self.table.sizes), self.table.arguments, self.table.results
        inputs, outputs = addresses[: count * arguments], addresses[count * arguments :]
        rows: list[int] = []
        for i in range(count):
            rows += inputs[i * arguments : (i + 1) * arguments]
            rows += outputs[i * results : (i + 1) * results]
        return rows

    def _constants_on(self, device: torch.device) -> dict[str, torch.Tensor]:
        if device not in self._constants:
            owners, starts = self.table.programs()
            numbers = {"owners": owners, "starts": starts, "sizes": list(self.table.sizes)}
            self._constants[device] = {
                name: torch.tensor(values, dtype=torch.int64, device=device)
                for name, values in numbers.items()
            }
        return self._constants[device]
