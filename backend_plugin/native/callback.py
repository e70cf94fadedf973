"""Calls from native code back into Python."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Generator

# The driver passes a number of threads and a record, too.
_PROTOTYPE = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_int64)


class Callback:
    """A function of the iteration, in the form in which the driver calls what makes a launch. (Its row is
    at address 0 and each further one byte behind, so a row is an iteration's number.)

    Attributes:
        address: of the native function.
    """

    def __init__(self, function: Callable[[int], None]) -> None:
        self._error: BaseException | None = None
        calls = self._calls(function)
        next(calls)
        self._native = _PROTOTYPE(calls.send)
        self.address = ctypes.cast(self._native, ctypes.c_void_p).value or 0

    def _calls(self, function: Callable[[int], None]) -> Generator[int, int, None]:
        """Answers each iteration sent with 0, or 1 if the function raised something.

        Python runs handlers of signals where a frame is entered, and native code lets no exception
        through. A function's own `try` begins too late for that; a generator is entered inside of it.
        """
        answer = 0
        while True:
            try:
                iteration = yield answer
                function(iteration)
                answer = 0
            except GeneratorExit:
                raise
            except BaseException as error:
                self._error, answer = error, 1

    def error(self) -> BaseException | None:
        """What the last call raised, once."""
        found, self._error = self._error, None
        return found
