"""The compiler: from a captured graph to a plan of kernels."""

import os as _os
import sys as _sys

# MLIR's libraries are loaded here, before any module of this package needs them, so that they bind
# to their own symbols first: TensorFlow brings another LLVM into the process, and whichever of the
# two is loaded second crashes otherwise.
_flags = _sys.getdlopenflags()
_sys.setdlopenflags(_os.RTLD_NOW | _os.RTLD_DEEPBIND)
try:
    import mlir.ir
    import mlir.passmanager  # noqa: F401
finally:
    _sys.setdlopenflags(_flags)
