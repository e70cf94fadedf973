"""Updates of elements by the maximum, minimum or product with new values, as one functional op.

Keras's function for torch writes element by element in place, which cannot be differentiated.
"""

import torch
from keras.src.backend.torch.ops import core as torch_core
from keras.src.backend.torch.ops.core import convert_to_tensor

REDUCTIONS = {"max": "amax", "min": "amin", "mul": "prod"}


def scatter_update(inputs, indices, updates, reduction=None):
    if reduction not in REDUCTIONS:
        return torch_core.scatter_update(inputs, indices, updates, reduction)
    inputs = convert_to_tensor(inputs)
    indices = convert_to_tensor(indices, dtype="int64")
    updates = convert_to_tensor(updates, dtype=inputs.dtype)
    depth = indices.shape[-1]
    rows = _row_numbers(indices, inputs.shape[:depth])
    flat = inputs.reshape(-1, *inputs.shape[depth:])
    updates = updates.expand(len(rows), *flat.shape[1:])
    rows = rows.reshape(-1, *[1] * (flat.ndim - 1)).expand(updates.shape)
    return flat.scatter_reduce(0, rows, updates, REDUCTIONS[reduction]).reshape(inputs.shape)


def _row_numbers(indices, extents):
    """Places [N, D] in axes of D extents, in row-major order; negative ones count from the end."""
    rows = torch.zeros(indices.shape[0], dtype=torch.int64, device=indices.device)
    for column, extent in zip(indices.unbind(1), extents, strict=True):
        rows = rows * extent + torch.where(column < 0, column + extent, column)
    return rows
