"""Places buffers of known lifetimes in one block of memory."""

from __future__ import annotations

ALIGNMENT = 64


class Arena:
    """Hands out byte ranges, multiples of 64; freed ranges are used again, the tightest first."""

    def __init__(self) -> None:
        self.size = 0
        self._free: dict[int, int] = {}  # offset -> length

    def take(self, nbytes: int) -> int:
        """The offset of a range of at least `nbytes`."""
        length = _rounded(nbytes)
        fitting = [(size, offset) for offset, size in self._free.items() if size >= length]
        if fitting:
            size, offset = min(fitting)
            del self._free[offset]
            if size > length:
                self._free[offset + length] = size - length
            return offset
        # A free range at the end grows instead of a new one being added behind it.
        last = next(
            (offset for offset, size in self._free.items() if offset + size == self.size), None
        )
        offset = self.size if last is None else last
        if last is not None:
            del self._free[last]
        self.size = offset + length
        return offset

    def give(self, offset: int, nbytes: int) -> None:
        """Frees a range that `take` gave."""
        length = _rounded(nbytes)
        if offset + length in self._free:
            length += self._free.pop(offset + length)
        before = next((o for o, size in self._free.items() if o + size == offset), None)
        if before is not None:
            length += self._free.pop(before)
            offset = before
        if length:
            self._free[offset] = length


def _rounded(nbytes: int) -> int:
    return -(-nbytes // ALIGNMENT) * ALIGNMENT
