"""Calls from native code back into Python."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

_PROTOTYPE = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_int64, ctypes.c_int32, ctypes.c_void_p)


class Callback:
    """A function of the iteration, in the form in which the driver calls what makes a launch. (Its row is
    at address 0 and each further one byte behind, so a row is an iteration's number.)

    Attributes:
        address: of the native function.
    """

    def __init__(self, function: Callable[[int], None]) -> None:
        self._error: BaseException | None = None

        def call(iteration: int, threads: int, record: int) -> int:
            try:
                function(iteration)
            except BaseException as error:  # native code lets none through, an interrupt neither
                self._error = error
                return 1
            return 0

        self._native = _PROTOTYPE(call)
        self.address = ctypes.cast(self._native, ctypes.c_void_p).value or 0

    def error(self) -> BaseException | None:
        """What the last call raised, once."""
        found, self._error = self._error, None
        return found
