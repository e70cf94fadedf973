"""A step's launches recorded once and replayed as one: on a GPU, as a CUDA graph.

A replay works on the memory that was recorded. States stay where they are, so they are written in place;
the batch of a call is copied to a place of its own, and what the call gives is copied from one. Several
steps in one call are one graph. What can be replayed costs Python and the driver one launch a step.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import torch

from keras_triton.lowering.emit_triton.tables import kept
from keras_triton.lowering.mlir import TensorType
from keras_triton.lowering.plan import Loop, Plan, Step, While

from .captured import Captured
from .journal import record_unrecorded
from .runtime import Program, Run

WARM = 2
"""So many calls launch one by one first: kernels are loaded, and libraries set themselves up."""
MOST = 4
"""So often is a step recorded whose states lie elsewhere than before."""
ALIGNMENT = 256
"""Bytes; what a kernel compiled for aligned pointers may be given."""


class Recorder(Protocol):
    """Records launches of a device."""

    def record(self, run: Callable[[], None]) -> Callable[[], None]:
        """What makes all launches that `run()` makes, over the same memory; none is made meanwhile.

        Raises:
            RuntimeError: `run` does something that cannot be recorded, such as to wait for the device.
        """


class CudaRecorder:
    """CUDA graphs of one device. They share the memory for what ops allocate while they run, since one
    of them runs at a time, and nothing of it is read afterwards.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._pool = torch.cuda.graph_pool_handle()

    def record(self, run: Callable[[], None]) -> Callable[[], None]:
        graph = torch.cuda.CUDAGraph()
        # Another thread may be copying the next batch meanwhile.
        with (
            torch.cuda.device(self.device),
            torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"),
        ):
            run()
        return graph.replay


def obstacle(plan: Plan) -> str:
    """Why a plan's launches cannot be recorded; "" if nothing is known against it."""
    if any(isinstance(step, While) for step in _all_steps(plan.steps)):
        return "how often a loop runs is decided by values, which Python has to ask for"
    return ""


def _all_steps(steps: Iterable[Step]) -> Iterable[Step]:
    for step in steps:
        yield step
        if isinstance(step, Loop | While):
            yield from _all_steps(step.steps)


@functools.cache
def recorder_of(device: torch.device) -> Recorder | None:
    """What records launches of a device, if anything does."""
    return CudaRecorder(device) if device.type == "cuda" else None


def recording(captured: Captured, device: torch.device) -> Callable[[Program], Run]:
    """Makes of programs for a captured step what replays them, where that is safe; else `stats()` says why
    it is not.
    """
    recorder = recorder_of(device)
    if recorder is None:
        return lambda program: program
    if any(spec.kind in ("saved", "tangent") for spec in captured.inputs + captured.outputs):
        record_unrecorded("torch differentiates it, and holds what it saves for that")
        return lambda program: program
    places = enumerate(captured.inputs)
    moving = [i for i, spec in places if spec.kind in ("data", "gradient")]
    return lambda program: Replayed(program, moving, recorder)


class Replayed:
    """A program whose launches are replayed from its fourth call on.

    Args:
        program: what is recorded; it also makes the launches of the first calls, of calls under torch's
            profiler, and of all if they cannot be recorded, which `stats()` tells.
        moving: the positions of the arguments that lie elsewhere at each call. The others are expected
            to stay; if one moved, the launches are recorded anew.
        recorder: of the device.
    """

    def __init__(self, program: Program, moving: Sequence[int], recorder: Recorder) -> None:
        self.program, self.recorder = program, recorder
        plan = program.plan
        self._moving = list(moving)
        self._staying = [i for i in range(len(plan.arguments)) if i not in set(moving)]
        self._places: list[int] = []
        self._calls = self._recorded = 0
        self._replay: Callable[[], None] | None = None
        self._inputs: list[torch.Tensor] = []
        self._outputs = torch.empty(0)
        self._tables: list[torch.Tensor] = []
        self._refused = False
        self._lock = threading.Lock()
        if reason := obstacle(plan):
            self._refuse(reason)

    def __call__(self, arguments: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        if self._refused or torch.autograd._profiler_enabled():
            return self.program(arguments)
        with self._lock:
            if not self._is_due(arguments):
                return self.program(arguments)
            return self._replayed(arguments)

    def _is_due(self, arguments: Sequence[torch.Tensor]) -> bool:
        """Whether this call replays, or is recorded; not so while the others' places are new."""
        places = [arguments[i].data_ptr() for i in self._staying]
        if places != self._places:
            self._places, self._calls, self._replay = places, 0, None
        self._calls += 1
        return self._calls > WARM

    def _replayed(self, arguments: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        plan = self.program.plan
        if self._replay is None:
            with torch.no_grad():
                self._inputs = [torch.empty_like(arguments[number]) for number in self._moving]
                room = _room(plan.outputs)
                self._outputs = torch.empty(room, dtype=torch.uint8, device=self.program.device)
        for place, number in zip(self._inputs, self._moving, strict=True):
            place.copy_(arguments[number], non_blocking=True)
        if self._replay is None:
            self._record(arguments)
        else:
            self._replay()
        results = _views(self._outputs.clone(), plan.outputs)
        return self.program.results([*arguments, *results])

    def _record(self, arguments: Sequence[torch.Tensor]) -> None:
        """Makes the launches over the memory of replays, and records them: so whatever depends on where
        that lies is known when they are recorded.
        """
        bases = list(arguments)
        for place, number in zip(self._inputs, self._moving, strict=True):
            bases[number] = place
        bases += [*_views(self._outputs, self.program.plan.outputs), self.program.arena]
        self.program.launch(bases)
        self._recorded += 1
        if self._recorded > MOST:
            self._refuse("its variables lie elsewhere again and again")
            return
        try:
            with kept() as self._tables:
                self._replay = self.recorder.record(lambda: self.program.launch(bases))
        except Exception as error:  # a training run goes on without
            self._refuse(str(error).partition("\n")[0])

    def _refuse(self, reason: str) -> None:
        self._refused, self._replay = True, None
        record_unrecorded(reason)


def _room(kinds: Sequence[TensorType]) -> int:
    return sum(-(-kind.nbytes // ALIGNMENT) * ALIGNMENT for kind in kinds)


def _views(memory: torch.Tensor, kinds: Sequence[TensorType]) -> list[torch.Tensor]:
    """Tensors that lie in a piece of memory one behind the other."""
    views, offset = [], 0
    for kind in kinds:
        part = memory[offset : offset + kind.nbytes]
        views.append(part.view(kind.torch_dtype).view(kind.shape))
        offset += -(-kind.nbytes // ALIGNMENT) * ALIGNMENT
    return views
