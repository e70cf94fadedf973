"""Runs a plan: binds each launch to memory once, then replays the launches step after step.

Between two steps only the data batch and the outputs move; the arena and the state stay where they
are. So a launch is bound once to *places* (argument, output or arena, plus an offset). Native
kernels read their pointers from one table that a single NumPy call rewrites a step; kernels that
take tensors get views that are made once for the arena and cheaply for the rest.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import torch

from keras_triton.lowering.mlir import TensorType
from keras_triton.lowering.plan import Call, Copy, Plan, Ref

Bases = Sequence[torch.Tensor]
Launch = Callable[[Bases], None]


class Executor(Protocol):
    """What a target makes of one kernel: something that binds to the operands of a launch."""

    def bind(self, call: Call, memory: Memory) -> Launch:
        """A launch over `call.operands` (inputs, then `call.outputs` outputs)."""


class Memory:
    """Where a plan's values live: its bases in order (arguments, outputs, arena) and views of them."""

    def __init__(self, plan: Plan, device: torch.device) -> None:
        self.device = device
        self.arena = torch.empty(max(plan.arena_bytes, 64), dtype=torch.uint8, device=device)
        self.starts = {
            "argument": 0,
            "output": len(plan.arguments),
            "arena": len(plan.arguments) + len(plan.outputs),
        }
        self._indices: list[int] = []
        self._offsets: list[int] = []
        self._frozen: tuple[np.ndarray, np.ndarray] | None = None
        self.table = np.zeros(0, dtype=np.int64)
        self.threads = 1

    def base_index(self, ref: Ref) -> int:
        return self.starts[ref.base] + ref.index

    def view(self, ref: Ref) -> Callable[[Bases], torch.Tensor]:
        """A function from the step's bases to the tensor that `ref` names."""
        shape, dtype = ref.type.shape, ref.type.torch_dtype
        if ref.base == "arena":
            made = self.arena[ref.offset : ref.offset + ref.type.nbytes].view(dtype).view(shape)
            return lambda bases: made
        index = self.base_index(ref)
        if ref.offset == 0 and ref.whole:
            return lambda bases: bases[index]
        start, size = ref.offset // dtype.itemsize, ref.type.size
        return lambda bases: bases[index].reshape(-1)[start : start + size].view(shape)

    def reserve(self, refs: Sequence[Ref]) -> int:
        """Room for the addresses of `refs` in the pointer table; returns the first entry's number."""
        first = len(self._indices)
        self._indices += [self.base_index(ref) for ref in refs]
        self._offsets += [ref.offset for ref in refs]
        return first

    def freeze(self) -> None:
        """Ends reservations and allocates the table, whose address stays from now on."""
        self._frozen = (np.array(self._indices, np.int64), np.array(self._offsets, np.int64))
        self.table = np.zeros(len(self._indices), dtype=np.int64)

    def point(self, bases: Bases) -> None:
        """Rewrites the pointer table for the step's bases, and heeds `torch.set_num_threads`."""
        self.threads = torch.get_num_threads()
        if self._frozen is not None and len(self.table):
            indices, offsets = self._frozen
            addresses = np.array([base.data_ptr() for base in bases], np.int64)
            np.add(addresses[indices], offsets, out=self.table)


class NativeExecutor:
    """A kernel in machine code: called with the address of a table of pointers, and of threads."""

    def __init__(self, kernel: Callable[[int, int], None]) -> None:
        self.kernel = kernel

    def bind(self, call: Call, memory: Memory) -> Launch:
        first, kernel = memory.reserve(call.operands), self.kernel
        # The table is allocated once all launches have reserved their part of it.
        address = 0

        def launch(bases: Bases) -> None:
            nonlocal address
            address = address or memory.table.ctypes.data + 8 * first
            kernel(address, memory.threads)

        return launch


class TensorExecutor:
    """A kernel that takes tensors: inputs to read, outputs to fill."""

    def __init__(self, run: Callable[[list[torch.Tensor], list[torch.Tensor]], None]) -> None:
        self.run = run

    def bind(self, call: Call, memory: Memory) -> Launch:
        views = [memory.view(ref) for ref in call.operands]
        split = len(views) - call.outputs
        reads, writes, run = views[:split], views[split:], self.run

        def launch(bases: Bases) -> None:
            run([view(bases) for view in reads], [view(bases) for view in writes])

        return launch


class Program:
    """A compiled step: `program(arguments) -> results`, both flat lists in the order of `@main`.

    Arguments are contiguous tensors of the plan's types. A result that is the new value of a
    donated argument *is* that argument, updated in place; other results are fresh tensors.
    """

    def __init__(self, plan: Plan, executors: dict[str, Executor], device: torch.device) -> None:
        self.plan = plan
        self.memory = Memory(plan, device)
        self._launches = [self._bind(step, executors) for step in plan.steps]
        self.memory.freeze()
        self._results = _result_sources(plan)
        # The arena and the pointer table belong to one call at a time.
        self._lock = threading.Lock()

    def __call__(self, arguments: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        outputs = [_empty(kind, self.memory.device) for kind in self.plan.outputs]
        bases = [*arguments, *outputs, self.memory.arena]
        with self._lock, torch.no_grad():
            self.memory.point(bases)
            if torch.autograd._profiler_enabled():
                self._launch_profiled(bases)
            else:
                for launch in self._launches:
                    launch(bases)
        return [bases[index] for index in self._results]

    def _launch_profiled(self, bases: Bases) -> None:
        """Torch's profiler sees only its own ops; this gives it a named range for each launch."""
        for step, launch in zip(self.plan.steps, self._launches, strict=True):
            kernel = "copy" if isinstance(step, Copy) else step.kernel
            with torch.profiler.record_function(f"{kernel} {step.layer}".strip()):
                launch(bases)

    def _bind(self, step: Call | Copy, executors: dict[str, Executor]) -> Launch:
        if isinstance(step, Copy):
            source, target = self.memory.view(step.source), self.memory.view(step.target)

            def copy(bases: Bases) -> None:
                target(bases).copy_(source(bases))

            return copy
        return executors[step.kernel].bind(step, self.memory)


def _empty(kind: TensorType, device: torch.device) -> torch.Tensor:
    return torch.empty(kind.shape, dtype=kind.torch_dtype, device=device)


def _result_sources(plan: Plan) -> list[int]:
    """For each result of the step, the base that holds it: a donated argument or the next output."""
    donors = {arg.donated: i for i, arg in enumerate(plan.arguments) if arg.donated is not None}
    count = len(donors) + len(plan.outputs)
    fresh = iter(range(len(plan.arguments), len(plan.arguments) + len(plan.outputs)))
    return [donors[k] if k in donors else next(fresh) for k in range(count)]
