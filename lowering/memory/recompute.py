"""Which launches are made a second time, so that less is kept from the first reader of a value to the
last.

Where most is in use, the values that wait there for a later reader are looked through. What makes one
again right before that reader costs bytes and arithmetic; the cheapest for what it saves is done, until
less is in use, and so on at the next peak. A launch made again computes the same bits.

The choice by cost over bytes is that of Kirisame et al. 2021, "Dynamic Tensor Rematerialization", here
made once, while compiling.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field

from .footprint import Footprint

# How many operations take as long as a byte, in bfloat16 on a GPU: 989e12 / 4.8e12 at their best.
FLOPS_PER_BYTE = 200
LONGEST = 12
"""Launches that one value may take."""
KEPT = 16
"""What is so many times smaller than a value is kept, rather than made again for it."""
PATIENCE = 8
"""Peaks that may be relieved in vain before the search ends."""


@dataclass(frozen=True)
class Work:
    """What a launch takes, and whether it may be made again."""

    nbytes: int
    flops: int
    repeats: bool

    @property
    def price(self) -> float:
        return self.nbytes + self.flops / FLOPS_PER_BYTE


@dataclass
class Schedule:
    """Steps in order, some of them made again.

    Attributes:
        order: numbers of steps; those that the program does not have are made again.
        origin: for each step the program's own.
        reads: for each step the program's roots that it reads -> what it reads instead.
        makes: the roots that each step writes.
        nbytes: of each root.
        saved: for each step that is made again, the bytes that it kept from waiting.
        peak: the bytes in use at once.
    """

    order: list[int]
    origin: list[int]
    reads: list[dict[int, int]]
    makes: list[tuple[int, ...]]
    nbytes: list[int]
    saved: dict[int, int] = field(default_factory=dict)
    peak: int = 0


@dataclass(frozen=True)
class _Choice:
    """A step to make again, before the step at `use`; `chain` is what it needs, itself last."""

    score: float
    chain: tuple[int, ...]
    roots: frozenset[int]
    use: int
    saves: int


def recompute(
    steps: Footprint, order: Sequence[int], work: Sequence[Work], target: int
) -> Schedule:
    """A schedule in which at most `target` bytes are in use at once, or the least that was found."""
    search = _Search(steps, order, work)
    best, patience = deepcopy(search.made), PATIENCE
    while search.made.peak > target and patience and search.relieve(target):
        patience -= 1
        if search.made.peak < best.peak:
            best, patience = deepcopy(search.made), PATIENCE
    return best


class _Search:
    def __init__(self, steps: Footprint, order: Sequence[int], work: Sequence[Work]) -> None:
        program = steps.program
        makes = [tuple(step.roots) for step in program.steps]
        reads = [{part.root: part.root for part in step.inputs} for step in program.steps]
        self.made = Schedule(list(order), list(range(len(reads))), reads, makes, list(steps.nbytes))
        self.work, self.inside, self.kept = work, steps.inside, steps.kept
        self.overwritten = steps.overwritten
        writers = Counter(root for roots in makes for root in roots)
        self.repeats = [
            work[n].repeats and all(writers[root] == 1 for root in makes[n])
            for n in range(len(reads))
        ]
        self._look()

    def _look(self) -> None:
        """Sees anew when each root is used, and how much is in use at each step."""
        made = self.made
        self.place = {step: place for place, step in enumerate(made.order)}
        self.uses: list[list[int]] = [[] for _ in made.nbytes]
        self.maker: dict[int, int] = {}
        for place, step in enumerate(made.order):
            for root in {*made.reads[step].values(), *made.makes[step]}:
                self.uses[root].append(place)
            self.maker |= dict.fromkeys(made.makes[step], step)
        change = [0] * (len(made.order) + 1)
        for root, uses in enumerate(self.uses):
            if uses:
                change[uses[0]] += made.nbytes[root]
                change[len(made.order) if root in self.kept else uses[-1] + 1] -= made.nbytes[root]
        self.live, now = [], 0
        for place, step in enumerate(made.order):
            now += change[place]
            self.live.append(now + self.inside[made.origin[step]])
        made.peak = max(self.live, default=0)

    def relieve(self, target: int) -> bool:
        """Makes steps again so that less waits where most is in use; whether any could be."""
        if not self.live:  # nothing is launched: results are views of arguments
            return False
        peak = self.made.peak
        at, excess = self.live.index(peak), peak - target
        step_at = self.made.order[at]
        choices = [
            choice for step in self.made.order[:at] if (choice := self._choice(step, at, peak))
        ]
        relieved = False
        for choice in sorted(choices, key=lambda choice: (choice.score, choice.chain)):
            if excess <= 0:
                break
            # What was done meanwhile may have changed what it takes.
            now = self._choice(choice.chain[-1], self.place[step_at], peak)
            if now is not None and now.score <= 2 * choice.score:
                self._apply(now)
                excess -= now.saves
                relieved = True
        return relieved

    def _choice(self, step: int, at: int, peak: int) -> _Choice | None:
        """What it takes and saves not to let a step's results wait at place `at`."""
        made = self.made
        waiting = [root for root in made.makes[step] if self._waits(root, at)]
        if not waiting or not self.repeats[made.origin[step]]:
            return None
        use = min(next(place for place in self.uses[root] if place > at) for root in waiting)
        chain: dict[int, None] = {}
        kept: set[int] = set()
        if not self._fill(step, use, chain, kept):
            return None
        saves = sum(made.nbytes[root] for root in waiting)
        saves -= sum(made.nbytes[root] for root in kept if not self._is_live(root, at))
        beside = sum(made.nbytes[r] for n in chain for r in made.makes[n]) - saves
        if saves <= 0 or self.live[use] + beside >= peak:
            return None
        price = sum(self.work[made.origin[n]].price for n in chain)
        return _Choice(price / saves, tuple(chain), frozenset(waiting), use, saves)

    def _waits(self, root: int, at: int) -> bool:
        """Whether a root is in use at a place only for a later step's sake."""
        uses = self.uses[root]
        waits = uses[0] < at < uses[-1] and self.made.nbytes[root] > 0 and root not in self.kept
        return waits and at not in uses

    def _is_live(self, root: int, at: int) -> bool:
        uses = self.uses[root]
        return bool(uses) and uses[0] <= at and (uses[-1] >= at or root in self.kept)

    def _fill(self, step: int, use: int, chain: dict[int, None], kept: set[int]) -> bool:
        """Adds what must run before place `use` for a step to run there, and the step itself."""
        if step in chain:
            return True
        if len(chain) >= LONGEST or not self.repeats[self.made.origin[step]]:
            return False
        largest = max(self.made.nbytes[root] for root in self.made.makes[step])
        for root in sorted(self.made.reads[step].values()):
            maker = self.maker.get(root)
            if maker is None:
                writer = self.overwritten.get(root)
                if writer is not None and self.place[writer] < use:
                    return False
            elif not self.uses[root][0] < use <= self.uses[root][-1]:
                if KEPT * self.made.nbytes[root] <= largest:
                    kept.add(root)
                elif not self._fill(maker, use, chain, kept):
                    return False
        chain[step] = None
        return True

    def _apply(self, choice: _Choice) -> None:
        made = self.made
        again: dict[int, int] = {}
        copies: list[int] = []
        for step in choice.chain:
            reads = {own: again.get(root, root) for own, root in made.reads[step].items()}
            for root in made.makes[step]:
                again[root] = len(made.nbytes)
                made.nbytes.append(made.nbytes[root])
            copies.append(len(made.reads))
            made.reads.append(reads)
            made.makes.append(tuple(again[root] for root in made.makes[step]))
            made.origin.append(made.origin[step])
        for later in made.order[choice.use :]:
            made.reads[later] |= {
                own: again[root] for own, root in made.reads[later].items() if root in choice.roots
            }
        made.order[choice.use : choice.use] = copies
        made.saved[copies[-1]] = choice.saves
        self._look()
