"""Reductions of segments, by functional ops of static shapes. They are float32, as in Keras."""

import numpy as np
import torch
from keras.src.backend.torch.ops.core import convert_to_tensor


def segment_sum(data, segment_ids, num_segments=None, sorted=False):
    """Ids outside of [0, num_segments) add nowhere."""
    data, ids, count = _segments(data, segment_ids, num_segments)
    zeros = torch.zeros((count, *data.shape[1:]), device=data.device)
    return zeros.index_put((ids,), data.float(), accumulate=True)[:-1].to(data.dtype)


def segment_max(data, segment_ids, num_segments=None, sorted=False):
    return _reduce_segments("amax", -torch.inf, data, segment_ids, num_segments)


def segment_min(data, segment_ids, num_segments=None, sorted=False):
    return _reduce_segments("amin", torch.inf, data, segment_ids, num_segments)


def segment_prod(data, segment_ids, num_segments=None, sorted=False):
    return _reduce_segments("prod", 1.0, data, segment_ids, num_segments)


def _reduce_segments(reduction, neutral, data, segment_ids, num_segments):
    """An empty segment gives the neutral element."""
    data, ids, count = _segments(data, segment_ids, num_segments)
    start = torch.full((count, *data.shape[1:]), neutral, device=data.device)
    places = ids.reshape(-1, *[1] * (data.ndim - 1)).expand(data.shape)
    return start.scatter_reduce(0, places, data.float(), reduction)[:-1].to(data.dtype)


def _segments(data, segment_ids, num_segments):
    """Data, int64 ids and the number of segments, with one segment more for the ids outside.

    Without `num_segments` the greatest id tells it, which a step can be captured with only if the
    ids are no tensor.
    """
    ids = convert_to_tensor(segment_ids, dtype="int64")
    if num_segments is None:
        known = ids if isinstance(segment_ids, torch.Tensor) else np.asarray(segment_ids)
        num_segments = int(known.max()) + 1
    ids = torch.where((ids >= 0) & (ids < num_segments), ids, num_segments)
    return convert_to_tensor(data), ids, num_segments + 1
