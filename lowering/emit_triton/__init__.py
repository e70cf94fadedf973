"""The Triton target's emitter: kernel functions as readable Triton source, and their launches."""

from .any_size import ANY_SIZE, OpenKernel
from .config import ROWS_ON_CHIP
from .emit import default_config, emit, space
from .kernel import GeneratedKernel, LoadedKernel, load

__all__ = [
    "ANY_SIZE",
    "ROWS_ON_CHIP",
    "GeneratedKernel",
    "LoadedKernel",
    "OpenKernel",
    "default_config",
    "emit",
    "load",
    "space",
]
