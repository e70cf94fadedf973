"""Decides where every value of a module's functions lives.

Values that die share one arena; what a step makes element by element of one that dies there takes its
place. A result is written where its reader wants it by the step that makes
it: an output into the output, the new value of a donated argument over the argument, when nothing
reads the old value afterwards and the step reads each old element only to make the new one in its
place. The body of a loop is planned once; its temporaries lie in the same place in every iteration.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mlir import ir

from ..arena import Arena
from ..loops import Scan, While, donations, loop_of
from .history import History
from .overwrite import Overwriting
from .program import Part, Program, Step, read_program


@dataclass(frozen=True)
class Place:
    """Memory of a root.

    Attributes:
        base: "argument" or "output" (of the function), "next" (the buffer that the next iteration
            reads a carry from), or "arena".
        index: which one; for the arena, the number of the buffer.
    """

    base: str
    index: int


@dataclass(frozen=True)
class Carry:
    """How a scan's iterations hand on a carry.

    Attributes:
        kind: "place" (each overwrites it), "stack" (each reads what the one before stacked), "history"
            (it lives in the stack of its old values) or "swap" (from one of two buffers into the
            other).
        index: for "stack" the output, for "history" the root, for "swap" the arena's second buffer.
    """

    kind: str
    index: int = 0


@dataclass
class LoopLayout:
    """A loop's memory.

    Attributes:
        loop: what it runs.
        functions: their memory, by name.
        carries: how a scan hands on each carry.
        flag: the arena's buffer in which a while loop's condition puts its byte.
    """

    loop: Scan | While
    functions: dict[str, Layout] = field(default_factory=dict)
    carries: list[Carry] = field(default_factory=list)
    flag: int = 0


@dataclass
class Layout:
    """A function's memory.

    Attributes:
        places: of its roots.
        wanted: where each result is to be in the end; what is not there yet is copied.
        asides: results that are old values of arguments which the function overwrites, and the
            arena's buffers in which they are kept until all is copied.
        loops: for each step that is a loop, the memory of its functions.
    """

    program: Program
    donated: dict[int, int]
    places: dict[int, Place] = field(default_factory=dict)
    wanted: list[Place] = field(default_factory=list)
    asides: dict[int, int] = field(default_factory=dict)
    loops: dict[int, LoopLayout] = field(default_factory=dict)

    def is_at(self, part: Part, place: Place) -> bool:
        """Whether a part begins where a place does."""
        return self.places[part.root] == place and part.start == 0


class Planner:
    """Places the values of a module's functions; where the arena's buffers lie, `arena.pack()` says."""

    def __init__(self, known: Mapping[str, ir.OpView]) -> None:
        self.known = known
        self.donated = donations(known)
        self.overwriting = Overwriting(known)
        self.arena = Arena()

    def plan(self) -> Layout:
        """The memory of `@main`."""
        layout = self._open("main")
        self._place_steps(layout)
        self._set_aside(layout)
        return layout

    def _open(self, name: str, kept: Sequence[History] = ()) -> Layout:
        """A function's layout with its arguments and those results that are written in place; `kept`
        are the histories of the scan whose body it is.
        """
        program = read_program(self.known, name, self.overwriting.updates)
        layout = Layout(program, self.donated[name])
        layout.places = {i: Place("argument", i) for i in range(program.arguments)}
        owner = {result: argument for argument, result in layout.donated.items()}
        outputs = iter(range(len(program.results)))
        for k in range(len(program.results)):
            donor = owner.get(k)
            wanted = Place("output", next(outputs)) if donor is None else Place("argument", donor)
            layout.wanted.append(wanted)
        for history in kept:
            here, following = Place("argument", history.carry), Place("next", history.carry)
            for k in history.old:
                layout.wanted[k] = here
            for k in (history.carry, *history.new):
                layout.wanted[k] = following
        # Outputs first: a carry that is stacked too is read from there.
        for k in sorted(range(len(program.results)), key=owner.__contains__):
            part, wanted = program.results[k], layout.wanted[k]
            fresh = part.root in program.maker and part.root not in layout.places
            if not fresh or not program.is_whole(part):
                continue
            free = wanted.base != "argument"
            if free or self.overwriting.is_safe(program, owner[k], part.root):
                layout.places[part.root] = wanted
        return layout

    def _place_steps(self, layout: Layout) -> set[int]:
        """Places what is left, step by step; the roots that still hold parts of the arena."""
        program = layout.program
        held: set[int] = set()
        for number, step in enumerate(program.steps):
            replaced = self._place_results(layout, number)
            held = held - replaced | {r for r in step.roots if layout.places[r].base == "arena"}
            loop = loop_of(self.known[step.callee])
            if loop is not None:
                layout.loops[number] = self._loop(loop, step)
            dead = {root for root in held if program.last_use.get(root, number) <= number}
            for root in sorted(dead):
                self.arena.give(layout.places[root].index)
            held -= dead
        return held

    def _place_results(self, layout: Layout, number: int) -> set[int]:
        """Places a step's results; returns the roots whose part of the arena is a result's now."""
        program, replaced = layout.program, set[int]()
        candidates = self.overwriting.candidates(program, number)
        for root in program.steps[number].roots:
            if root in layout.places:
                continue
            start = self.overwriting.replaced(program, root)
            dying = (r for r in candidates.get(root, ()) if program.last_use[r] == number)
            for old in (*dying, *([] if start is None else [start])):
                if layout.places[old].base == "arena" and old not in replaced:
                    layout.places[root] = layout.places[old]
                    replaced.add(old)
                    break
            else:
                nbytes = program.types[root].nbytes
                layout.places[root] = Place("arena", self.arena.take(nbytes))
        return replaced

    def _set_aside(self, layout: Layout) -> None:
        """Room for old values of arguments that are results, where those arguments are overwritten."""
        for argument, k in layout.donated.items():
            part, place = layout.program.results[k], layout.places[layout.program.results[k].root]
            overwritten = place.base == "argument" and place.index in layout.donated
            if overwritten and not layout.is_at(part, Place("argument", argument)):
                layout.asides[k] = self.arena.take(part.type.nbytes)

    def _loop(self, loop: Scan | While, step: Step) -> LoopLayout:
        found = LoopLayout(loop)
        if isinstance(loop, While):
            found.flag = self.arena.take(1)
        for name in loop.functions:
            layout = found.functions[name] = self._open(name, step.histories)
            used = self._carries(found, layout, step) if isinstance(loop, Scan) else []
            held = self._place_steps(layout)
            if isinstance(loop, While):
                self._set_aside(layout)
            used += [layout.places[root].index for root in sorted(held)]
            for buffer in (*used, *layout.asides.values()):
                self.arena.give(buffer)
        if isinstance(loop, While):
            self.arena.give(found.flag)
        return found

    def _carries(self, found: LoopLayout, layout: Layout, step: Step) -> list[int]:
        """Decides how carries are handed on; returns the second buffers."""
        program, buffers = layout.program, []
        kept = {history.carry for history in step.histories}
        for i in range(len(layout.donated)):
            part = program.results[i]
            place = layout.places.get(part.root)
            if i in kept:
                found.carries.append(Carry("history", step.results[i].root))
            elif place is not None and layout.is_at(part, Place("argument", i)):
                found.carries.append(Carry("place"))
            elif place is not None and place.base == "output" and program.is_whole(part):
                found.carries.append(Carry("stack", place.index))
                layout.wanted[i] = place
            else:
                buffers.append(self.arena.take(part.type.nbytes))
                found.carries.append(Carry("swap", buffers[-1]))
                layout.wanted[i] = Place("next", i)
                if place is None and program.is_whole(part):
                    layout.places[part.root] = layout.wanted[i]
        return buffers
