"""Mathematical ops: Keras's for torch, with sums of segments that a step can be captured with."""

import torch
from keras.src.backend.torch.ops import math as torch_math
from keras.src.backend.torch.ops.core import convert_to_tensor
from keras.src.backend.torch.ops.math import *  # noqa: F403

# keras.ops.polar asks for this one by its private name.
from keras.src.backend.torch.ops.math import _get_complex_tensor_from_tuple  # noqa: F401


def segment_sum(data, segment_ids, num_segments=None, sorted=False):
    """Ids outside of [0, num_segments) add nowhere. Sums are float32, as in Keras."""
    if num_segments is None:
        return torch_math.segment_sum(data, segment_ids, num_segments, sorted)
    data, ids = convert_to_tensor(data), convert_to_tensor(segment_ids, dtype="int64")
    # One segment more, for what is outside.
    ids = torch.where((ids >= 0) & (ids < num_segments), ids, num_segments)
    zeros = torch.zeros((num_segments + 1, *data.shape[1:]), device=data.device)
    return zeros.index_put((ids,), data.float(), accumulate=True)[:-1].to(data.dtype)
