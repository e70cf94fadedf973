"""Tables in memory for native code: words of 64 bits, and addresses of other tables."""

from __future__ import annotations

import ctypes
import struct
from typing import Any

import numpy as np


class Words:
    """Consecutive words that stay where they are as long as the object lives.

    Args:
        parts: a number stands for itself (a float in 32 or 64 bits: `float32`, `float64`); bytes, an
            array and other words for their address. Those must not move, and live as long as this does.
    """

    def __init__(self, *parts: int | bytes | np.ndarray | Words) -> None:
        self._kept: list[Any] = [part for part in parts if not isinstance(part, int)]
        self._array = (ctypes.c_int64 * max(len(parts), 1))(*map(_word, parts))
        self.address = ctypes.addressof(self._array)

    def __getitem__(self, position: int) -> int:
        return self._array[position]

    def __len__(self) -> int:
        return len(self._array)


def _word(part: int | bytes | np.ndarray | Words) -> int:
    if isinstance(part, Words):
        return part.address
    if isinstance(part, np.ndarray):
        return part.ctypes.data
    if isinstance(part, bytes):  # a zero follows them
        return ctypes.cast(ctypes.c_char_p(part), ctypes.c_void_p).value or 0
    return part


def float32(value: float) -> int:
    return struct.unpack("<I", struct.pack("<f", value))[0]


def float64(value: float) -> int:
    return struct.unpack("<Q", struct.pack("<d", value))[0]
