"""A program for any size of its data: lowered once, its memory planned anew for each size.

What depends on the size up to stage "regions" is its numbers (lowering/sizes.py). So a new size costs
rewriting them, planning memory, and binding launches: nothing is captured or lowered, and kernels that
take the size when they run are not compiled again.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from mlir import ir

from keras_triton.lowering import mlir, sizes
from keras_triton.lowering.edits import edited
from keras_triton.lowering.passes.base import Pass
from keras_triton.lowering.plan import Plan
from keras_triton.lowering.plan_reader import read_plan
from keras_triton.lowering.region import kernel_kind

from .ready import kernels_of, made_ready, sentence
from .runtime import Program, Run
from .symbolic_size import Size
from .targets.base import Compiled, Target, compile_static

BOUND = 32
"""So many sizes stay planned; then the first of them goes."""
PATIENCE = 8
"""Where kernels are compiled for each size: after so many sizes a new one runs op by op once before it is
compiled, after twice as many twice, and so on."""


@dataclass(frozen=True)
class Planned:
    """A plan for one size, with what runs its kernels."""

    plan: Plan
    kernels: dict[str, Compiled]


class SizedKernels:
    """A step lowered to kernels, for all sizes.

    Args:
        regions: the module of stage "regions".
        target: what compiles its kernels.
        code: what compiling the kernels for all sizes needs and gives; see `Target.compile`.
        planning: the passes from "regions" to "plan".

    Attributes:
        closed: of the kernels that the target would compile for all sizes those that it has to compile
            for each, as far as is known, and why.
    """

    def __init__(
        self,
        regions: ir.Module,
        target: Target,
        code: dict[str, bytes],
        planning: Sequence[Pass],
    ) -> None:
        self.text, self.target, self.planning = mlir.text(regions), target, planning
        kernels = {name: f for name, f in mlir.functions(regions).items() if kernel_kind(f)}
        self.compiled = target.compile(
            {name: f for name, f in kernels.items() if _is_any(f, target)}, code
        )
        self.closed: dict[str, str] = {}
        self._again: set[str] = set()
        # The bindings free a module under the feet of its functions.
        self.regions = regions

    def at(self, size: int) -> Planned:
        """The plan for a size.

        Raises:
            LoweringError: memory cannot be planned.
        """
        module = mlir.parse_verified(sizes.text_at(self.text, size))
        for step in self.planning:
            module = step.run(module)
        plan = read_plan(module)
        kernels = kernels_of(plan)
        compiled = {name: self._at(name, size) for name in kernels if name in self.any_size}
        closed = {name: f for name, f in kernels.items() if name not in self.any_size}
        compiled |= (alone := compile_static(self.target, closed, {}))
        on_torch = {n for n, made in alone.items() if isinstance(made, Compiled) and made.fallback}
        self._again |= self.closed.keys() - on_torch
        return Planned(plan, made_ready(plan, compiled, self.target))

    @property
    def any_size(self) -> set[str]:
        """The kernels that one compilation serves all sizes of."""
        return set(self.compiled) - set(self.closed)

    @property
    def compiles_again(self) -> bool:
        """Whether another size costs a compilation."""
        return not self.target.sized or bool(self._again)

    def _at(self, name: str, size: int) -> Compiled | Exception:
        """A kernel of any size for one; if that fails, the kernel is closed."""
        made = self.compiled[name]
        try:
            if isinstance(made, Exception):
                raise made
            return made.at(size)
        except Exception as error:  # whatever is wrong, it can still be compiled for the size
            self.closed[name] = sentence(error)
            return error


def _is_any(kernel: ir.OpView, target: Target) -> bool:
    """Whether one compilation of a kernel serves all sizes."""
    text = str(kernel)
    return kernel_kind(kernel) in target.sized or sizes.text_at(text, 2) == text


class SizedProgram:
    """`program(arguments) -> results` for any size that the arguments have.

    Args:
        kernels, size, device: of the step.
        graph: runs the step op by op, for any size.
        warn: says why a size runs so for which no memory can be planned.
        replayed: makes of a size's program what runs in its place.

    Attributes:
        known: size -> its program and its last argument, the size.
    """

    def __init__(
        self,
        kernels: SizedKernels,
        size: Size,
        device: torch.device,
        graph: Run,
        warn: Callable[[Exception], None],
        replayed: Callable[[Program], Run],
    ) -> None:
        self.kernels, self.size, self.device = kernels, size, device
        self.graph, self.warn, self.replayed = graph, warn, replayed
        self.known: dict[int, tuple[Run, torch.Tensor]] = {}
        self._planned: dict[int, Planned | None] = {}
        self._waited: Counter[int] = Counter()
        self._arena = torch.empty(0, dtype=torch.uint8, device=device)
        self._lock = threading.Lock()

    def __call__(self, arguments: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        size = self.size.of(arguments)
        with self._lock:
            bound = self.known.get(size) or self._bind(size)
            if bound is None:
                return self.graph(arguments)
            program, number = bound
            return program([*arguments, number])

    def plan(self, size: int) -> Planned | None:
        """The plan for a size, with its kernels; None if there is none, or it is to wait."""
        if size not in self._planned:
            if self._waits(size):
                return None
            try:
                self._planned[size] = self.kernels.at(size)
            except Exception as error:  # a training run goes on, whatever is wrong with a size
                self.warn(error)
                self._planned[size] = None
            if len(self._planned) > BOUND:
                oldest = next(iter(self._planned))
                del self._planned[oldest]
                self.known.pop(oldest, None)
        return self._planned[size]

    def _waits(self, size: int) -> bool:
        """Whether a size is left op by op this time, since most of many are not worth compiling for."""
        if not self.kernels.compiles_again or len(self._planned) < PATIENCE:
            return False
        self._waited[size] += 1
        return self._waited[size] <= len(self._planned) // PATIENCE

    def _bind(self, size: int) -> tuple[Run, torch.Tensor] | None:
        """Binds a plan to memory; all sizes share one arena, for one of them runs at a time."""
        planned = self.plan(size)
        if planned is None:
            return None
        room = max(planned.plan.arena_bytes, 64)
        if room > self._arena.nbytes:
            self.known.clear()
            self._arena = torch.empty(room, dtype=torch.uint8, device=self.device)
        executors = {name: made.executor for name, made in planned.kernels.items()}
        native = self.kernels.target.native
        program = Program(planned.plan, executors, self.device, self._arena, size, native)
        self.known[size] = self.replayed(program), torch.tensor(size, device=self.device)
        return self.known[size]


def planning_of(passes: Sequence[Pass]) -> list[Pass]:
    """Those of a pipeline's passes that plan memory."""
    return [step for step in edited(passes) if step.by_size]
