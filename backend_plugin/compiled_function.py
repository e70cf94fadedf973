"""A function that is captured and compiled once per input signature, then only called."""

from __future__ import annotations

import threading
import warnings
from collections import Counter
from collections.abc import Callable, Hashable
from typing import Any

import torch
from keras.src.backend.common.stateless_scope import in_stateless_scope
from keras.src.backend.common.variables import get_autocast_scope
from keras.src.backend.torch.ops.core import get_device
from keras.src.layers.layer import Layer

from keras_triton.lowering.edits import in_force

from . import collector
from .bound_program import BoundProgram, Compile, Program
from .capture import ROOT_LAYER, capture
from .capture_errors import CaptureError
from .captured import Captured
from .families import Family, batches_of, family_with, reopened
from .journal import new_counts, record_closed, record_refusal
from .signature import Arguments, NotExpressible, Shapes, Symbolic, sign
from .symbolic_size import Axes

# A function that creates variables is tried again after it ran op by op, at most this often.
ATTEMPTS = 3
PROGRAMS = 64
"""How many programs a function keeps; then the one that ran longest ago goes."""
VARIANTS = 4
"""How many of them for the same arguments: for other trainable flags, modes or gradients."""
PATIENCE = 8
"""After so many captures a new signature runs op by op once before it is captured, after twice as many
twice, and so on: of shapes that change from call to call, most are not worth a compilation."""

_ONE_AT_A_TIME = threading.RLock()
"""Held while a program is made: threads that call the same model wait for it, and then run the same."""


def default_compile(captured: Captured) -> Program:
    """Compile for the device the data is on, through every stage of the compiler."""
    from .compile import compile_captured

    return compile_captured(captured)


class CompiledFunction:
    """`fn`, compiled. `keras_triton.jit` says what that means.

    Attributes:
        counts: how the calls ran.
        refused: why signatures run op by op.
    """

    free = True
    """Whether results may be differentiated and gradients show outside; see `capture`."""

    opens_sizes = True
    """Whether one program may serve calls that differ in a size."""

    def __init__(
        self,
        fn: Callable[..., Any],
        name: str,
        *,
        layer: Layer | None = None,
        compile_fn: Compile | None = None,
    ) -> None:
        self.fn, self.name, self.layer = fn, name, layer
        self.counts = new_counts()
        self.refused: list[CaptureError] = []
        self.compile_fn = compile_fn or default_compile
        self.batch_varies = False
        """Whether the batches to come are known to differ in size, as the last one of an epoch does."""
        self._programs: dict[Hashable, list[BoundProgram]] = {}
        self._families: dict[Hashable, list[Family]] = {}
        self._seen: dict[Hashable, dict[Shapes, None]] = {}
        self._closed: set[Hashable] = set()
        self._attempts: dict[Hashable, int] = {}
        self._hopeless: set[Hashable] = set()
        self._waited: Counter[int] = Counter()
        self._unsaid: CaptureError | None = None
        self._forgot = self._hesitated = False

    @property
    def captured(self) -> list[Captured]:
        """The captured graphs of all programs that are kept, newest last."""
        programs = [program for alike in self._programs.values() for program in alike]
        return [program.captured for program in sorted(programs, key=lambda p: p.number)]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if _inside_a_trace():
            return self.fn(*args, **kwargs)
        try:
            differentiable = self.free and torch.is_grad_enabled()
            arguments = sign(
                (args, kwargs), static_objects=self.free, differentiable=differentiable
            )
        except Symbolic:
            return self.fn(*args, **kwargs)
        except NotExpressible as error:
            if str(error) not in self._hopeless:
                self._hopeless.add(str(error))
                self._refuse(CaptureError(self.name, ROOT_LAYER, str(error)))
            return self._op_by_op(args, kwargs)
        program = self._find(arguments)
        if program is None:
            return self._op_by_op(args, kwargs)
        self.counts.compiled += 1
        program.used = self.counts.captures + self.counts.compiled
        return program(self.data(arguments))

    def data(self, arguments: Arguments) -> list[torch.Tensor]:
        """What the program of a call takes as its data inputs."""
        return arguments.tensors

    def owner(self) -> object:
        """An object around the function that it depends on by identity."""
        return None

    def _find(self, arguments: Arguments) -> BoundProgram | None:
        """A program that serves the call, captured now if need be; None: run op by op."""
        form = (arguments.form, in_force(), *self._ambient())
        found = self._known(form, arguments.shapes)
        if found is not None:
            return found
        with _ONE_AT_A_TIME:
            return self._known(form, arguments.shapes) or self._made(form, arguments)

    def _made(self, form: Hashable, arguments: Arguments) -> BoundProgram | None:
        """A new program for the call; None: there is to be none, for now or for ever."""
        key = (form, arguments.shapes)
        if key in self._hopeless or not self._is_built() or self._waits(key):
            return None
        try:
            with collector.paused():
                found = self._add_open(form, arguments)
                return found or self._add(key, self.capture(arguments))
        except CaptureError as error:
            self._attempts[key] = self._attempts.get(key, 0) + 1
            if not error.transient or self._attempts[key] >= ATTEMPTS:
                self._hopeless.add(key)
                self._refuse(error)
            return None
        finally:
            seen = self._seen.setdefault(form, {})
            seen[arguments.shapes] = None
            if len(seen) > PROGRAMS:
                del seen[next(iter(seen))]

    def _known(self, form: Hashable, shapes: Shapes) -> BoundProgram | None:
        """A program of these shapes, or of a family that they belong to."""
        for program in self._programs.get((form, shapes), ()):
            if program.fits(self.owner()):
                return program
        for family in self._families.get(form, ()):
            size = family.size_of(shapes)
            for program in self._programs.get((form, family), ()):
                if program.serves(size) and program.fits(self.owner()):
                    return program
        return None

    def _add_open(self, form: Hashable, arguments: Arguments) -> BoundProgram | None:
        """A program for all calls that differ from this one in one size, if calls do and it can be
        left open."""
        shapes, family = arguments.shapes, None
        if self.opens_sizes and not (self.free and torch.is_grad_enabled()):
            family = family_with(shapes, self._seen.get(form, ()))
            family = family or reopened(shapes, self._families.get(form, ()))
            if family is None and self.batch_varies:
                family = batches_of(shapes)
        if family is None or (form, family.places) in self._closed:
            return None
        try:
            program = self._add((form, family), self.capture(arguments, family.axes))
        except Exception as error:  # a mistake of the call's own shows when it is captured alone
            self._closed.add((form, family.places))
            record_closed(str(error))
            return None
        self._families.setdefault(form, []).append(family)
        return program if program.serves(family.size_of(shapes)) else None

    def _waits(self, key: Hashable) -> bool:
        """Whether a signature without a program is left op by op this time."""
        if key in self._programs:  # for other trainable flags, modes or gradients
            return False
        waited = self._waited.pop(hash(key), 0)
        if waited >= self.counts.captures // PATIENCE:
            return False
        self._waited[hash(key)] = waited + 1
        if not self._hesitated:
            self._hesitated = True
            warnings.warn(
                f"{self.name} was compiled for {self.counts.captures} signatures. From now on it runs "
                "op by op for a new one until that has come several times: give it batches of few "
                "different shapes, and numbers that change from call to call as tensors.",
                stacklevel=5,
            )
        return True

    def _ambient(self) -> tuple[Hashable, ...]:
        """What a call depends on besides its arguments."""
        if not self.free:
            return ()
        autocast = get_autocast_scope()
        device = str(get_device()).partition(":")[0]
        return (
            torch.is_grad_enabled(),
            autocast and autocast.dtype,
            torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device),
        )

    def capture(self, arguments: Arguments, axes: Axes | None = None) -> Captured:
        """The captured function for a call; the common size of `axes` is left open.

        Raises:
            CaptureError: as `capture` does.
        """
        args, kwargs = arguments.structure()
        return capture(self.fn, args, kwargs, name=self.name, free=self.free, axes=axes)

    def _add(self, key: Hashable, captured: Captured) -> BoundProgram:
        program = BoundProgram(captured, self.compile_fn, self.owner())
        self.counts.captures += 1
        program.number = program.used = self.counts.captures + self.counts.compiled
        alike = self._programs.setdefault(key, [])
        if len(alike) == VARIANTS:
            alike.remove(min(alike, key=lambda p: p.used))
        alike.append(program)
        if sum(map(len, self._programs.values())) > PROGRAMS:
            self._forget_oldest()
        return program

    def _forget_oldest(self) -> None:
        oldest = min(self._programs, key=lambda key: max(p.used for p in self._programs[key]))
        del self._programs[oldest]
        if not self._forgot:
            self._forgot = True
            warnings.warn(
                f"{self.name} was compiled for {PROGRAMS} signatures and from now on forgets the one "
                "that ran longest ago: give numbers that change from call to call as tensors.",
                stacklevel=5,
            )

    def _is_built(self) -> bool:
        """Whether all variables exist. The first call creates them: it runs op by op. A layer that
        is not built after it is one that is never called."""
        if self.layer is None or self.counts.op_by_op:
            return True
        return all(layer.built for layer in self.layer._flatten_layers())

    def _refuse(self, error: CaptureError) -> None:
        # Where it comes from holds every tensor of the capture.
        error.__traceback__ = error.__cause__ = error.__context__ = None
        self._unsaid = error

    def _op_by_op(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self.counts.op_by_op += 1
        error, self._unsaid = self._unsaid, None
        # A mistake of the user's fails again here, and what it raises says more than we could.
        result = self.fn(*args, **kwargs)
        if error is not None:
            if not self.refused:
                warnings.warn(f"{error} It runs op by op instead.", stacklevel=4)
            self.refused.append(error)
            record_refusal(error)
        return result


def _inside_a_trace() -> bool:
    """Whether somebody else is tracing: Keras's symbolic or stateless calls, another capture, torch's
    export or function transforms. A function is a part of what they trace then."""
    return (
        in_stateless_scope()
        or torch._C._len_torch_dispatch_stack() > 0
        or torch._C._functorch.peek_interpreter_stack() is not None
        or torch._C._get_tracing_state() is not None
    )
