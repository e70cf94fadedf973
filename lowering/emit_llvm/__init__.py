"""The CPU target's emitter: loops, and what goes by index or along an axis, as native code (MLIR, LLVM)."""

from . import jit, polynomials
from .emit import KINDS, NativeKernel, compile_kernels, loops_text

__all__ = ["KINDS", "NativeKernel", "compile_kernels", "jit", "loops_text", "polynomials"]
