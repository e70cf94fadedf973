"""Counter-based random numbers: element i depends on the key, the stream and i only.

Philox4x32-10 of Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3": the key is
(key[0], key[1]) mod 2^32, the counter (i mod 2^32, i >> 32, stream >> 2, 0) for the row-major index
i of the element, and the word taken is number `stream` mod 4.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..dialect import Attributes, define
from ..errors import DialectError
from ..mlir import TensorType
from .common import require_float, require_type

Types = Sequence[TensorType]
Tensors = Sequence[torch.Tensor]

ROUNDS = 10
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
_MASK = 0xFFFFFFFF


def philox(key: torch.Tensor, count: int, stream: int = 0) -> torch.Tensor:
    """The stream's Philox word of elements 0..count-1, as int64 in [0, 2^32)."""
    index = torch.arange(count, dtype=torch.int64)
    c0, c1 = index & _MASK, index >> 32
    c2, c3 = torch.full_like(index, stream >> 2), torch.zeros_like(index)
    k0, k1 = key[0] & _MASK, key[1] & _MASK
    for _ in range(ROUNDS):
        high0, low0 = _multiply(c0, MULTIPLIERS[0])
        high1, low1 = _multiply(c2, MULTIPLIERS[1])
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + WEYL[0]) & _MASK, (k1 + WEYL[1]) & _MASK
    return (c0, c1, c2, c3)[stream & 3]


def _multiply(a: torch.Tensor, b: int) -> tuple[torch.Tensor, torch.Tensor]:
    """High and low 32 bits of the product of two 32-bit numbers, within int64's range."""
    low = (a & 0xFFFF) * b
    middle = (a >> 16) * b + (low >> 16)
    return (middle >> 16) & _MASK, ((middle << 16) | (low & 0xFFFF)) & _MASK


def _infer_key(dtype: str):
    def infer(types: Types, attributes: Attributes) -> list[TensorType]:
        require_type(types[0], TensorType((2,), "i64"), "key")
        return [TensorType(tuple(attributes["shape"]), dtype)]

    return infer


def _infer_bits(types: Types, attributes: Attributes) -> list[TensorType]:
    if not 0 <= attributes["stream"] < 1 << 34:
        raise DialectError(f"stream must be in [0, 2^34), not {attributes['stream']}")
    return _infer_key("i64")(types, attributes)


@define("random_bits", "key", _infer_bits, attributes="shape stream")
def _random_bits(xs: Tensors, attributes: Attributes) -> list[torch.Tensor]:
    """32 random bits an element, as an integer in [0, 2^32)."""
    shape = tuple(attributes["shape"])
    return [philox(xs[0], torch.Size(shape).numel(), attributes["stream"]).reshape(shape)]


@define("random_uniform", "key", _infer_key("f32"), attributes="shape")
def _random_uniform(xs: Tensors, attributes: Attributes) -> list[torch.Tensor]:
    """Uniform in [0, 1): the upper 24 bits of stream 0, times 2^-24; exact in float32."""
    (bits,) = _random_bits(xs, {**attributes, "stream": 0})
    return [(bits >> 8).to(torch.float32) * 2.0**-24]


def _infer_dropout(types: Types, attributes: Attributes) -> list[TensorType]:
    require_float(types[0], "x")
    require_type(types[1], TensorType((2,), "i64"), "key")
    return [types[0]]


@define("dropout", "x key", _infer_dropout, attributes="rate")
def _dropout(xs: Tensors, attributes: Attributes) -> list[torch.Tensor]:
    """x / (1 - rate) where random_uniform(key) >= rate, else 0; with one key, its own gradient."""
    x, key = xs
    (draw,) = _random_uniform([key], {"shape": tuple(x.shape)})
    scaled = x * scale_of_kept(attributes["rate"])
    return [torch.where(draw >= attributes["rate"], scaled, torch.zeros_like(x))]


def scale_of_kept(rate: float) -> float:
    """What dropout multiplies by; at rate 1 nothing is kept."""
    return 1 / (1 - rate) if rate < 1 else 0.0
