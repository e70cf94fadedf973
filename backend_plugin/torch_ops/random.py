"""Counter-based random numbers: element i depends on the key, the stream and i only.

Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") with the key
words (key[0], key[1]) mod 2^32 and the counter (i mod 2^32, i >> 32, stream >> 2, 0), i being the
element's row-major index; the element takes word `stream` mod 4 of the block. One key so gives
independent numbers for each stream, four streams to a block.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .define import define

ROUNDS = 10
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
KEY_INCREMENTS = (0x9E3779B9, 0xBB67AE85)
WORD = 0xFFFFFFFF
# Elements drawn at a time on a CPU: the buffers of a block stay in cache, and torch starts no
# threads for so few (measured: 4 times the time with twice the block on two busy cores).
BLOCK = 1 << 15


def philox(counter: Sequence[Tensor], key: Sequence[Tensor]) -> list[Tensor]:
    """The four words of each block, as int64 in [0, 2^32); all arguments int64 words as well.

    Products wrap around int64, which leaves their 64 bits right; shifts copy the sign, so the
    high word is masked after every use.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for round_ in range(ROUNDS):
        if round_:
            k0, k1 = (k0 + KEY_INCREMENTS[0]) & WORD, (k1 + KEY_INCREMENTS[1]) & WORD
        p0, p1 = c0 * MULTIPLIERS[0], c2 * MULTIPLIERS[1]
        c0 = (p1 >> 32).bitwise_xor_(c1).bitwise_xor_(k0).bitwise_and_(WORD)
        c2 = (p0 >> 32).bitwise_xor_(c3).bitwise_xor_(k1).bitwise_and_(WORD)
        c1, c3 = p1.bitwise_and_(WORD), p0.bitwise_and_(WORD)
    return [c0, c1, c2, c3]


def words_at(index: Tensor, key: Tensor, block: int) -> list[Tensor]:
    """The four words of streams 4 * block to 4 * block + 3 at int64 indices; key: integers [2]."""
    words = key.to(torch.int64) & WORD
    third, fourth = torch.full_like(index, block), torch.zeros_like(index)
    return philox((index & WORD, index >> 32, third, fourth), (words[0], words[1]))


def _draw(key: Tensor, first: int, last: int, stream: int) -> Tensor:
    index = torch.arange(first, last, dtype=torch.int64, device=key.device)
    return words_at(index, key, stream >> 2)[stream & 3]


def _fake_bits(key: Tensor, shape: Sequence[int], stream: int = 0) -> Tensor:
    return key.new_empty(shape, dtype=torch.int64)


@define("random_bits(Tensor key, SymInt[] shape, int stream=0) -> Tensor", _fake_bits)
def random_bits(key: Tensor, shape: Sequence[int], stream: int = 0) -> Tensor:
    """32 random bits an element, as int64 in [0, 2^32). key: integers [2]; stream: [0, 2^34)."""
    count = math.prod(shape)
    block = BLOCK if key.device.type == "cpu" else max(count, 1)
    parts = [_draw(key, at, min(at + block, count), stream) for at in range(0, count, block)]
    bits = (
        parts[0] if len(parts) == 1 else torch.cat(parts or [key.new_empty(0, dtype=torch.int64)])
    )
    return bits.reshape(shape)


def _fake_uniform(key: Tensor, shape: Sequence[int]) -> Tensor:
    return key.new_empty(shape, dtype=torch.float32)


@define("random_uniform(Tensor key, SymInt[] shape) -> Tensor", _fake_uniform)
def random_uniform(key: Tensor, shape: Sequence[int]) -> Tensor:
    """Uniform float32 in [0, 1): the upper 24 bits of stream 0, times 2^-24, which is exact."""
    return (random_bits(key, shape) >> 8).to(torch.float32) * 2.0**-24


def _save_dropout(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, key, ctx.rate = inputs
    ctx.save_for_backward(key)


def _dropout_backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None]:
    (key,) = ctx.saved_tensors
    return dropout(g, key, ctx.rate), None, None


@define(
    "dropout(Tensor x, Tensor key, float rate) -> Tensor",
    lambda x, key, rate: torch.empty(x.shape, dtype=x.dtype, device=x.device),
    backward=_dropout_backward,
    save=_save_dropout,
)
def dropout(x: Tensor, key: Tensor, rate: float) -> Tensor:
    """x * (1 / (1 - rate)) where random_uniform(key, x.shape) >= rate, else 0. rate: [0, 1).

    A product, not a quotient: compilers replace division by a constant, and the last digit with it.
    """
    kept = random_uniform(key, x.shape) >= rate
    return torch.where(kept, x * (1 / (1 - rate)), torch.zeros((), dtype=x.dtype, device=x.device))
