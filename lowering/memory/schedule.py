"""Orders of a program's steps in which less memory is in use."""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heapify, heappop, heappush

from .footprint import Footprint


def best_order(steps: Footprint) -> list[int]:
    """The order of least peak among `orders`."""
    return min(orders(steps), key=steps.peak)


def orders(steps: Footprint) -> tuple[list[int], list[int], list[int]]:
    """The program's own order, but for what overwrites an argument that others still read, and two that a
    greedy rule makes of it.

    Forward, a step that frees at least what it takes runs as soon as it can: the update of a parameter
    as soon as its gradient is there. Backward, the same rule lets a step that takes more than it frees
    wait until its result is needed.
    """
    own = _own(steps)
    sooner = _greedy(steps, own, backward=False)
    return own, sooner, _greedy(steps, sooner, backward=True)


def _own(steps: Footprint) -> list[int]:
    """The steps in order, each after what it needs."""
    readers: dict[int, list[int]] = {}
    for step, before in enumerate(steps.needs):
        for other in before:
            readers.setdefault(other, []).append(step)
    waits = [len(before) for before in steps.needs]
    ready = [step for step, count in enumerate(waits) if not count]
    made = []
    while ready:
        made.append(heappop(ready))
        for step in readers.get(made[-1], ()):
            waits[step] -= 1
            if not waits[step]:
                heappush(ready, step)
    return made


def _greedy(steps: Footprint, order: Sequence[int], *, backward: bool) -> list[int]:
    run = _Run(steps, order, backward=backward)
    return run.made[::-1] if backward else run.made


class _Run:
    """One greedy pass. A heap of the ready steps, cheapest first, holds outdated entries too: a step
    only gets cheaper while it waits, and then it is put in once more.
    """

    def __init__(self, steps: Footprint, order: Sequence[int], *, backward: bool) -> None:
        self.steps = steps
        self.order = order[::-1] if backward else list(order)
        self.rank = {step: place for place, step in enumerate(self.order)}
        self._link(backward)
        self.begun = set(steps.kept) if backward else set[int]()
        self.left: dict[int, set[int]] = {}  # root -> the steps that will still touch it
        for step in self.order:
            for root in steps.touches[step]:
                self.left.setdefault(root, set()).add(step)
        if not backward:
            for root in steps.kept:
                self.left.setdefault(root, set()).add(-1)  # nobody ever frees it
        self.made: list[int] = []
        self.done: set[int] = set()
        self.ready = [
            (self.takes(step), self.rank[step], step) for step in self.order if not self.waits[step]
        ]
        heapify(self.ready)
        self._place_all()

    def _link(self, backward: bool) -> None:
        self.waits = dict.fromkeys(self.order, 0)
        self.frees: dict[int, list[int]] = {step: [] for step in self.order}
        for step, before in enumerate(self.steps.needs):
            for other in before:
                first, second = (step, other) if backward else (other, step)
                self.waits[second] += 1
                self.frees[first].append(second)

    def takes(self, step: int) -> int:
        """By how much more is in use after a step than before it."""
        taken = 0
        for root in self.steps.touches[step]:
            taken += self.steps.nbytes[root] * (root not in self.begun)
            taken -= self.steps.nbytes[root] * (self.left[root] == {step})
        return taken

    def _place_all(self) -> None:
        for following in self.order:
            while following not in self.done:
                step = self._cheap()
                self._place(following if step is None else step)

    def _cheap(self) -> int | None:
        """The ready step that frees most, if it takes no more than it frees."""
        while self.ready and self.ready[0][0] <= 0:
            taken, _, step = heappop(self.ready)
            if step not in self.done and taken == self.takes(step):
                return step
        return None

    def _place(self, step: int) -> None:
        self.made.append(step)
        self.done.add(step)
        changed = {other for other in self.frees[step] if not self._still_waits(other)}
        for root in self.steps.touches[step]:
            left = self.left[root]
            left.discard(step)
            if root not in self.begun or len(left) == 1:
                changed |= {other for other in left if other >= 0 and not self.waits[other]}
            self.begun.add(root)
        for other in changed - self.done:
            heappush(self.ready, (self.takes(other), self.rank[other], other))

    def _still_waits(self, step: int) -> bool:
        self.waits[step] -= 1
        return self.waits[step] > 0
