"""Kernels whose code is written once for all sizes of the data.

What depends on the symbolic size is an integer argument, or counted out when a launch is made: its grid,
its scratch buffers. Triton compiles such code again only where a size is divisible by 16 and was not
before, or the other way, where it is 1, and where offsets begin to need 64 bits. Kernels that hold whole
rows of an open length are written for each power of two that the length stays below.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import triton.language as tl
from mlir import ir

from keras_triton.kernels import spec
from keras_triton.kernels.launch import Launch, Program
from keras_triton.kernels.problem import next_power_of_two

from .. import mlir, sizes
from ..errors import EmitError
from ..mlir import TensorType
from ..region import kernel_kind, read_region
from .config import ROWS_ON_CHIP
from .emit import emit_open
from .index import Domain
from .kernel import GeneratedKernel, LoadedKernel, load
from .loop import levels
from .template import MATRICES

Choose = Callable[[ir.OpView], Mapping[str, Any]]
"""The configuration for a kernel function of static sizes."""

ANY_SIZE = frozenset({"loop", "multi", *spec.MODULES})
"""The kinds of kernels that one compilation serves all sizes of."""

SAMPLES = (2, 3, 5, 31, 64, 1021, 4096, 65_537)
"""Sizes that tell what of a template depends on the size."""

SHORTEST = 128
"""Rows on chip have room for as many elements, however few there are."""


class OpenKernel:
    """A kernel function with a symbolic size.

    Args:
        function: the kernel function, whose module outlives this.
        choose: gives the configuration, for the first size that is asked for and for rows of each power
            of two.
    """

    def __init__(self, function: ir.OpView, choose: Choose) -> None:
        self.function, self.choose = function, choose
        self.text = str(function)
        self.row = _row(function)
        self._made: dict[int, GeneratedKernel] = {}
        self._open: dict[int, list[frozenset[str]]] = {}

    def at(self, size: int) -> LoadedKernel:
        """The kernel for one size.

        Raises:
            EmitError: there is none, or none that serves several sizes.
        """
        room = self._room(size)
        if room not in self._made:
            module, here = self._function_at(self._largest(room, size))
            config = self.choose(here)
            whole = config.get("block_r", 0) >= room > 0
            self._made[room] = emit_open(self.function, config, whole=whole)
            del here, module  # the bindings free a module under the feet of its functions
        loaded = load(self._made[room].at(size))
        if self._made[room].template is None:
            return loaded
        if room not in self._open:
            self._open[room] = _arguments(self._samples(room))
        opened = zip(loaded.program.launches, self._open[room], strict=True)
        launches = tuple(launch.opened(names) for launch, names in opened)
        return LoadedKernel(loaded.generated, replace(loaded.program, launches=launches))

    def _samples(self, room: int) -> list[Program]:
        """The launches for a few sizes with the same rows."""
        found = []
        for size in SAMPLES:
            if self._room(size) == room:
                with suppress(ValueError):  # a template need not take every size
                    found.append(load(self._made[room].at(size)).program)
        return found

    def _room(self, size: int) -> int:
        """How long the rows of a tile are, or 0 where tiles do not hold rows of an open length."""
        length = next_power_of_two(sizes.at(self.row, size))
        return max(length, SHORTEST) if self.row and length <= ROWS_ON_CHIP else 0

    def _largest(self, room: int, size: int) -> int:
        """The size to choose a configuration for: the largest whose rows have room, else `size`."""
        while room and sizes.at(self.row, size + 1) <= room:
            size += 1
        return size

    def _function_at(self, size: int) -> tuple[ir.Module, ir.OpView]:
        module = mlir.parse_verified(sizes.text_at(self.text, size))
        return module, next(iter(mlir.functions(module).values()))


def _arguments(samples: Sequence[Program]) -> list[frozenset[str]]:
    """For each launch of a template, the sizes among its constants that differ from call to call.

    Raises:
        EmitError: its code would be another for each size.
    """
    if len({len(program.launches) for program in samples}) != 1:
        raise EmitError("sizes differ in how many launches they take")
    return [
        frozenset(_differing(alike))
        for alike in zip(*(program.launches for program in samples), strict=True)
    ]


def _differing(alike: Sequence[Launch]) -> Iterator[str]:
    kernel = alike[0].kernel
    if any(launch.kernel is not kernel for launch in alike):
        raise EmitError("sizes differ in the kernels they take")
    for name in alike[0].constexprs:
        values = [launch.constexprs[name] for launch in alike]
        if all(value is values[0] or value == values[0] for value in values):
            continue
        if name in alike[0].sizes:
            yield name
        elif not all(map(_is_one_of_few, values)):
            raise EmitError(f"{kernel.__name__} is other code for each {name}")


def _is_one_of_few(value: Any) -> bool:
    """Whether a constant has few values over all sizes: flags, types and powers of two do."""
    if isinstance(value, int):
        return value.bit_count() <= 1
    return isinstance(value, tl.dtype)


def _row(function: ir.OpView) -> int:
    """How long the rows are that a kernel goes through more than once, if that depends on the size."""
    kind = kernel_kind(function)
    if kind in MATRICES:
        ops = function.regions[0].blocks[0].operations
        op = next(op for op in ops if op.operation.name == f"keras.{kind}")
        length = TensorType.of(op.operands[0]).shape[-1]
    elif kind == "loop":
        region = read_region(function)
        again = any(
            s.kind != "row" and k for s, k in zip(region.stages, levels(region), strict=True)
        )
        length = Domain(region.parallel, region.reduction).columns if again else 0
    else:
        length = 0
    return length if sizes.is_symbolic(length) else 0
