"""Program order that dependencies allow."""

from __future__ import annotations

from collections.abc import Callable, Iterable


def ordered(units: Iterable[int], needs: Callable[[int], Iterable[int]]) -> list[int]:
    """The units in the order given, except that what a unit needs comes before it."""
    done: dict[int, None] = {}
    for root in units:
        stack = [(root, False)]
        while stack:
            unit, ready = stack.pop()
            if ready:
                done.setdefault(unit)
            elif unit not in done:
                stack.append((unit, True))
                stack += [(need, False) for need in needs(unit) if need not in done]
    return list(done)
