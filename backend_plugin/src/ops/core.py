"""Tensors, variables, control flow and shape inference: Keras's for torch, scattering and updates in
one op, slicing at tensors, rematerialization that repeats its random numbers."""

import torch
from keras.src.backend.torch.ops import core as torch_core
from keras.src.backend.torch.ops.core import *  # noqa: F403
from keras.src.backend.torch.ops.core import convert_to_tensor, get_device, scan

from .remat import remat  # noqa: F401
from .slicing import slice, slice_update  # noqa: F401
from .updates import scatter_update  # noqa: F401


def map(f, xs):
    _, ys = scan(lambda _, x: ((), f(x)), (), xs)
    return ys


def switch(index, branches, *operands):
    # For the shape of the result any branch will do.
    if str(get_device()) == "meta":
        return branches[0](*operands)
    return torch_core.switch(index, branches, *operands)


def scatter(indices, values, shape):
    indices, values = convert_to_tensor(indices, dtype="int64"), convert_to_tensor(values)
    depth = indices.shape[-1]
    indices, values = indices.reshape(-1, depth), values.reshape(-1, *shape[depth:])
    zeros = torch.zeros(tuple(shape), dtype=values.dtype, device=values.device)
    return zeros.index_put(indices.unbind(1), values, accumulate=True)
