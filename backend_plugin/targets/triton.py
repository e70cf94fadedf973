"""The Triton target: fused regions and templates as Triton kernels, on a GPU or interpreted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from mlir import ir

from keras_triton.kernels.device import INTERPRETER, Device, of_cuda
from keras_triton.kernels.offline import compile_offline
from keras_triton.lowering import emit_triton
from keras_triton.lowering.emit_triton import ROWS_ON_CHIP, LoadedKernel, OpenKernel
from keras_triton.lowering.errors import EmitError
from keras_triton.lowering.sizes import is_open

from .. import vendor
from ..runtime import TensorExecutor
from .base import AnySize, Compiled
from .sources import load
from .tuning import tuned

DUMP_CAPABILITY = 90
"""The GPU whose code a dump shows: Hopper."""


class TritonTarget:
    """Kernels as Triton sees them; `interpret` runs them on CPU tensors, with no GPU."""

    decompose = False
    rows = ROWS_ON_CHIP
    epilogues = True
    recompute = True
    sized = emit_triton.ANY_SIZE
    native = False

    def __init__(self, interpret: bool) -> None:
        self.interpret = interpret
        self.name = "interpret" if interpret else "triton"
        # Larger tiles than a GPU takes: the interpreter pays by the operation, not by the element.
        self.device: Device = INTERPRETER if interpret else of_cuda()

    @property
    def host(self) -> str:
        return str(self.device)

    def compile(
        self, functions: Mapping[str, ir.OpView], code: MutableMapping[str, bytes]
    ) -> dict[str, AnySize | Exception]:
        """Keeps nothing itself: Triton has a cache of machine code of its own."""
        compiled: dict[str, AnySize | Exception] = {}
        for name, function in functions.items():
            try:
                compiled[name] = (
                    self._any(function) if is_open(function) else self._kernel(function)
                )
            except EmitError as error:
                compiled[name] = self._vendor(function, error)
            except Exception as error:  # whatever the compiler raises must not end a training run
                compiled[name] = error
        return compiled

    def _kernel(self, function: ir.OpView) -> Compiled:
        return self._compiled(load(function, self._config(function), self.device))

    def _any(self, function: ir.OpView) -> AnySize:
        return _AnySize(OpenKernel(function, self._config), self._compiled)

    def _config(self, function: ir.OpView) -> Mapping[str, Any]:
        """The configuration for a kernel of static sizes."""
        if self.interpret:
            return emit_triton.default_config(function, self.device)
        return tuned(function, self.device)

    def _compiled(self, loaded: LoadedKernel) -> Compiled:
        interpret = self.interpret

        def run(reads: list[torch.Tensor], writes: list[torch.Tensor]) -> None:
            loaded.run([*reads, *writes], interpret=interpret)

        use = loaded.generated.template
        how = f"Triton {'multi' if loaded.generated.table else 'loop'}"
        if use is not None:
            how = f"Triton template {use.template}"
        if use is not None and "precision" in use.problem.attrs:
            how += f" in {use.problem.attrs['precision']}"
        scratch = sum(spec.bytes for spec in loaded.program.scratch.values())
        return Compiled(TensorExecutor(run), how, scratch=scratch, files=lambda: _files(loaded))

    def _vendor(self, function: ir.OpView, error: EmitError) -> Compiled | Exception:
        """What Triton cannot express runs on torch, with the emitter's sentence as the reason."""
        found = vendor.compile_op(function)
        return replace(found, fallback=str(error)) if found else error


@dataclass(frozen=True)
class _AnySize:
    """A kernel of any size, for a target."""

    kernel: OpenKernel
    compiled: Callable[[LoadedKernel], Compiled]

    def at(self, size: int) -> Compiled:
        return self.compiled(self.kernel.at(size))


def _files(loaded: LoadedKernel) -> dict[str, str]:
    """Source, TTIR and PTX of a kernel, by file name."""
    name = loaded.generated.name
    files = {f"{name}.py": loaded.generated.source} if loaded.generated.source else {}
    for number, launch in enumerate(loaded.program.launches):
        made = compile_offline(launch, loaded.dtypes(), DUMP_CAPABILITY)
        files |= {f"{name}.{number}.ttir": made.ttir, f"{name}.{number}.ptx": made.ptx}
    return files
