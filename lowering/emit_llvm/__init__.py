"""The CPU target's emitter: loop regions as native code, through MLIR and LLVM."""

from . import jit, polynomials
from .emit import NativeKernel, compile_kernels, loops_text

__all__ = ["NativeKernel", "compile_kernels", "jit", "loops_text", "polynomials"]
