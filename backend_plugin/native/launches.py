"""The launches of some steps, made by one call of native code, loops included.

What has no entry point in native code is called back in Python, between the others. A loop with such a
launch inside is iterated by Python, and each iteration is one native call.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from keras_triton.lowering.emit_llvm.driver import driver
from keras_triton.lowering.plan import Copy, Loop, Step, While

from ..memory import Bases, Memory, Rows
from .callback import Callback
from .entry import Entry
from .words import Words

if TYPE_CHECKING:
    from ..runtime import Executor


@dataclass
class _Node:
    """A launch in the driver's list.

    Attributes:
        label: names it in errors.
        rows: of its operands; None for a callback.
        parts: the launches of a native loop.
        callbacks: what it calls in Python.
        kept: what must live as long as the list.
    """

    label: str
    function: int
    rows: Rows[int] | None
    record: Words
    parts: NativeLaunches | None = None
    callbacks: tuple[Callback, ...] = ()
    kept: Any = field(default=None, repr=False)

    @property
    def words(self) -> tuple[int | Words, ...]:
        if self.rows is None:
            return self.function, 0, 1, self.record
        first, *others = self.rows.rows
        return self.function, first, others[0] - first if others else 0, self.record


class NativeLaunches:
    """The launches of some steps in order, to be frozen after their memory.

    Attributes:
        is_native: no launch is made by Python.
    """

    def __init__(
        self, steps: Sequence[Step], executors: Mapping[str, Executor], memory: Memory
    ) -> None:
        self._memory, self._executors = memory, executors
        self._nodes = [self._node(step) for step in steps]
        self.is_native = all(node.rows is not None for node in self._nodes)
        self._list = Words()

    def freeze(self) -> None:
        """Ends what their memory's `freeze` has begun."""
        self._list = Words(*(word for node in self._nodes for word in node.words))

    def run(self, iteration: int, first: int = 0, count: int | None = None) -> None:
        """Makes them, or `count` of them.

        Raises:
            RuntimeError: an op of torch failed; the sentence names launch and layer.
            Any error that a launch in Python raises.
        """
        count = len(self._nodes) if count is None else count
        nodes, threads = self._list.address + 32 * first, self._memory.threads
        failed = driver().run(nodes, count, iteration, threads)
        if failed:
            self.fail(first + failed)

    @property
    def nodes(self) -> tuple[Words, int]:
        """The driver's list of them, and its length."""
        return self._list, len(self._nodes)

    def fail(self, number: int) -> None:
        """Raises what became of a launch that failed; they are counted from 1."""
        node = self._nodes[number - 1]
        for callback in node.callbacks:
            error = callback.error()
            if error is not None:
                raise error
        if node.parts is not None:
            node.parts.fail(node.record[len(node.record) - 1])
        raise RuntimeError(f"{node.label}: {driver().torch_error() or 'it failed'}")

    def _node(self, step: Step) -> _Node:
        if isinstance(step, Loop | While):
            return self._loop(step)
        if isinstance(step, Copy):
            record = Words(step.source.type.nbytes)
            rows = self._memory.pointers([step.source, step.target])
            return _Node(f"copy {step.layer}".strip(), driver().address("copy"), rows, record)
        executor, label = self._executors[step.kernel], f"{step.kernel} {step.layer}".strip()
        entry = executor.entry
        if isinstance(entry, Entry):
            rows, function = self._memory.pointers(step.operands), driver().address(entry.function)
            return _Node(label, function, rows, entry.record, kept=entry)
        return self._called_back(label, executor.bind(step, self._memory))

    def _called_back(self, label: str, launch: Callable[[int], None]) -> _Node:
        callback = Callback(launch)
        return _Node(label, callback.address, None, Words(), callbacks=(callback,))

    def _loop(self, step: Loop | While) -> _Node:
        memory = self._memory.inside(step)
        parts = (*step.condition, *step.steps) if isinstance(step, While) else step.steps
        launches = NativeLaunches(parts, self._executors, memory)
        if isinstance(step, While):
            return _until(self, step, launches, memory)
        return _repeat(self, step, launches, memory)


class NativeStep:
    """All launches of a plan, as a loop of one round.

    Args:
        steps, executors: of the plan.
        memory: of the step, not frozen yet.
        bases: how many tensors that lies in.
        size: the symbolic size, 0 without one.
    """

    def __init__(
        self,
        steps: Sequence[Step],
        executors: Mapping[str, Executor],
        memory: Memory,
        bases: int,
        size: int,
    ) -> None:
        self._memory = memory
        self._launches = NativeLaunches(steps, executors, memory)
        memory.freeze()
        self._launches.freeze()
        self._row = (ctypes.c_int64 * (1 + bases))(size)
        record = Words(*memory.words(), *self._launches.nodes, 1, 0)
        first = ctypes.addressof(self._row) + 8
        self._node = Words(driver().address("repeat"), first, 0, record)
        self._record = record

    def __call__(self, bases: Bases, threads: int) -> None:
        """Makes the launches in this memory.

        Raises:
            Any error, as `NativeLaunches.run` does.
        """
        self._row[1:] = [base.data_ptr() for base in bases]
        if self._launches.is_native:
            self._make(threads)
            return
        with torch.no_grad():
            self._memory.enter(bases, threads, False)
            try:
                self._make(threads)
            finally:
                self._memory.leave()

    def _make(self, threads: int) -> None:
        if driver().run(self._node.address, 1, 0, threads):
            self._launches.fail(self._record[len(self._record) - 1])


def _repeat(around: NativeLaunches, step: Loop, launches: NativeLaunches, memory: Memory) -> _Node:
    label = f"loop {step.layer}".strip()
    if not launches.is_native:

        def iterate() -> None:
            for iteration in range(step.count):
                launches.run(iteration)

        return _iterated(around, step, launches, memory, label, iterate)
    memory.freeze()
    launches.freeze()
    record = Words(*memory.words(), *launches.nodes, step.count, 0)
    rows = around._memory.pointers(step.operands)
    return _Node(label, driver().address("repeat"), rows, record, launches)


def _until(around: NativeLaunches, step: While, launches: NativeLaunches, memory: Memory) -> _Node:
    label, tested = f"while {step.layer}".strip(), len(step.condition)
    if not launches.is_native:
        flag = memory.tensors([step.flag])

        def holds() -> bool:
            launches.run(0, 0, tested)
            return bool(flag.rows[0][0].item())

        def iterate() -> None:
            while holds():
                launches.run(0, tested, len(step.steps))

        return _iterated(around, step, launches, memory, label, iterate)
    place = memory.pointers([step.flag])
    memory.freeze()
    launches.freeze()
    ask = Callback(lambda _: None)  # on its way through Python an interrupt is raised
    (flag_at,) = place.rows
    record = Words(*memory.words(), *launches.nodes, tested, flag_at, ask.address, 0)
    rows = around._memory.pointers(step.operands)
    return _Node(label, driver().address("until"), rows, record, launches, (ask,))


def _iterated(
    around: NativeLaunches,
    step: Loop | While,
    launches: NativeLaunches,
    memory: Memory,
    label: str,
    iterate: Callable[[], None],
) -> _Node:
    """A loop that Python iterates."""
    operands = around._memory.tensors(step.operands)
    memory.freeze()
    launches.freeze()

    def loop(iteration: int) -> None:
        memory.enter(operands.rows[iteration], around._memory.threads, False)
        try:
            iterate()
        finally:
            memory.leave()

    return around._called_back(label, loop)
