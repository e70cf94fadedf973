"""Writes loops of a plan: scf.for and scf.while around the launches of their bodies."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..loops import Scan
from ..mlir import TensorType
from .memref import Memref
from .places import Carry, LoopLayout, Place
from .program import Part, Step
from .write import Frame


@dataclass
class _LoopText:
    """What both kinds share.

    Attributes:
        frame: the function that the loop stands in.
        step: the loop's call.
        found: its memory.
        memory: what its body's arguments, outputs and next values name.
    """

    frame: Frame
    step: Step
    found: LoopLayout
    memory: dict[Place, Memref] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.plan, self.views = self.frame.plan, self.frame.views
        self.writer = self.frame.writer
        location = self.step.location
        self.starts = [self.frame.part(part, location) for part in self.step.inputs]

    def result(self, i: int) -> Memref:
        return self.frame.part(self.step.results[i], self.step.location)

    def start_in(self, i: int, buffer: Memref, *, is_result: bool) -> None:
        """Copies a carry's first value into its buffer, unless that is the result's memory and it
        lies there already.
        """
        place = self.frame.layout.places[self.step.results[i].root]
        if not (is_result and self.frame.layout.is_at(self.step.inputs[i], place)):
            self.views.copy(self.starts[i], buffer)

    def body(self, name: str) -> None:
        """The launches of one of the loop's functions."""
        Frame(self.plan, self.found.functions[name], self.memory, self.frame).write()


@dataclass
class ScanText(_LoopText):
    """An scf.for; the carries that move from memory to memory are its iteration arguments.

    Attributes:
        moving: for each of those the memref inside, and the one that it is first.
    """

    moving: list[tuple[Memref, Memref]] = field(default_factory=list)

    @property
    def loop(self) -> Scan:
        assert isinstance(self.found.loop, Scan)
        return self.found.loop

    def write(self) -> None:
        for i, carry in enumerate(self.found.carries):
            self._start(i, carry)
        returned, iteration = self._open()
        self._name_memory(iteration)
        self.body(self.loop.body)
        self._close()
        self._collect(returned)

    def _start(self, i: int, carry: Carry) -> None:
        """Makes a carry's first value ready."""
        here = Place("argument", i)
        if carry.kind == "stack":
            self._move(here, self.starts[i])
        elif carry.kind == "swap":
            kind = self.step.results[i].type
            second = self.frame.arena(carry.index, kind)
            # The last iteration writes where the result is wanted.
            even = self.loop.length % 2 == 0
            pair = (self.result(i), second) if even else (second, self.result(i))
            self.start_in(i, pair[0], is_result=even)
            self._move(here, pair[0])
            self._move(Place("next", i), pair[1])
        elif carry.kind == "history":
            kind = self.step.results[i].type
            first = kind.size * (self.loop.length if self.loop.reverse else 0)
            self.views.copy(self.starts[i], self.frame.part(Part(carry.index, first, kind)))
        else:
            self.start_in(i, self.result(i), is_result=True)
            self.memory[here] = self.result(i)

    def _move(self, place: Place, first: Memref) -> None:
        first = self.views.movable(first)
        self.memory[place] = Memref(self.writer.fresh(), first.type, None)
        self.moving.append((self.memory[place], first))

    def _open(self) -> tuple[list[str], str]:
        """The loop's first line; the names of what it returns, and of the iteration's number."""
        # What the body names must be named before the loop, where it can be seen from inside.
        for i in self._stacked():
            self.result(i)
        for carry in self.found.carries:
            if carry.kind == "history":
                self._whole(carry)
        returned, index = [self.writer.fresh() for _ in self.moving], self.writer.fresh()
        zero, one, end = map(self.plan.constant, (0, 1, self.loop.length))
        head = f"scf.for {index} = {zero} to {end} step {one}"
        if self.moving:
            pairs = ", ".join(f"{inside.name} = {first.name}" for inside, first in self.moving)
            kinds = ", ".join(inside.text for inside, _ in self.moving)
            head = f"{', '.join(returned)} = {head} iter_args({pairs}) -> ({kinds})"
        self.writer.line(f"{head} {{")
        return returned, index

    def _whole(self, carry: Carry) -> Memref:
        """All places of a carry with a history."""
        kind = self.frame.layout.program.types[carry.index]
        return self.frame.part(Part(carry.index, 0, kind))

    def _name_memory(self, iteration: str) -> None:
        """Names the memory of scanned tensors, stacks and constants in this iteration."""
        loop, location = self.loop, self.step.location
        place = self._index(iteration, loop.length - 1) if loop.reverse else iteration
        for i, given in enumerate(self.starts[loop.carries :], loop.carries):
            scanned = i < loop.carries + loop.scanned
            at = self.views.place(given, place, location) if scanned else given
            self.memory[Place("argument", i)] = at
        self._name_histories(iteration)
        wanted = self.found.functions[loop.body].wanted
        for i in self._stacked():
            self.memory[wanted[i]] = self.views.place(self.result(i), place, location)

    def _stacked(self) -> list[int]:
        """The results that each iteration writes a place of."""
        wanted = self.found.functions[self.loop.body].wanted
        stacks = range(self.loop.carries, len(wanted))
        return [i for i in stacks if wanted[i].base == "output"]

    def _name_histories(self, iteration: str) -> None:
        count = self.loop.length
        for i, carry in enumerate(self.found.carries):
            if carry.kind != "history":
                continue
            if self.loop.reverse:
                now, then = self._index(iteration, count), self._index(iteration, count - 1)
            else:
                now, then = iteration, self._following(iteration)
            for base, place in (("argument", now), ("next", then)):
                at = self.views.place(self._whole(carry), place, self.step.location)
                self.memory[Place(base, i)] = at

    def _index(self, iteration: str, last: int) -> str:
        """`last` less the iteration's number."""
        name = self.writer.fresh()
        self.writer.line(f"{name} = arith.subi {self.plan.constant(last)}, {iteration} : index")
        return name

    def _following(self, iteration: str) -> str:
        name = self.writer.fresh()
        self.writer.line(f"{name} = arith.addi {iteration}, {self.plan.constant(1)} : index")
        return name

    def _close(self) -> None:
        handed = []
        for i, carry in enumerate(self.found.carries):
            here = self.memory[Place("argument", i)]
            if carry.kind == "stack":
                stacked = self.memory[Place("output", carry.index)]
                handed.append(self.views.reshape(stacked, here.type.shape))
            elif carry.kind == "swap":
                handed += [self.memory[Place("next", i)], here]
        if handed:
            names = ", ".join(item.name for item in handed)
            self.writer.line(f"scf.yield {names} : {', '.join(item.text for item in handed)}")
        self.writer.line(f"}} {self.step.location}")

    def _collect(self, returned: list[str]) -> None:
        """Copies the last values of stacked carries out, for whom they are read."""
        position = 0
        for i, carry in enumerate(self.found.carries):
            root = self.step.results[i].root
            if carry.kind == "stack" and root in self.frame.layout.program.last_use:
                target = self.result(i)
                self.views.copy(Memref(returned[position], target.type, None), target)
            position += {"stack": 1, "swap": 2}.get(carry.kind, 0)


@dataclass
class WhileText(_LoopText):
    """An scf.while; the carries stay where they are."""

    def write(self) -> None:
        self.memory |= {Place("argument", i): memref for i, memref in enumerate(self.starts)}
        for i in range(len(self.step.results)):
            self.start_in(i, self.result(i), is_result=True)
            self.memory[Place("argument", i)] = self.result(i)
        flag, truth = self.frame.arena(self.found.flag, TensorType((), "i1")), self.writer.fresh()
        self.memory[Place("output", 0)] = flag
        condition, body = self.found.loop.functions
        self.writer.line("scf.while : () -> () {")
        self.body(condition)
        self.writer.line(f"{truth} = memref.load {flag.name}[] : {flag.text}")
        self.writer.line(f"scf.condition({truth})")
        self.writer.line("} do {")
        self.body(body)
        self.writer.line("scf.yield")
        self.writer.line(f"}} {self.step.location}")


def write_loop(frame: Frame, step: Step, found: LoopLayout) -> None:
    """Writes the loop that `step` calls into `frame`."""
    kind = ScanText if isinstance(found.loop, Scan) else WhileText
    kind(frame, step, found).write()
