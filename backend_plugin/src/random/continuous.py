"""Draws of real numbers."""

import math

import numpy as np
import torch
from keras.src.backend.common import standardize_dtype
from keras.src.backend.config import floatx
from keras.src.backend.torch.ops.core import convert_to_tensor, to_torch_dtype

from .units import BLOCK, between, finely_between, half_open, key_of, plain, quantile, rounded

# Proposals for a gamma number. One is refused with a probability of at most 0.049 (that of the
# exponential distribution, the worst case after the shift by one), all of them with 3.4e-11.
PROPOSALS = 8


def uniform(shape, minval=0.0, maxval=1.0, dtype=None, seed=None):
    """Numbers in [minval, maxval); bounds that are Python numbers hold after rounding too."""
    dtype = to_torch_dtype(dtype or floatx())
    unit = half_open(key_of(seed), plain(shape), dtype).to(torch.float64)
    draw = rounded((maxval - minval) * unit + minval, dtype)
    if not isinstance(minval, int | float) or not isinstance(maxval, int | float):
        return draw
    return draw.clamp(max=_below(maxval, dtype)).clamp(min=minval)


def _below(value, dtype):
    """The largest number of `dtype` less than `value`."""
    nearest = np.asarray(value, standardize_dtype(dtype))
    return float(nearest if nearest < value else np.nextafter(nearest, -nearest.dtype.type(np.inf)))


def normal(shape, mean=0.0, stddev=1.0, dtype=None, seed=None):
    dtype = to_torch_dtype(dtype or floatx())
    return rounded(_standard_normal(seed, shape, dtype) * stddev + mean, dtype)


def _unit(seed, shape, dtype):
    key, shape = key_of(seed), plain(shape)
    return finely_between(key, shape) if dtype == torch.float64 else between(key, shape, 0)


def _standard_normal(seed, shape, dtype):
    return quantile(_unit(seed, shape, dtype))


def truncated_normal(shape, mean=0.0, stddev=1.0, dtype=None, seed=None):
    """Normal numbers conditioned on lying within two standard deviations."""
    dtype = to_torch_dtype(dtype or floatx())
    outside = math.erfc(2 / math.sqrt(2)) / 2
    draw = quantile(outside + (1 - 2 * outside) * _unit(seed, shape, dtype))
    # Rounding may carry the last numbers past the bound.
    return rounded(draw.clamp(-2, 2) * stddev + mean, dtype)


def gamma(shape, alpha, dtype=None, seed=None):
    """Gamma numbers of scale 1, positive; NaN where alpha is not positive. No gradients."""
    dtype = to_torch_dtype(dtype or floatx())
    draw = torch.exp(_log_gamma(key_of(seed), _parameter(alpha, plain(shape)), 0))
    return rounded(draw, dtype).clamp(min=torch.finfo(dtype).tiny)


def beta(shape, alpha, beta, dtype=None, seed=None):
    """Beta numbers, NaN where alpha or beta is not positive. No gradients.

    X / (X + Y) of gamma numbers X and Y, from their logarithms: small parameters make numbers that
    float64 cannot hold.
    """
    dtype, key, shape = to_torch_dtype(dtype or floatx()), key_of(seed), plain(shape)
    x = _log_gamma(key, _parameter(alpha, shape), 0)
    y = _log_gamma(key, _parameter(beta, shape), BLOCK)
    return rounded(torch.sigmoid(x - y), dtype)


def _parameter(value, shape):
    return convert_to_tensor(value, dtype="float64").detach().broadcast_to(shape)


def _log_gamma(key, alpha, stream):
    """Logarithms of gamma numbers, from three streams beginning with `stream`.

    Marsaglia and Tsang 2000, "A simple method for generating gamma variables", for alpha + 1, with
    a fixed number of proposals (the leading axis) of which the first accepted counts; if none is,
    the number is alpha + 2/3. A factor u^(1/alpha) leads back to alpha.
    """
    shape, proposals = list(alpha.shape), [PROPOSALS, *alpha.shape]
    d = alpha + 2 / 3
    x = quantile(between(key, proposals, stream))
    u = between(key, proposals, stream + 1)
    root = 1 + x * torch.rsqrt(9 * d)
    possible = root > 0
    log_v = 3 * torch.log(torch.where(possible, root, 1.0))
    accepted = possible & (torch.log(u) < 0.5 * x * x + d * (1 - root * root * root + log_v))
    order = torch.arange(PROPOSALS, device=d.device).reshape(-1, *[1] * len(shape))
    rank = torch.where(accepted, order, PROPOSALS)
    first = accepted & (rank == rank.amin(0, keepdim=True))
    chosen = torch.where(first, log_v, 0.0).sum(0)
    boost = torch.log(between(key, shape, stream + 2)) / alpha
    return torch.where(alpha > 0, torch.log(d) + chosen + boost, math.nan)
