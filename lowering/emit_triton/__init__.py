"""The Triton target's emitter: kernel functions as readable Triton source, and their launches."""

from .config import ROWS_ON_CHIP
from .emit import default_config, emit, space
from .kernel import GeneratedKernel, LoadedKernel, load

__all__ = [
    "ROWS_ON_CHIP",
    "GeneratedKernel",
    "LoadedKernel",
    "default_config",
    "emit",
    "load",
    "space",
]
