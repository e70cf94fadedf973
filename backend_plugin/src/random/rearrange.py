"""Random changes to given tensors."""

import torch
from keras.src.backend.torch.ops.core import convert_to_tensor

from keras_triton import torch_ops

from .units import key_of


def shuffle(x, axis=0, seed=None):
    """x with its slices along axis in random order, the same order at every other index."""
    x = convert_to_tensor(x)
    order = torch.argsort(torch_ops.random_bits(key_of(seed), [x.shape[axis]]), stable=True)
    return x.index_select(axis, order)


def dropout(inputs, rate, noise_shape=None, seed=None):
    inputs = convert_to_tensor(inputs)
    if rate == 1.0:
        return torch.zeros_like(inputs)
    if rate == 0.0:
        return inputs
    key = key_of(seed)
    if noise_shape is None:
        return torch_ops.dropout(inputs, key, float(rate))
    shape = [
        extent if wanted is None else wanted
        for extent, wanted in zip(inputs.shape, noise_shape, strict=True)
    ]
    kept = torch_ops.random_uniform(key, shape) >= rate
    return torch.where(kept, inputs * (1 / (1 - rate)), torch.zeros_like(inputs))
