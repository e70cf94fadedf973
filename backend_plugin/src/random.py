"""Random numbers that depend on their seed and shape only, on every device and target.

A draw makes a key of two integers from Keras's seed and hands it to the Philox generator of
``torch.ops.keras_triton.random_bits``; nothing is read back from tensors, so steps that draw can
be captured. gamma, binomial and beta are rejection samplers with data-dependent loops: they stay
with torch's generator and run eagerly only.
"""

import math

import torch
from keras.src.backend.config import floatx
from keras.src.backend.torch.core import convert_to_tensor, get_device, to_torch_dtype
from keras.src.backend.torch.random import *  # noqa: F403
from keras.src.random.seed_generator import draw_seed

from keras_triton import torch_ops

# Added to both words of a key: an independent stream for a draw that needs more than one.
STREAM = 0x5BD1E995


def _symbolic():
    """Whether only shapes are wanted; seeds must not advance then."""
    return str(get_device()) == "meta"


def _key(seed):
    if _symbolic():
        return torch.empty(2, dtype=torch.int64, device="meta")
    return draw_seed(seed).to(torch.int64)


def _derived(key, stream):
    return key + STREAM * stream


def _unit(key, shape, dtype):
    """Uniform in [0, 1). In float64 two draws give 53 bits, in others the float32 draw is cast.

    Rounding may turn the largest draws of narrow types into 1: those become the value below it.
    """
    if dtype == torch.float64:
        high = torch_ops.random_bits(key, shape)
        low = torch_ops.random_bits(_derived(key, 3), shape)
        return ((high << 21) | (low >> 11)).to(dtype) * 2.0**-53
    draw = torch_ops.random_uniform(key, shape)
    if dtype in (torch.float32, torch.complex64):
        return draw
    return draw.to(dtype).clamp(max=1 - torch.finfo(dtype).eps / 2)


def _shape(shape):
    return [int(extent) for extent in shape]


def _wide(dtype):
    """The dtype in which a transformation of uniform numbers is computed."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def _standard_normal(key, shape, dtype):
    """Box-Muller: radius and angle from two independent uniform draws."""
    radius = torch.sqrt(-2 * torch.log1p(-_unit(key, shape, dtype)))
    return radius * torch.cos(2 * math.pi * _unit(_derived(key, 1), shape, dtype))


def uniform(shape, minval=0.0, maxval=1.0, dtype=None, seed=None):
    dtype = to_torch_dtype(dtype or floatx())
    return ((maxval - minval) * _unit(_key(seed), _shape(shape), dtype) + minval).to(dtype)


def normal(shape, mean=0.0, stddev=1.0, dtype=None, seed=None):
    dtype = to_torch_dtype(dtype or floatx())
    draw = _standard_normal(_key(seed), _shape(shape), _wide(dtype))
    return (draw * stddev + mean).to(dtype)


def truncated_normal(shape, mean=0.0, stddev=1.0, dtype=None, seed=None):
    """Normal numbers conditioned on lying within two standard deviations.

    By the inverse of the distribution function, which draws once where rejection draws often.
    """
    dtype = to_torch_dtype(dtype or floatx())
    bound = math.erf(2 / math.sqrt(2))
    unit = _unit(_key(seed), _shape(shape), _wide(dtype))
    draw = torch.erfinv((2 * unit - 1) * bound) * math.sqrt(2)
    # erfinv may round the last draw past the bound.
    return (draw.clamp(-2, 2) * stddev + mean).to(dtype)


def randint(shape, minval, maxval, dtype="int32", seed=None):
    """Integers in [minval, maxval), from 32 random bits each.

    Some integers are likelier than others by at most (maxval - minval) / 2^32 of their share.
    """
    low, high = (
        bound if isinstance(bound, int) else convert_to_tensor(bound, "int64")
        for bound in (minval, maxval)
    )
    bits = torch_ops.random_bits(_key(seed), _shape(shape))
    return (bits % (high - low) + low).to(to_torch_dtype(dtype))


def categorical(logits, num_samples, dtype="int32", seed=None):
    """Class indices [batch, num_samples] by the Gumbel-max trick, which needs no normalization."""
    logits = convert_to_tensor(logits)
    shape = (*logits.shape[:-1], num_samples, logits.shape[-1])
    unit = _unit(_key(seed), _shape(shape), _wide(logits.dtype))
    gumbel = -torch.log(-torch.log1p(-unit).clamp(max=-torch.finfo(unit.dtype).tiny))
    return torch.argmax(logits.unsqueeze(-2) + gumbel, dim=-1).to(to_torch_dtype(dtype))


def shuffle(x, axis=0, seed=None):
    """x with its slices along axis in random order, the same order at every other index."""
    x = convert_to_tensor(x)
    order = torch.argsort(torch_ops.random_bits(_key(seed), [x.shape[axis]]), stable=True)
    return x.index_select(axis, order)


def dropout(inputs, rate, noise_shape=None, seed=None):
    inputs = convert_to_tensor(inputs)
    if rate == 1.0:
        return torch.zeros_like(inputs)
    if rate == 0.0:
        return inputs
    key = _key(seed)
    if noise_shape is None:
        return torch_ops.dropout(inputs, key, float(rate))
    shape = [
        extent if wanted is None else wanted
        for extent, wanted in zip(inputs.shape, noise_shape, strict=True)
    ]
    kept = torch_ops.random_uniform(key, shape) >= rate
    return torch.where(kept, inputs / (1 - rate), torch.zeros_like(inputs))
