"""The backend as Keras sees it, laid out as Keras's coming plugin API asks.

Everything builds on Keras's own modules for torch tensors (``keras.src.backend.torch``) and keeps
their signatures; what differs is what a compiler needs: pure functions, random numbers that depend
on their seed only, and one operator where torch composes many.
"""

import sys

if "keras.src.backend.config" not in sys.modules:
    raise ImportError("keras_triton.src is loaded by Keras: run `import keras` first.")

# First of all, because TensorFlow must find MLIR loaded: see there.
import keras_triton.lowering  # noqa: F401, I001
from keras.src.backend.common.name_scope import name_scope
from keras.src.backend.torch import (
    IS_THREAD_SAFE,
    SUPPORTS_COMPLEX_DTYPES,
    SUPPORTS_RAGGED_TENSORS,
    SUPPORTS_SPARSE_TENSORS,
)
from keras.src.backend.torch.ops.core import compute_output_spec, device_scope

from . import ops, plain, random, rnn
from .variable import Variable

for module in (random, rnn):
    plain.give_way(module)

SUPPORTS_GRADIENT = True
distribution_lib = None

__all__ = [
    "IS_THREAD_SAFE",
    "SUPPORTS_COMPLEX_DTYPES",
    "SUPPORTS_GRADIENT",
    "SUPPORTS_RAGGED_TENSORS",
    "SUPPORTS_SPARSE_TENSORS",
    "Variable",
    "compute_output_spec",
    "device_scope",
    "distribution_lib",
    "name_scope",
    "ops",
    "random",
    "rnn",
]
