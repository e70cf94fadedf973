"""Makes a failing program small: results go, and what ops gave is given as arguments instead."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from .check import WAYS, Failure, check
from .program import Program, Value

Fails = Callable[[Program], bool]


def minimised(program: Program, failure: Failure) -> tuple[Program, Failure]:
    """A small program that fails as `program` does, and how it fails."""
    targets = [failure.where] if failure.where in WAYS else []
    last = failure

    def fails(smaller: Program) -> bool:
        nonlocal last
        try:
            check(smaller, targets)
        except Failure as found:
            if (found.where, found.kind) != (failure.where, failure.kind):
                return False
            last = found
            return True
        except Exception:  # a smaller program may mean nothing, as a row whose index is no row
            return False
        return False

    return reduced(program, fails), last


def reduced(program: Program, fails: Fails, most: int = 400) -> Program:
    """The smallest program found, in at most `most` trials, of which `fails` still holds."""
    trials = 0
    progress = True
    while progress:
        progress = False
        for smaller in _smaller(program):
            if trials >= most:
                return program
            trials += 1
            if fails(smaller):
                program, progress = smaller, True
                break
    return program


def _smaller(program: Program) -> Iterator[Program]:
    """Programs that are simpler by one change, the boldest first."""
    for kept in range(len(program.results)):
        if len(program.results) > 1:
            yield replace(program, results=(program.results[kept],), donated={}).live()
    if program.donated:
        yield replace(program, donated={}).live()
    for number in range(len(program.results)):
        if len(program.results) > 1:
            yield _without_result(program, number)
    for op in reversed(program.ops):
        # What reads the op matters, or what it reads: its results are given, or it is the last.
        if program.results != op.results[:1]:
            yield replace(program, results=op.results[:1], donated={}).live()
    for op in program.ops:
        others = tuple(other for other in program.ops if other is not op)
        arguments = (*program.arguments, *(_given(value) for value in op.results))
        yield replace(program, ops=others, arguments=arguments).live()


def _without_result(program: Program, number: int) -> Program:
    results = program.results[:number] + program.results[number + 1 :]
    donated = {
        place - (place > number): argument
        for place, argument in program.donated.items()
        if place != number
    }
    return replace(program, results=results, donated=donated).live()


def _given(value: Value) -> Value:
    """An argument in place of an op's result."""
    return replace(value, bound=min(value.bound, 3.0))
