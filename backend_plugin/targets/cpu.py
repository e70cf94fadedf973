"""The CPU target: loop regions as native code, products and convolutions by torch's own library."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from functools import partial

from mlir import ir

from keras_triton.lowering import emit_llvm
from keras_triton.lowering.emit_llvm.driver import driver
from keras_triton.lowering.errors import EmitError
from keras_triton.lowering.region import kernel_kind

from .. import vendor
from ..runtime import NativeExecutor
from .base import Compiled

_DRIVER = "driver.o"
"""The part of what is kept that makes the launches."""


class CpuTarget:
    name = "cpu"
    decompose = True
    rows = 0
    epilogues = False
    recompute = False
    sized = frozenset(emit_llvm.KINDS)
    native = True

    @property
    def host(self) -> str:
        return emit_llvm.jit.host()

    def compile(
        self, functions: Mapping[str, ir.OpView], code: MutableMapping[str, bytes]
    ) -> dict[str, Compiled | Exception]:
        loops = {name: f for name, f in functions.items() if kernel_kind(f) in emit_llvm.KINDS}
        kernels = {name: part for name, part in code.items() if name != _DRIVER}
        code[_DRIVER] = driver(code.get(_DRIVER)).code
        compiled: dict[str, Compiled | Exception] = {}
        compiled.update(self._native(loops, kernels))
        code.update(kernels)
        for name, function in functions.items():
            if name not in loops:
                compiled[name] = self._vendor(function)
        return compiled

    def _native(
        self, loops: Mapping[str, ir.OpView], code: MutableMapping[str, bytes]
    ) -> dict[str, Compiled | Exception]:
        """All loops in one module, since a compiler's start costs more than a kernel; alone if one
        fails.
        """
        kept = bool(code)
        try:
            kernels = emit_llvm.compile_kernels(loops, code)
        except Exception as error:  # whatever the compiler raises must not end a training run
            if kept:  # nothing was compiled, so no kernel is to blame
                raise
            if len(loops) == 1:
                return dict.fromkeys(loops, error)
            return {
                name: made
                for one in loops
                for name, made in self._native({one: loops[one]}, {}).items()
            }
        return {
            name: Compiled(
                NativeExecutor(kernel, kernel.address),
                f"native {kernel_kind(loops[name])}",
                files=partial(_files, name, loops[name]),
            )
            for name, kernel in kernels.items()
        }

    def _vendor(self, function: ir.OpView) -> Compiled | Exception:
        kind = kernel_kind(function)
        return vendor.compile_op(function) or EmitError(
            f"{kind} is fused with other ops, as for a GPU; on a CPU one call of torch computes "
            f"{kind} and nothing else"
        )


def _files(name: str, function: ir.OpView) -> dict[str, str]:
    """A kernel's loops as MLIR and its optimized LLVM IR, by file name."""
    loops = emit_llvm.loops_text(function)
    return {f"{name}.mlir": loops, f"{name}.ll": emit_llvm.jit.llvm_ir(loops)}
