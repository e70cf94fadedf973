"""The CPU target's emitter: loop regions, scatters and cumulated sums as native code, through MLIR and LLVM."""

from . import jit, polynomials
from .emit import KINDS, NativeKernel, compile_kernels, loops_text

__all__ = ["KINDS", "NativeKernel", "compile_kernels", "jit", "loops_text", "polynomials"]
