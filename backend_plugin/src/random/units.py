"""From Keras's seeds to random keys, and from keys to uniform numbers and standard normal ones."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from keras.src.backend.torch.ops.core import get_device
from keras.src.random.seed_generator import draw_seed
from torch import Tensor

from keras_triton import torch_ops

# Words of one Philox block; streams of one block cost one evaluation when they are compiled.
BLOCK = 4


def key_of(seed: Any) -> Tensor:
    """int64 [2]. Where only shapes are wanted the seed does not advance."""
    if str(get_device()) == "meta":
        return torch.empty(2, dtype=torch.int64, device="meta")
    return draw_seed(seed).to(torch.int64)


def plain(shape: Sequence[Any]) -> list[Any]:
    """The extents as numbers, whatever integers they are; those of open sizes as they are."""
    return [n if isinstance(n, torch.SymInt) else int(n) for n in shape]


def half_open(key: Tensor, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Uniform in [0, 1): float64 with 53 random bits if `dtype` is that, else float32 with 24."""
    if dtype != torch.float64:
        return torch_ops.random_uniform(key, shape)
    high, low = (torch_ops.random_bits(key, shape, stream) for stream in (0, 1))
    return ((high << 21) | (low >> 11)).to(dtype) * 2.0**-53


def between(key: Tensor, shape: Sequence[int], stream: int) -> Tensor:
    """Uniform in (0, 1): float64, the middles of 2^32 intervals."""
    return (torch_ops.random_bits(key, shape, stream).to(torch.float64) + 0.5) * 2.0**-32


def finely_between(key: Tensor, shape: Sequence[int]) -> Tensor:
    """Uniform in (0, 1): float64, the middles of 2^52 intervals."""
    high, low = (torch_ops.random_bits(key, shape, stream) for stream in (0, 1))
    return (((high << 20) | (low >> 12)).to(torch.float64) + 0.5) * 2.0**-52


def quantile(unit: Tensor) -> Tensor:
    """The standard normal number below which a share of `unit` of all lies."""
    return torch.erfinv(2 * unit - 1) * math.sqrt(2)


def rounded(x: Tensor, dtype: torch.dtype) -> Tensor:
    """float64 to `dtype`. Narrow types go through float32, as torch itself converts them."""
    return x if dtype == torch.float64 else x.to(torch.float32).to(dtype)
