"""Tensors, variables, control flow and shape inference: Keras's for torch, scattering in one op,
slicing at tensors."""

import torch
from keras.src.backend.torch.core import *  # noqa: F403
from keras.src.backend.torch.core import convert_to_tensor

from .slicing import slice, slice_update  # noqa: F401


def scatter(indices, values, shape):
    indices, values = convert_to_tensor(indices, dtype="int64"), convert_to_tensor(values)
    depth = indices.shape[-1]
    indices, values = indices.reshape(-1, depth), values.reshape(-1, *shape[depth:])
    zeros = torch.zeros(tuple(shape), dtype=values.dtype, device=values.device)
    return zeros.index_put(indices.unbind(1), values, accumulate=True)
