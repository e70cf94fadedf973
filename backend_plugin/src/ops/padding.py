"""`pad` that mirrors: made of slices, so that it fuses, and with it its gradient.

torch's operator becomes an index for every axis in a captured step, and its gradient dozens of them.
"""

import torch
from keras.src.backend.torch.ops import numpy as torch_numpy
from keras.src.backend.torch.ops.core import convert_to_tensor


def pad(x, pad_width, mode="constant", constant_values=None):
    x = convert_to_tensor(x)
    fits = all(max(pads) < extent for pads, extent in zip(pad_width, x.shape, strict=True))
    if mode != "reflect" or constant_values is not None or not fits:
        return torch_numpy.pad(x, pad_width, mode, constant_values)
    for axis, (before, after) in enumerate(pad_width):
        parts = [x]
        if before:
            parts.insert(0, x.narrow(axis, 1, before).flip(axis))
        if after:
            parts.append(x.narrow(axis, x.shape[axis] - 1 - after, after).flip(axis))
        x = torch.cat(parts, axis) if len(parts) > 1 else x
    return x
