"""The Triton target's emitter: kernel functions as readable Triton source, and their launches."""

from .emit import default_config, emit, space
from .kernel import GeneratedKernel, LoadedKernel, load

__all__ = ["GeneratedKernel", "LoadedKernel", "default_config", "emit", "load", "space"]
