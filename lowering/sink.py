"""Moves reshapes behind the pointwise loops that read them, so that those fuse with what is reshaped.

A dense layer on [batch, time, width] is a product of [batch * time, width] reshaped; the bias and the
activation that follow can run on the product's own shape, and the reshape comes after them.
"""

from __future__ import annotations

from math import prod

from .graph import Graph


def sink_reshapes(graph: Graph) -> None:
    """Not yet any."""


_ = prod
