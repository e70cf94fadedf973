"""Keras ops on torch tensors: the six modules of a Keras backend."""

from . import core, image, linalg, math, nn, numpy  # noqa: F401
from .core import *  # noqa: F403
