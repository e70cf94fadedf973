"""`slice` and `slice_update` at starts that only tensors know: shapes stay static.

Keras's functions for torch read such starts back into Python, which no captured step can. A start
that would reach over the end is moved back until the slice fits, and a negative one counts from the
end, as in XLA.
"""

import operator

import torch
from keras.src.backend.torch.ops import core as torch_core
from keras.src.backend.torch.ops.core import convert_to_tensor

NUMBERS = int | torch.SymInt


def slice(inputs, start_indices, shape):
    inputs = convert_to_tensor(inputs)
    starts, lengths = _parts(start_indices), _parts(shape)
    known = all(isinstance(length, NUMBERS) for length in lengths)
    if not known or all(isinstance(part, int) for part in (*starts, *lengths)):
        return torch_core.slice(inputs, start_indices, shape)
    for dim, (start, length) in enumerate(zip(starts, lengths, strict=True)):
        if isinstance(start, NUMBERS):
            inputs = inputs.narrow(dim, start, length)
        elif length != inputs.shape[dim]:
            first = _fitting(start, length, inputs.shape[dim])
            inputs = inputs.index_select(dim, first + torch.arange(length, device=inputs.device))
    return inputs


def slice_update(inputs, start_indices, updates):
    inputs, updates = convert_to_tensor(inputs), convert_to_tensor(updates)
    starts = _parts(start_indices)
    if not any(isinstance(start, torch.Tensor) for start in starts):
        return torch_core.slice_update(inputs, start_indices, updates)
    inside = torch.ones((), dtype=torch.bool, device=inputs.device)
    for dim, (start, length) in enumerate(zip(starts, updates.shape, strict=True)):
        size = inputs.shape[dim]
        if length == size:
            continue
        # A select over the whole tensor: pointwise, so it fuses, where a scatter would not.
        at = torch.arange(size, device=inputs.device) - _fitting(start, length, size)
        along = [size if axis == dim else 1 for axis in range(inputs.ndim)]
        inside = inside & ((at >= 0) & (at < length)).reshape(along)
        if length > 1:
            updates = updates.index_select(dim, at.clamp(0, length - 1))
    return torch.where(inside, updates.to(inputs.dtype), inputs)


def _parts(indices):
    """Indices one by one: numbers, and scalar tensors where only a tensor knows."""
    if isinstance(indices, torch.Tensor):
        return indices.unbind()
    kept = torch.Tensor | torch.SymInt
    return [i if isinstance(i, kept) else operator.index(i) for i in indices]


def _fitting(start, length, size):
    """The start of `length` elements among `size`, counted from the front and within bounds."""
    if isinstance(start, NUMBERS):
        return min(max(start + size if start < 0 else start, 0), size - length)
    return torch.where(start < 0, start + size, start).clamp(0, size - length)
