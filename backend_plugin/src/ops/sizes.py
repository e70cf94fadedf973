"""Functions whose results have sizes that Keras's functions for torch read from tensors.

Where Python can know the size, none is read, so that a step which calls them can be captured.
"""

import math

import numpy as np
import torch
from keras.src import backend
from keras.src.backend.torch.ops import numpy as torch_numpy
from keras.src.backend.torch.ops.core import cast, convert_to_tensor, get_device

from keras_triton.bounds import greatest


def size(x):
    return torch.tensor(math.prod(x.shape), device=get_device())


def repeat(x, repeats, axis=None):
    x = convert_to_tensor(x)
    if axis is None:
        x, axis = x.reshape(-1), 0
    axis %= x.ndim
    counts = _known_counts(repeats, x.shape[axis])
    if counts is None or get_device() == "meta":
        return torch_numpy.repeat(x, repeats, axis)
    order = np.repeat(np.arange(len(counts)), counts)
    return x.index_select(axis, torch.as_tensor(order, device=x.device))


def _known_counts(repeats, extent):
    """How often each of `extent` places is repeated, if they differ and no tensor holds it."""
    if not isinstance(repeats, list | tuple | np.ndarray):
        return None
    counts = np.asarray(repeats)
    if counts.dtype.kind not in "iu" or counts.shape not in ((extent,), (1,)):
        return None
    return np.broadcast_to(counts, (extent,))


def bincount(x, weights=None, minlength=0, sparse=False):
    """The result has `minlength` places, or more if x holds larger numbers: a step is captured only
    if the ops that made x tell that there are none."""
    x = convert_to_tensor(x)
    most = greatest(x)
    if sparse or most is None or most >= minlength:
        return torch_numpy.bincount(x, weights, minlength, sparse)
    hits = x.unsqueeze(-1) == torch.arange(minlength, device=x.device)
    if weights is None:
        return hits.sum(-2, dtype=torch.int32)
    weights = convert_to_tensor(weights)
    dtype = backend.result_type(x.dtype, weights.dtype)
    return cast(torch.where(hits, weights.unsqueeze(-1), 0).sum(-2), dtype)
