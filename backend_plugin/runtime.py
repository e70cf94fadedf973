"""Runs a plan: binds each launch to memory once, then replays the launches step after step.

Between two steps only the data batch and the outputs move; the arena and the state stay where they
are. So a launch is bound once to *places* (argument, output or arena, plus an offset), and a loop's
launches to a place for each iteration; see memory.py.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Protocol

import torch

from keras_triton.lowering.plan import Call, Copy, Loop, Plan, Step, While

from .memory import Bases, Memory
from .native.entry import Entry, NoEntryError
from .native.launches import NativeStep
from .native.words import Words

Launch = Callable[[int], None]
"""Runs for one iteration, whose number it is given (0 where nothing moves)."""


Run = Callable[[Sequence[torch.Tensor]], list[torch.Tensor]]
"""Runs a step: arguments to results, both flat."""


class Executor(Protocol):
    """What a target makes of one kernel: something that binds to the operands of a launch."""

    @property
    def entry(self) -> Entry | str:
        """How native code launches it on a CPU, or why only Python does."""

    def bind(self, call: Call, memory: Memory) -> Launch:
        """A launch over `call.operands` (inputs, then `call.outputs` outputs)."""


class NativeExecutor:
    """A kernel in machine code: called with the address of a table of pointers, in front of which the
    symbolic size lies, and a number of threads."""

    def __init__(self, kernel: Callable[[int, int], None], address: int) -> None:
        self.kernel = kernel
        self.entry = Entry("launch", Words(address), kernel)

    def bind(self, call: Call, memory: Memory) -> Launch:
        kernel, pointers = self.kernel, memory.pointers(call.operands)

        def launch(iteration: int) -> None:
            kernel(pointers.rows[iteration], memory.threads)

        return launch


class TensorExecutor:
    """A kernel that takes tensors: inputs to read, outputs to fill.

    Args:
        run: the kernel.
        native: makes its entry for native code on a CPU, or raises NoEntryError; None if there is none.
    """

    def __init__(
        self,
        run: Callable[[list[torch.Tensor], list[torch.Tensor]], None],
        native: Callable[[], Entry] | None = None,
    ) -> None:
        self.run, self._native = run, native

    @cached_property
    def entry(self) -> Entry | str:
        if self._native is None:
            return "it is computed in Python"
        try:
            return self._native()
        except NoEntryError as error:
            return str(error)

    def bind(self, call: Call, memory: Memory) -> Launch:
        run, split = self.run, len(call.operands) - call.outputs
        reads, writes = (
            memory.tensors(refs) for refs in (call.operands[:split], call.operands[split:])
        )

        def launch(iteration: int) -> None:
            run(reads.rows[iteration], writes.rows[iteration])

        return launch


class Launches:
    """The launches of some steps in order."""

    def __init__(
        self, steps: Sequence[Step], executors: Mapping[str, Executor], memory: Memory
    ) -> None:
        self.memory = memory
        self.launches = [_bind(step, executors, memory) for step in steps]
        self.labels = [f"{_kernel(step)} {step.layer}".strip() for step in steps]

    def run(self, iteration: int) -> None:
        if self.memory.profiled:
            self._run_profiled(iteration)
            return
        for launch in self.launches:
            launch(iteration)

    def _run_profiled(self, iteration: int) -> None:
        """Torch's profiler sees only its own ops; this gives it a named range for each launch."""
        for label, launch in zip(self.labels, self.launches, strict=True):
            with torch.profiler.record_function(label):
                launch(iteration)


def _kernel(step: Step) -> str:
    if isinstance(step, Call):
        return step.kernel
    return {Copy: "copy", Loop: "loop", While: "while"}[type(step)]


def _bind(step: Step, executors: Mapping[str, Executor], memory: Memory) -> Launch:
    if isinstance(step, Call):
        return executors[step.kernel].bind(step, memory)
    if isinstance(step, Copy):
        pair = memory.tensors([step.source, step.target])

        def copy(iteration: int) -> None:
            source, target = pair.rows[iteration]
            target.copy_(source)

        return copy
    return _bind_loop(step, executors, memory)


def _bind_loop(step: Loop | While, executors: Mapping[str, Executor], around: Memory) -> Launch:
    """Enters the loop's memory at one iteration of what is around it, and runs it to its end."""
    operands, memory = around.tensors(step.operands), around.inside(step)
    iterate = (
        _repeated(step, executors, memory)
        if isinstance(step, Loop)
        else _tested(step, executors, memory)
    )
    memory.freeze()

    def loop(iteration: int) -> None:
        memory.enter(operands.rows[iteration], around.threads, around.profiled)
        try:
            iterate()
        finally:
            memory.leave()

    return loop


def _repeated(step: Loop, executors: Mapping[str, Executor], memory: Memory) -> Callable[[], None]:
    launches = Launches(step.steps, executors, memory)

    def iterate() -> None:
        for iteration in range(step.count):
            launches.run(iteration)

    return iterate


def _tested(step: While, executors: Mapping[str, Executor], memory: Memory) -> Callable[[], None]:
    condition = Launches(step.condition, executors, memory)
    launches = Launches(step.steps, executors, memory)
    flag = memory.tensors([step.flag])

    def holds() -> bool:
        condition.run(0)
        return bool(flag.rows[0][0].item())

    def iterate() -> None:
        while holds():
            launches.run(0)

    return iterate


class Program:
    """A compiled step: `program(arguments) -> results`, both flat lists in the order of `@main`.

    Arguments are contiguous tensors of the plan's types. A result that is the new value of a
    donated argument *is* that argument, updated in place; other results are fresh tensors.

    Args:
        plan, executors, device: what to run, by what, where.
        arena: memory for temporaries that others use too, when this does not run; its own if None.
        size: the symbolic size that the plan is for, if its kernels are for any.
        native: on a CPU, one call of native code makes the launches, of all that have an entry there.
            While torch's profiler is on, Python makes them one by one.
    """

    def __init__(
        self,
        plan: Plan,
        executors: Mapping[str, Executor],
        device: torch.device,
        arena: torch.Tensor | None = None,
        size: int = 0,
        native: bool = False,
    ) -> None:
        self.plan, self.device = plan, device
        if arena is None:
            arena = torch.empty(max(plan.arena_bytes, 64), dtype=torch.uint8, device=device)
        self.arena = arena
        self.executors, self._size = executors, size
        self._empty = [(kind.shape, kind.torch_dtype) for kind in plan.outputs]
        self._native = self._bound_natively() if native else None
        self._launches = None if native else self._bound()
        self._results = _result_sources(plan)
        # The arena and the pointer tables belong to one call at a time.
        self._lock = threading.Lock()

    def __call__(self, arguments: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        device = self.device
        outputs = [torch.empty(shape, dtype=dtype, device=device) for shape, dtype in self._empty]
        bases = [*arguments, *outputs, self.arena]
        self.launch(bases)
        return self.results(bases)

    def launch(self, bases: Bases) -> None:
        """Makes the launches over arguments, outputs and the arena."""
        profiled = torch.autograd._profiler_enabled()
        with self._lock:
            if self._native and not profiled:
                self._native(bases, torch.get_num_threads())
            else:
                self._run_one_by_one(bases, profiled)

    def results(self, bases: Bases) -> list[torch.Tensor]:
        """What a call gives, of the arguments and outputs of its launches."""
        return [bases[index] for index in self._results]

    def _run_one_by_one(self, bases: Bases, profiled: bool) -> None:
        launches = self._launches = self._launches or self._bound()
        with torch.no_grad():
            launches.memory.enter(bases, torch.get_num_threads(), profiled)
            try:
                launches.run(0)
            finally:
                launches.memory.leave()

    def _bound(self) -> Launches:
        memory = Memory.of_plan(self.plan, self.arena, self._size)
        launches = Launches(self.plan.steps, self.executors, memory)
        memory.freeze()
        return launches

    def _bound_natively(self) -> NativeStep:
        plan = self.plan
        memory = Memory.of_plan(plan, self.arena, self._size)
        bases = len(plan.arguments) + len(plan.outputs) + 1
        return NativeStep(plan.steps, self.executors, memory, bases, self._size)


def _result_sources(plan: Plan) -> list[int]:
    """For each result of the step, the base that holds it: a donated argument or the next output."""
    donors = {arg.donated: i for i, arg in enumerate(plan.arguments) if arg.donated is not None}
    count = len(donors) + len(plan.outputs)
    fresh = iter(range(len(plan.arguments), len(plan.arguments) + len(plan.outputs)))
    return [donors[k] if k in donors else next(fresh) for k in range(count)]
