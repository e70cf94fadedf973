"""How much memory the steps of a function need in one order or another, told before any is placed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from mlir import ir

from ..arena import rounded
from ..extern import Extern
from ..loops import loop_of
from ..mlir import callee
from .overwrite import Overwriting
from .program import Program, read_program


@dataclass
class Footprint:
    """The steps of a program as what they touch.

    Attributes:
        program: whose steps these are.
        nbytes: of each root what it takes of the arena: nothing for an argument, or for a result that
            is written in place.
        touches: for each step its roots, read or written.
        inside: for each step the bytes that the functions of a loop take beside.
        needs: for each step those that come before it in any order: what makes what it reads, what
            still reads an argument that it overwrites, and calls of torch that draw from the same
            random numbers.
        overwritten: argument -> the step that makes its new value.
        candidates: root -> roots whose memory it could take where they die as it is made.
    """

    program: Program
    nbytes: list[int]
    touches: list[frozenset[int]] = field(default_factory=list)
    inside: list[int] = field(default_factory=list)
    needs: list[frozenset[int]] = field(default_factory=list)
    overwritten: dict[int, int] = field(default_factory=dict)
    candidates: dict[int, list[int]] = field(default_factory=dict)

    @property
    def kept(self) -> frozenset[int]:
        """The roots that the function returns."""
        return frozenset(part.root for part in self.program.results)

    def live(self, order: Sequence[int]) -> list[int]:
        """The bytes in use while each step of an order runs."""
        last = {root: place for place, step in enumerate(order) for root in self.touches[step]}
        last |= dict.fromkeys(self.kept, len(order))
        begun: set[int] = set()
        found, now = [], 0
        for place, step in enumerate(order):
            fresh = self.touches[step] - begun
            dying = {root for root in self.touches[step] if last[root] == place}
            begun |= fresh
            now += sum(self.nbytes[root] for root in fresh)
            found.append(now + self.inside[step] - self._taken_over(fresh, dying))
            now -= sum(self.nbytes[root] for root in dying)
        return found

    def _taken_over(self, fresh: Iterable[int], dying: set[int]) -> int:
        """The bytes of dying roots that fresh ones take over."""
        total, left = 0, {root for root in dying if self.nbytes[root]}
        for root in sorted(fresh):
            if self.nbytes[root]:
                old = next((old for old in self.candidates.get(root, ()) if old in left), None)
                if old is not None:
                    left.remove(old)
                    total += self.nbytes[old]
        return total

    def peak(self, order: Sequence[int]) -> int:
        """The most bytes in use at once."""
        return max(self.live(order), default=0)


def footprint(
    known: Mapping[str, ir.OpView],
    name: str,
    donated: Mapping[str, Mapping[int, int]],
    overwriting: Overwriting,
) -> Footprint:
    """The footprint of a function of stage "regions"; `donated` is told of every function."""
    program = read_program(known, name, overwriting.updates)
    placed = {part.root for part in program.results if program.is_whole(part)}
    nbytes = [
        0 if root < program.arguments or root in placed else rounded(kind.nbytes)
        for root, kind in enumerate(program.types)
    ]
    found = Footprint(program, nbytes)
    writer: dict[int, int] = {}
    drawing: frozenset[int] = frozenset()
    for number, step in enumerate(program.steps):
        read = {part.root for part in step.inputs}
        found.touches.append(frozenset(read.union(step.roots)))
        found.needs.append(frozenset(writer[root] for root in read if root in writer))
        if not is_repeatable(known, step.callee):
            found.needs[number] |= drawing
            drawing = frozenset([number])
        writer |= dict.fromkeys(step.roots, number)
        found.candidates |= overwriting.candidates(program, number)
        loop = loop_of(known[step.callee])
        bodies = [
            footprint(known, body, donated, overwriting)
            for body in (loop.functions if loop else ())
        ]
        found.inside.append(max((b.peak(range(len(b.needs))) for b in bodies), default=0))
    for argument, result in donated[name].items():
        maker = program.maker.get(program.results[result].root)
        if maker is not None:
            readers = {n for n, touched in enumerate(found.touches) if argument in touched} - {
                maker
            }
            # Those that need what is made must find a copy of the old value.
            if max(readers, default=0) > maker and readers & _after(found.needs, maker):
                readers = {n for n in readers if n < maker}
            found.needs[maker] |= readers
            found.overwritten[argument] = maker
    return found


def _after(needs: Sequence[frozenset[int]], step: int) -> set[int]:
    """The steps that need a step, or what needs it."""
    readers: dict[int, list[int]] = {}
    for number, before in enumerate(needs):
        for other in before:
            readers.setdefault(other, []).append(number)
    found, waiting = {step}, [step]
    while waiting:
        new = [n for n in readers.get(waiting.pop(), ()) if n not in found]
        found.update(new)
        waiting += new
    return found


def is_repeatable(known: Mapping[str, ir.OpView], name: str) -> bool:
    """Whether a function called again on the same values gives the same results."""
    extern, loop = Extern.of(known[name]), loop_of(known[name])
    if loop is None:
        return extern is None or extern.is_repeatable
    calls = (callee(op) for body in loop.functions for op in known[body].regions[0].blocks[0])
    return all(is_repeatable(known, called) for called in calls if called)
