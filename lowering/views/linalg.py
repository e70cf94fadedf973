"""The op classes of linalg, without the named ops that `mlir.dialects.linalg` defines in Python: those take
37 ms to import, and nothing here uses them.
"""

from mlir.dialects._linalg_ops_gen import *  # noqa: F403
