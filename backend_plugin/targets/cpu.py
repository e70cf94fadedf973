"""The CPU target: loop regions as native code, products and convolutions by torch's own library."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from mlir import ir

from keras_triton.lowering import emit_llvm
from keras_triton.lowering.errors import EmitError
from keras_triton.lowering.region import kernel_kind

from .. import vendor
from ..runtime import NativeExecutor
from ..settings import settings
from .base import Compiled


class CpuTarget:
    name = "cpu"
    decompose = True
    rows = 0
    epilogues = False

    def compile(self, functions: Mapping[str, ir.OpView]) -> dict[str, Compiled | Exception]:
        loops = {name: f for name, f in functions.items() if kernel_kind(f) in emit_llvm.KINDS}
        compiled: dict[str, Compiled | Exception] = {}
        compiled.update(self._native(loops))
        for name, function in functions.items():
            if name not in loops:
                compiled[name] = self._vendor(function)
        return compiled

    def _native(self, loops: Mapping[str, ir.OpView]) -> dict[str, Compiled | Exception]:
        """All loops in one module, since a compiler's start costs more than a kernel; alone if one
        fails.
        """
        try:
            kernels = emit_llvm.compile_kernels(loops, settings().cache / "objects")
        except Exception as error:  # whatever the compiler raises must not end a training run
            if len(loops) == 1:
                return dict.fromkeys(loops, error)
            return {
                name: made
                for one in loops
                for name, made in self._native({one: loops[one]}).items()
            }
        return {
            name: Compiled(
                NativeExecutor(kernel),
                f"native {kernel_kind(loops[name])}",
                files=partial(_files, kernel),
            )
            for name, kernel in kernels.items()
        }

    def _vendor(self, function: ir.OpView) -> Compiled | Exception:
        kind = kernel_kind(function)
        return vendor.compile_op(function) or EmitError(
            f"{kind} is fused with other ops, as for a GPU; on a CPU one call of torch computes "
            f"{kind} and nothing else"
        )


def _files(kernel: emit_llvm.NativeKernel) -> dict[str, str]:
    """A kernel's loops as MLIR and its optimized LLVM IR, by file name."""
    return {f"{kernel.name}.mlir": kernel.loops, f"{kernel.name}.ll": kernel.llvm_ir()}
