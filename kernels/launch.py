"""Launches: which kernel, with which buffers and constants, over which grid.

A launch names its buffers; it holds no tensor, so one description serves a GPU launch, a run in the
interpreter and a compilation with no device.  Buffer names: the operand names of the spec,
``out0, out1, ...`` for what the epilogue writes, ``extra0, ...`` for what it reads, the names of
further results (``mean``, ``lse``...), and the scratch names of the program.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
import triton
import triton.language as tl
from triton.runtime.jit import JITFunction

from .interpret import interpreted
from .problem import TensorSpec

MOST_REGISTERS = 255
"""All that a thread can have."""

SIZE = "size"
"""The symbolic size of the data, among the names of buffers."""


@triton.jit
def store(acc, rows, cols, offset, mask, outs, extras, part=0):
    """The epilogue that only stores: the tile in the type of the first output."""
    tl.store(outs[0] + offset, acc.to(outs[0].dtype.element_ty), mask=mask)


@triton.jit
def load(ins, rows, cols, offset, mask, first):
    """The prologue that only loads: the operand's elements, 0 outside of the mask."""
    return tl.load(ins[0] + offset, mask=mask, other=0.0)


@dataclass(frozen=True)
class Prologue:
    """What a template takes for the elements of an operand instead of loading them.

    ``function(ins, rows, cols, offset, mask, first)`` gives a tile of them, in the operand's type and 0
    outside of ``mask``, from the ``reads`` pointers ``ins``. The operand is seen as a row-major matrix
    of its last axis: ``offset = rows * columns + cols`` has the tile's shape, ``rows``, ``cols`` and
    ``mask`` broadcast to it. Outside of the mask any of them may lie beyond the operand.

    With ``keeps`` the function stores the tile, too, to one more pointer, in programs with ``first``: of
    those that load an element exactly one, if no program loads it twice (`KernelSpec.keeps`).

    Where ``sized``, the last of ``ins`` is the symbolic size of the data.
    """

    function: JITFunction
    reads: int
    keeps: bool = False
    sized: bool = False

    def buffers(self, operand: str) -> tuple[str, ...]:
        """The names of what it reads for an operand, and stores."""
        kept = (f"{operand}_out",) if self.keeps else ()
        size = (SIZE,) if self.sized else ()
        return (*(f"{operand}_in{i}" for i in range(self.reads)), *kept, *size)


@dataclass(frozen=True)
class Epilogue:
    """What a template does with each tile of its result instead of storing it.

    ``function(acc, rows, cols, offset, mask, outs, extras, part)`` stores to all ``outputs`` pointers.
    The result is seen as a row-major matrix: ``acc`` is a tile of it in the accumulation type,
    ``rows`` is [R, 1], ``cols`` is [1, C], ``offset = rows * columns + cols`` and ``mask`` are
    [R, C].

    After the outputs, ``outs`` holds ``sums`` scratch buffers [parts, columns] of float32, in whose
    row ``part`` the function stores column sums of its tile: the products' templates (gemm.py) allot
    them and number the tiles of a column by ``part``; other templates take no sums, and pass no part.

    Where ``sized``, the last of ``extras`` is the symbolic size of the data.
    """

    function: JITFunction = store
    outputs: int = 1
    extras: int = 0
    sums: int = 0
    sized: bool = False

    @property
    def size(self) -> tuple[str, ...]:
        """The name of the size, if the function takes it."""
        return (SIZE,) if self.sized else ()

    @property
    def pointers(self) -> dict[str, tuple[str, ...]]:
        """The kernel parameters ``outs`` and ``extras``, as buffer names."""
        return {
            "outs": (
                *(f"out{i}" for i in range(self.outputs)),
                *(f"sum{i}" for i in range(self.sums)),
            ),
            "extras": (*(f"extra{i}" for i in range(self.extras)), *self.size),
        }


STORE = Epilogue()


@dataclass(frozen=True)
class Launch:
    """One kernel launch.  A pointer parameter takes one buffer name, or a tuple of them; ``numbers``
    are integers that such tuples hold by name, too.

    ``constexprs`` are constants of the code.  Sizes among them belong to parameters that are not
    annotated so: for a kernel of any size, `opened` makes them ``scalars``, which are known when it runs.

    ``max_registers`` bounds the registers of a thread; given generously it keeps the assembler from
    spilling a few bytes for the sake of occupancy.
    """

    kernel: JITFunction
    pointers: Mapping[str, str | tuple[str, ...]]
    constexprs: Mapping[str, Any]
    grid: tuple[int, int, int]
    num_warps: int = 4
    num_stages: int = 3
    scalars: Mapping[str, int | float] = field(default_factory=dict)
    max_registers: int | None = None
    numbers: Mapping[str, int] = field(default_factory=dict)

    @property
    def options(self) -> dict[str, int]:
        """The compiler options, as Triton spells them."""
        options = {"num_warps": self.num_warps, "num_stages": self.num_stages}
        if self.max_registers is not None:
            options["maxnreg"] = self.max_registers
        return options

    @cached_property
    def sizes(self) -> frozenset[str]:
        """The constants that could be arguments as well."""
        return frozenset(p.name for p in self.kernel.params if not p.is_constexpr) & set(
            self.constexprs
        )

    @property
    def specialised(self) -> frozenset[str]:
        """The integer arguments whose code differs where 16 divides them or they are 1."""
        alike = {p.name for p in self.kernel.params if p.do_not_specialize}
        return frozenset(self.scalars) - alike

    def opened(self, names: frozenset[str]) -> Launch:
        """The launch with these of its sizes as arguments."""
        constexprs = {name: v for name, v in self.constexprs.items() if name not in names}
        scalars = {name: self.constexprs[name] for name in names}
        return replace(self, constexprs=constexprs, scalars={**self.scalars, **scalars})

    @property
    def code(self) -> tuple[Any, ...]:
        """Equal for launches that Triton compiles once, if their tensors are alike: integer arguments
        count by whether 16 divides them, whether they are 1, and whether they need 64 bits.
        """
        taken = {name for names in self.pointers.values() for name in names}
        numbers = {name: value for name, value in self.numbers.items() if name in taken}
        special = self.specialised
        scalars = {name: v if name in special else 0 for name, v in self.scalars.items()}
        given = {name: _kind_of(value) for name, value in {**scalars, **numbers}.items()}
        constants = {
            name: value.fn if isinstance(value, JITFunction) else value
            for name, value in self.constexprs.items()
        }
        options = (constants, given, self.options)
        return self.kernel.fn, *(tuple(sorted(part.items())) for part in options)

    def bind(self, buffers: Mapping[str, Any]) -> dict[str, Any]:
        """Every kernel parameter by name, buffer names replaced by what ``buffers`` holds."""
        known = {**buffers, **self.numbers}
        bound = {
            parameter: known[names]
            if isinstance(names, str)
            else tuple(known[name] for name in names)
            for parameter, names in self.pointers.items()
        }
        return {**bound, **self.scalars, **self._constants}

    def run(self, buffers: Mapping[str, torch.Tensor]) -> None:
        """Launches on the current CUDA stream: by the handle of the compiled kernel, once Triton's own
        dispatch has found or compiled it.
        """
        arguments = self.bind(buffers)
        # What Triton compiles anew for, beyond what a launch fixes.
        alike = next(iter(buffers.values())).device, *map(_is_aligned, self._tensors(buffers))
        handle = self._handles.get(alike)
        if handle is None:
            self._handles[alike] = self.kernel[self.grid](**arguments, **self.options)
        else:
            handle[self.grid](*(arguments[name] for name in self.kernel.arg_names))

    def _tensors(self, buffers: Mapping[str, torch.Tensor]) -> Iterator[torch.Tensor]:
        for names in self.pointers.values():
            for name in (names,) if isinstance(names, str) else names:
                if name in buffers:
                    yield buffers[name]

    @cached_property
    def _handles(self) -> dict[tuple[Any, ...], Any]:
        return {}

    @cached_property
    def _constants(self) -> dict[str, Any]:
        """The constants as arguments of parameters that would else take them for numbers."""
        return {
            name: tl.constexpr(value) if name in self.sizes else value
            for name, value in self.constexprs.items()
        }


def _is_aligned(tensor: torch.Tensor) -> bool:
    return tensor.data_ptr() % 16 == 0


def _kind_of(number: int | float) -> tuple[bool, bool, bool]:
    return number % 16 == 0, number == 1, number >= 2**31


@dataclass(frozen=True)
class Program:
    """Launches in order, and the temporary buffers they share (name -> shape and dtype)."""

    launches: tuple[Launch, ...]
    scratch: Mapping[str, TensorSpec] = field(default_factory=dict)


def with_prologues(program: Program, prologues: Mapping[str, Prologue]) -> Program:
    """The launches of a template whose operands are made as they are loaded: operand -> what makes it.

    Its kernels take each such operand as a tuple of pointers, and what loads of it as ``LOAD_<NAME>``.
    """

    def launch(given: Launch) -> Launch:
        mine = {name: made for name, made in prologues.items() if name in given.pointers}
        pointers = {name: made.buffers(name) for name, made in mine.items()}
        loads = {f"LOAD_{name.upper()}": made.function for name, made in mine.items()}
        return replace(
            given,
            pointers={**given.pointers, **pointers},
            constexprs={**given.constexprs, **loads},
            # Left alone, ptxas spills a few bytes of some on sm_100.
            max_registers=given.max_registers or (MOST_REGISTERS if mine else None),
        )

    return replace(program, launches=tuple(launch(given) for given in program.launches))


def execute(program: Program, buffers: Mapping[str, torch.Tensor], *, interpret: bool) -> None:
    """Runs the launches on contiguous tensors, writing the outputs found in ``buffers``.

    ``interpret`` runs them in this process on CPU tensors; otherwise they are CUDA tensors and the
    launches go to the current stream.
    """
    device = next(iter(buffers.values())).device
    temporary = {
        name: torch.empty(spec.shape, dtype=getattr(torch, spec.dtype), device=device)
        for name, spec in program.scratch.items()
    }
    for launch in program.launches:
        if 0 in launch.grid:
            continue
        given = {**buffers, **temporary}
        if interpret:
            interpreted(launch.kernel)[launch.grid](**launch.bind(given))
        else:
            launch.run(given)
