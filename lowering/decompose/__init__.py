"""Ops spelled out in pointwise ops, reductions and broadcasts, for targets without a kernel for them.

Half types compute in float32.
"""

from . import linear, linear_loss, pool, rows  # noqa: F401  (register the decompositions)
from .registry import DECOMPOSITIONS, can_decompose, decompose, decompose_module

__all__ = ["DECOMPOSITIONS", "can_decompose", "decompose", "decompose_module"]
