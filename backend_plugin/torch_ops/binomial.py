"""Binomial numbers, counter-based: each depends on the key, its place and its parameters only."""

import torch
from torch import Tensor

from .define import define
from .random import words_at

# Below this mean numbers are found by summing probabilities, above by proposals: the method of
# Hörmann needs 10.
MEAN = 10.0
# More successes than this have a probability below 2^-60 when 10 are the mean.
SUMMED = 64
# A proposal is refused with a probability of at most 0.3 (measured), so all of these with 1e-16.
PROPOSALS = 32


def _fake(key: Tensor, counts: Tensor, probabilities: Tensor) -> Tensor:
    return counts.new_empty(counts.shape)


@define("random_binomial(Tensor key, Tensor counts, Tensor probabilities) -> Tensor", _fake)
def random_binomial(key: Tensor, counts: Tensor, probabilities: Tensor) -> Tensor:
    """Successes in floor(counts) trials; all float64 of one shape, key: integers [2].

    NaN where a parameter is NaN, counts negative or infinite, or probabilities outside of [0, 1].
    """
    n, p = counts.flatten().floor(), probabilities.flatten()
    valid = (n >= 0) & n.isfinite() & (p >= 0) & (p <= 1)
    rarer = torch.minimum(p, 1 - p)
    few = n * rarer < MEAN
    result = torch.full_like(n, torch.nan)
    for chosen, method in ((valid & few, _by_summing), (valid & ~few, _by_proposals)):
        (index,) = torch.nonzero(chosen, as_tuple=True)
        result[index] = method(key, index, n[index], rarer[index])
    return torch.where(p > 0.5, n - result, result).reshape(counts.shape)


def _uniform(key: Tensor, index: Tensor, block: int) -> list[Tensor]:
    """In (0, 1): the middles of 2^32 intervals, one for each word of a Philox block."""
    words = words_at(index, key, block)
    return [(word.to(torch.float64) + 0.5) * 2.0**-32 for word in words]


def _by_summing(key: Tensor, index: Tensor, n: Tensor, p: Tensor) -> Tensor:
    """How many sums of the first probabilities lie below a uniform number."""
    unit, *_ = _uniform(key, index, 0)
    successes, odds = torch.zeros_like(n), p / (1 - p)
    probability = torch.exp(n * torch.log1p(-p))
    total = probability.clone()
    for k in range(SUMMED):
        successes += unit > total
        probability = probability * odds * ((n - k) / (k + 1))
        total += probability
    return successes


def _by_proposals(key: Tensor, index: Tensor, n: Tensor, p: Tensor) -> Tensor:
    """Algorithm BTRS of Hörmann 1993, "The generation of binomial random variates".

    p <= 1/2 and n p >= 10. The mode stands where no proposal is accepted.
    """
    spread = torch.sqrt(n * p * (1 - p))
    b = 1.15 + 2.53 * spread
    a = -0.0873 + 0.0248 * b + 0.01 * p
    scale = (2.83 + 5.1 / b) * spread
    log_odds = torch.log(p / (1 - p))
    mode = torch.floor((n + 1) * p)
    log_peak = torch.lgamma(mode + 1) + torch.lgamma(n - mode + 1)
    result = mode.clone()
    pending = torch.arange(len(n), device=n.device)
    for proposal in range(PROPOSALS):
        if not len(pending):
            break
        n_, p_, a_, b_ = n[pending], p[pending], a[pending], b[pending]
        u, v, *_ = _uniform(key, index[pending], proposal)
        u = u - 0.5
        tail = 0.5 - u.abs()
        k = torch.floor((2 * a_ / tail + b_) * u + n_ * p_ + 0.5)
        inside = (k >= 0) & (k <= n_)
        bound = (
            log_peak[pending]
            - torch.lgamma(k + 1)
            - torch.lgamma(n_ - k + 1)
            + (k - mode[pending]) * log_odds[pending]
        )
        height = torch.log(v * scale[pending] / (a_ / (tail * tail) + b_))
        accepted = inside & (((tail >= 0.07) & (v <= 0.92 - 4.2 / b_)) | (height <= bound))
        result[pending[accepted]] = k[accepted]
        pending = pending[~accepted]
    return result
