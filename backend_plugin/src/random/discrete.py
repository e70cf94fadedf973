"""Draws of integers."""

import torch
from keras.src.backend.config import floatx
from keras.src.backend.torch.ops.core import convert_to_tensor, to_torch_dtype

from keras_triton import torch_ops

from .units import between, key_of, plain, rounded


def randint(shape, minval, maxval, dtype="int32", seed=None):
    """Integers in [minval, maxval), from 63 random bits each.

    Some integers are likelier than others by at most (maxval - minval) / 2^63 of their share.

    Raises:
        ValueError: the bounds are Python integers with nothing between them.
    """
    if isinstance(minval, int) and isinstance(maxval, int) and minval >= maxval:
        raise ValueError(f"randint needs minval < maxval. Received: {minval=}, {maxval=}")
    low, high = (
        bound if isinstance(bound, int) else convert_to_tensor(bound, dtype="int64")
        for bound in (minval, maxval)
    )
    key, shape = key_of(seed), plain(shape)
    upper, lower = (torch_ops.random_bits(key, shape, stream) for stream in (0, 1))
    bits = (upper << 31) | (lower >> 1)
    return (bits % (high - low) + low).to(to_torch_dtype(dtype))


def categorical(logits, num_samples, dtype="int32", seed=None):
    """Class indices [batch, num_samples] by the Gumbel-max trick, which needs no normalization."""
    logits = convert_to_tensor(logits)
    shape = (*logits.shape[:-1], num_samples, logits.shape[-1])
    gumbel = -torch.log(-torch.log(between(key_of(seed), plain(shape), 0)))
    scores = logits.to(torch.float64).unsqueeze(-2) + gumbel
    return torch.argmax(scores, dim=-1).to(to_torch_dtype(dtype))


def binomial(shape, counts, probabilities, dtype=None, seed=None):
    """Successes in `counts` (rounded down) trials. No gradients.

    NaN where counts is negative or probabilities outside of [0, 1].
    """
    dtype, shape = to_torch_dtype(dtype or floatx()), plain(shape)
    n, p = (
        convert_to_tensor(parameter, dtype="float64").detach().broadcast_to(shape)
        for parameter in (counts, probabilities)
    )
    return rounded(torch_ops.random_binomial(key_of(seed), n, p), dtype)
