"""Loops of a captured step, found and compared with op-by-op execution."""

import keras
import numpy as np
import torch
from replay import replay

from keras_triton.capture import capture
from keras_triton.torch_ops import loops


def loop_nodes(module):
    return [node for node in module.graph.nodes if node.target in (loops.scan, loops.while_loop)]


def compare(step, *data, variables=(), count=1):
    """`step` captured, with `count` loops, against itself; variables start alike."""
    start = [variable.numpy().copy() for variable in variables]
    expected = keras.tree.flatten(step(*data))
    left = [variable.numpy().copy() for variable in variables]
    for variable, value in zip(variables, start, strict=True):
        variable.assign(value)
    captured = capture(step, data, name="step")
    assert len(loop_nodes(captured.graph)) == count
    found = keras.tree.flatten(replay(captured, data))
    for got, wanted in zip(found, expected, strict=True):
        assert got.dtype == wanted.dtype
        torch.testing.assert_close(got, wanted.detach(), rtol=1e-12, atol=1e-12)
    for variable, value in zip(variables, left, strict=True):
        np.testing.assert_allclose(variable.numpy(), value, rtol=1e-12)
    return captured
