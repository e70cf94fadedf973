"""When each piece of a plan's arena is in use, and which launch each launch reads from.

Time is counted in launches and copies, in the order in which `plan.walk` gives them. What a loop touches
is in use from its first launch to its last, for every iteration needs it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .plan import Call, Copy, Loop, Plan, Ref, Step, While, walk

Range = tuple[int, int]


@dataclass
class Lifetime:
    """A piece of the arena from the launch that fills it to the last one that reads it.

    Attributes:
        start, end: bytes of the arena.
        first, last: launches.
    """

    start: int
    end: int
    first: int
    last: int


@dataclass(frozen=True)
class Touch:
    """What a step does with memory, while launches `first` to `last` run."""

    first: int
    last: int
    reads: tuple[Ref, ...]
    writes: tuple[Ref, ...]


def lifetimes(plan: Plan) -> list[Lifetime]:
    """The pieces of the arena, in the order in which they are filled."""
    found: list[Lifetime] = []
    current: list[Lifetime] = []  # those of which some byte has not been written again
    for touch in _touches(plan.steps):
        for ref in touch.reads:
            for piece in _behind(current, _range(ref)):
                piece.last = touch.last
        for ref in touch.writes:
            start, end = _range(ref)
            if start == end:
                continue
            current = [piece for piece in current if piece.start < start or piece.end > end]
            current.append(Lifetime(start, end, touch.first, touch.last))
            found.append(current[-1])
    return found


def live_bytes(pieces: Sequence[Lifetime], launches: int) -> list[int]:
    """How many bytes of the arena are in use while each launch runs."""
    started: list[list[Lifetime]] = [[] for _ in range(launches)]
    for piece in pieces:
        started[piece.first].append(piece)
    live: list[Lifetime] = []
    found = []
    for launch in range(launches):
        live = [piece for piece in live if piece.last >= launch] + started[launch]
        total = reached = 0
        for piece in sorted(
            live, key=lambda piece: piece.start
        ):  # a piece may be a part of another
            total += max(0, piece.end - max(piece.start, reached))
            reached = max(reached, piece.end)
        found.append(total)
    return found


def makers(plan: Plan) -> list[list[int]]:
    """For each launch the launches that made what it reads from the arena.

    Inside, a loop's memory moves with the iteration: what the loop reads, its first launch is said to
    read, and what it makes, its last one makes.
    """
    current: list[Lifetime] = []
    found: list[list[int]] = [[] for _ in walk(plan.steps)]
    for touch in _touches(plan.steps):
        pieces = [p for ref in touch.reads for p in _behind(current, _range(ref))]
        found[touch.first] = list(dict.fromkeys(piece.last for piece in pieces))
        for start, end in map(_range, touch.writes):
            current = [piece for piece in current if piece.start < start or piece.end > end]
            current.append(Lifetime(start, end, touch.first, touch.last))
    return found


def _touches(steps: Sequence[Step]) -> Iterator[Touch]:
    launch = 0
    for step in steps:
        count = sum(1 for _ in walk((step,)))
        reads, writes = _operands(step)
        arena = [tuple(ref for ref in refs if ref.base == "arena") for refs in (reads, writes)]
        if count:
            yield Touch(launch, launch + count - 1, arena[0], arena[1])
        launch += count


def _operands(step: Step) -> tuple[Sequence[Ref], Sequence[Ref]]:
    """What a step reads that it has not written itself, and what it writes."""
    if isinstance(step, Call):
        split = len(step.operands) - step.outputs
        return step.operands[:split], step.operands[split:]
    if isinstance(step, Copy):
        return (step.source,), (step.target,)
    inner = step.steps if isinstance(step, Loop) else (*step.condition, *step.steps)
    read: dict[int, None] = {}
    written: dict[int, None] = {}
    for each in inner:
        reads, writes = _operands(each)
        read |= {i: None for ref in reads for i in _within(step, ref) if i not in written}
        written |= {i: None for ref in writes for i in _within(step, ref)}
    return [step.operands[i] for i in read], [step.operands[i] for i in written]


def _within(loop: Loop | While, ref: Ref) -> list[int]:
    """The operands of a loop that memory named inside lies in, in one iteration or another."""
    if ref.base == "operand":
        return [ref.index]
    assert isinstance(loop, Loop)
    return [operand for operand, _ in loop.moving[ref.index]]


def _range(ref: Ref) -> Range:
    return ref.offset, ref.offset + ref.type.nbytes


def _behind(current: Sequence[Lifetime], wanted: Range) -> list[Lifetime]:
    """The newest pieces that between them hold the bytes `wanted`."""
    missing, found = [wanted], []
    for piece in reversed(current):
        left = [rest for part in missing for rest in _without(part, (piece.start, piece.end))]
        if left != missing:
            found.append(piece)
        missing = left
    return found


def _without(part: Range, cut: Range) -> list[Range]:
    """The bytes of `part` that are not in `cut`."""
    if cut[1] <= part[0] or part[1] <= cut[0]:
        return [part]
    sides = [(part[0], cut[0]), (cut[1], part[1])]
    return [(start, end) for start, end in sides if start < end]
