"""Symbolic sizes as numbers: one size of a module that may be another in each call, such as the batch.

A module with a symbolic size is written for the one size `PRIME`, which is so large that a static number
never comes near it. What is computed from sizes by sums and products is a polynomial of the size, and its
coefficients are the digits of the number to the base of that prime (Kronecker's substitution): 64 numbers
for each of b samples and one more are `64 * PRIME + 1`. So every stage, pass and type stays one of static
shapes, and a text is made one of another size by rewriting its numbers.

What is no sum or product has no such digits. `Extent` refuses it, so that a pass that halves a batch, or
makes a float of its size, fails instead of being right for one size only.
"""

from __future__ import annotations

import re
from typing import Any

from .errors import SizeError

PRIME = 1_309_814_735_389
"""A prime to whose base round numbers (powers of 2 and 10, the ends of the integer types, multiples of
powers of 10) have digits that no coefficient has, so that none of them is taken for a size."""
_LEAST = PRIME // 2
"""No static extent, stride or count of bytes is as large."""
_MOST = 2**31
"""Coefficients are smaller."""
_NUMBER = re.compile(r"(?<![\w.#@%])-?\d{12,}(?![\w.])|(?<=[<x])\d{12,}(?=x)")


def extent(number: int) -> int:
    """A number read from a module: an `Extent` if it depends on the size, the number itself if not."""
    return Extent(number) if is_symbolic(number) else int(number)


def is_symbolic(*numbers: int) -> bool:
    """Whether one of the numbers depends on the size."""
    return any(
        abs(number) >= _LEAST and all(abs(digit) < _MOST for digit in _digits(number))
        for number in numbers
    )


def digits(number: int) -> list[int]:
    """The coefficients of a polynomial of the size, that of its power 0 first.

    Raises:
        SizeError: the number is too large for a static one, and no such polynomial.
    """
    found = _digits(number)
    if any(abs(digit) >= _MOST for digit in found):
        raise SizeError(f"{number} is no sum of products of the size")
    return found


def _digits(number: int) -> list[int]:
    found, left = [], int(number)
    while left:
        left, digit = divmod(left + PRIME // 2, PRIME)
        found.append(digit - PRIME // 2)
    return found


def at(number: int, size: int) -> int:
    """What a number is where the size is `size`."""
    if not is_symbolic(number):
        return int(number)
    value = 0
    for digit in reversed(digits(number)):
        value = value * size + digit
    return value


def divides(by: int, number: int) -> bool:
    """Whether `by` divides a number, whatever the size."""
    try:
        return extent(number) % extent(by) == 0
    except SizeError:
        return False


def expression(number: int, name: str) -> str:
    """A number as an expression of a variable that holds the size, to stand in a sum or product."""
    found = digits(number)
    terms = [
        " * ".join([*[str(digit)] * (digit != 1 or not power), *[name] * power])
        for power, digit in reversed(list(enumerate(found)))
        if digit
    ]
    return terms[0] if terms == [name] else f"({' + '.join(terms)})"


def text_at(text: str, size: int) -> str:
    """A module's text, or any part of one, where the size is `size`."""
    return _NUMBER.sub(lambda found: str(at(int(found[0]), size)), text)


def is_open(part: Any) -> bool:
    """Whether a number in a module, or any part of one, depends on the size."""
    text = str(part)
    return text_at(text, 2) != text


def _kept(number: int) -> int:
    """What arithmetic on extents gives: a coefficient that grows too large must not look static."""
    if abs(number) < _LEAST:
        return number
    digits(number)
    return Extent(number)


class Extent(int):
    """A whole number that depends on the symbolic size.

    It is larger than any static number, keeps its digits through sums, products and exact divisions, and
    raises SizeError for what would lose them (but for a float on its left, which Python asks first).
    """

    def __add__(self, other: int) -> int:
        return _kept(int.__add__(self, other))

    def __sub__(self, other: int) -> int:
        return _kept(int.__sub__(self, other))

    def __rsub__(self, other: int) -> int:
        return _kept(int.__rsub__(self, other))

    def __mul__(self, other: int) -> int:
        if not isinstance(other, int):
            raise SizeError(f"{self.text} is a number only in a call")
        return _kept(int.__mul__(self, other))

    def __neg__(self) -> int:
        return _kept(int.__neg__(self))

    __radd__, __rmul__ = __add__, __mul__

    def __divmod__(self, other: int) -> tuple[int, int]:
        quotient, rest = divmod(int(self), int(other))
        # Of two polynomials it is enough to know that the numbers divide: digits tell numbers apart.
        parts = [0] if isinstance(other, Extent) else digits(self)
        if rest or any(part % int(other) for part in parts):
            raise SizeError(f"whether {other} divides {self.text} depends on the size")
        return _kept(quotient), 0

    def __floordiv__(self, other: int) -> int:
        return divmod(self, other)[0]

    def __mod__(self, other: int) -> int:
        return divmod(self, other)[1]

    def _no_number(self, *_: Any) -> Any:
        raise SizeError(f"{self.text} is a number only in a call")

    __float__ = __truediv__ = __rtruediv__ = __rfloordiv__ = __rmod__ = __rdivmod__ = _no_number
    __pow__ = __rpow__ = __and__ = __or__ = __xor__ = __lshift__ = __rshift__ = _no_number
    bit_length = _no_number

    @property
    def text(self) -> str:
        """Such as "64*b + 1"."""
        powers = enumerate(digits(self))
        shown = ["*".join([str(digit), *"b" * power]) for power, digit in powers if digit]
        return " + ".join(reversed(shown))
