"""Thirty-odd small models that between them use every kind of training Keras has.

Each is built alike on every backend: data and initial weights come from NumPy, nothing from Keras's
initializers. Where a model draws random numbers, `DRAWS` says so: backends draw different ones.
"""

from importlib import import_module

from model_zoo.registry import DRAWS, MODELS
from model_zoo.training import train

__all__ = ["DRAWS", "MODELS", "train"]

# Importing a file registers its models; this is the order they are listed and run in.
for _file in ("vision", "sequences", "generative", "features", "optimizers"):
    import_module(f"model_zoo.{_file}")
