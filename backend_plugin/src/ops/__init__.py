"""Keras ops on torch tensors: the six modules of a Keras backend."""

from .. import plain
from . import core, image, linalg, math, nn, numpy

for module in (core, image, linalg, math, nn, numpy):
    plain.give_way(module)

from .core import *  # noqa: E402, F403
