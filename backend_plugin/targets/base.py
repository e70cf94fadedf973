"""What a target is, and what every target can fall back on: a kernel's meaning."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from mlir import ir

from keras_triton.lowering import interpret
from keras_triton.lowering.mlir import TensorType

from ..runtime import Executor, TensorExecutor
from ..settings import settings


@dataclass(frozen=True)
class Compiled:
    """One kernel as a target runs it.

    Attributes:
        executor: binds it to memory.
        how: what runs, for reports: "native loop", "torch.mm", "Triton template matmul".
        fallback: why torch runs it although the compiler would have liked to, or "".
        copied: torch makes results of its own, which are then copied to where they belong.
        scratch: bytes that a launch takes beside, for partial results.
        files: makes the texts worth dumping, by file name ("relu_0.py", "relu_0.0.ptx"), while the
            plan lives.
    """

    executor: Executor
    how: str
    fallback: str = ""
    copied: bool = False
    scratch: int = 0
    files: Callable[[], Mapping[str, str]] = dict

    def at(self, size: int) -> Compiled:
        """What runs it where the symbolic size is `size`: this, which is told the size."""
        return self


class AnySize(Protocol):
    """A kernel that is compiled for all sizes, or will be when the first of them is known."""

    def at(self, size: int) -> Compiled:
        """What runs it where the symbolic size is `size`.

        Raises:
            Any error: it has to be compiled for this size on its own.
        """


class Target(Protocol):
    """A target: its name, what lowering has to do for it, and its compiler."""

    name: str
    decompose: bool  # row ops (softmax, norms, losses) and pooling become loops
    rows: int  # otherwise, the longest row (elements) of row ops that do
    epilogues: bool  # loops before and behind products and convolutions go into their kernels
    recompute: bool  # logits may be made again rather than stored
    sized: frozenset[str]  # the kinds of kernels that it compiles once for all symbolic sizes
    native: bool  # one call of native code makes the launches of a step

    @property
    def host(self) -> str:
        """What compiled code depends on besides its text: processor or GPU, compiler and options."""

    def compile(
        self, functions: Mapping[str, ir.OpView], code: MutableMapping[str, bytes]
    ) -> Mapping[str, AnySize | Exception]:
        """Every kernel function of a plan, compiled; an exception where one did not compile. What has no
        symbolic size is a `Compiled`.

        `code` is what is worth keeping for the next process, by the target's own names: empty, it
        takes what is compiled; else it is what an equal call has put there, which is used.

        Raises:
            Any error: what was kept cannot be used.
        """


def compile_static(
    target: Target, functions: Mapping[str, ir.OpView], code: MutableMapping[str, bytes]
) -> dict[str, Compiled | Exception]:
    """`Target.compile` of kernels without a symbolic size."""
    made = target.compile(functions, code)
    return {
        name: kernel for name, kernel in made.items() if isinstance(kernel, Compiled | Exception)
    }


OPTIONS = ("decompose", "rows", "epilogues", "recompute")
"""What a target has for `lower`, by name."""


def asked_by(target: Target | type) -> dict[str, Any]:
    """The options of `lower` that a target, or any of its class, asks for, and those that the process's
    settings ask for.
    """
    asked = {option: getattr(target, option) for option in OPTIONS}
    return asked | {"budget": settings().memory_budget, "precision": float32_products()}


def float32_products() -> str:
    """How precisely kernels multiply float32: as `torch.set_float32_matmul_precision` says. "medium" is
    as "high", since no kernel splits float32 into bfloat16.
    """
    return "ieee" if torch.get_float32_matmul_precision() == "highest" else "tf32"


def evaluate(
    function: ir.OpView, inputs: Sequence[torch.Tensor], *, exact: bool
) -> list[torch.Tensor]:
    """What a kernel function means for CPU tensors, in its declared dtypes."""
    results = interpret.call({"kernel": function}, "kernel", inputs, exact)
    types = [TensorType.of(kind).torch_dtype for kind in function.type.results]
    return [value.to(dtype) for value, dtype in zip(results, types, strict=True)]


def meaning_of(function: ir.OpView) -> Executor:
    """A kernel function run by its meaning on torch's CPU: right on every device, and slow."""

    def run(reads: list[torch.Tensor], writes: list[torch.Tensor]) -> None:
        results = evaluate(function, [tensor.cpu() for tensor in reads], exact=False)
        for out, value in zip(writes, results, strict=True):
            out.copy_(value)

    return TensorExecutor(run)
