"""The compiler: from a captured graph to a plan of kernels."""

import os as _os
import sys as _sys

# MLIR's libraries are loaded here, before any module of this package needs them, so that they bind
# to their own symbols first: TensorFlow brings another LLVM into the process, and whichever of the
# two is loaded second crashes otherwise.
_flags = _sys.getdlopenflags()
_sys.setdlopenflags(_os.RTLD_NOW | _os.RTLD_DEEPBIND)
try:
    # Under other names: `mlir` is this package's own module of that name.
    import mlir.ir as _ir  # noqa: F401
    import mlir.passmanager as _passmanager  # noqa: F401
finally:
    _sys.setdlopenflags(_flags)
