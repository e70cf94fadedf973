"""Random words, the operators below keras.random: Philox, streams, blocks."""

import math

import keras  # noqa: F401  (selects the backend, so that torch is set up as in use)
import pytest
import torch

from keras_triton import torch_ops
from keras_triton.torch_ops.random import philox

WORD = 0xFFFFFFFF


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        # Known answers of Random123's kat_vectors for philox4x32-10.
        (0, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        (WORD, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ],
)
def test_philox_known_answers(word, expected):
    words = [torch.tensor([word])] * 4
    assert [f"{int(w):08x}" for w in philox(words, words[:2])] == expected.split()


def test_random_bits_depend_on_key_and_index_only():
    key = torch.tensor([-3, 11], dtype=torch.int32)
    bits = torch_ops.random_bits(key, [3, 5])
    assert int(bits.min()) >= 0
    assert int(bits.max()) <= WORD
    assert torch.equal(bits.flatten(), torch_ops.random_bits(key.long(), [15]))
    index = torch.tensor([7])
    words = torch.tensor([-3 & WORD]), torch.tensor([11])
    zero = torch.tensor([0])
    assert bits.flatten()[7] == philox((index, zero, zero, zero), words)[0]


def test_random_bits_do_not_depend_on_the_block_size(monkeypatch):
    key = torch.tensor([1, 2])
    whole = torch_ops.random_bits(key, [37])
    monkeypatch.setattr("keras_triton.torch_ops.random.BLOCK", 10)
    assert torch.equal(torch_ops.random_bits(key, [37]), whole)


@pytest.mark.parametrize("shape", [[], [0], [4, 0], [1]])
def test_random_of_odd_shapes(shape):
    draw = torch_ops.random_uniform(torch.tensor([1, 2]), shape)
    assert draw.shape == torch.Size(shape)
    assert draw.dtype == torch.float32


def test_random_uniform_is_uniform():
    draw = torch_ops.random_uniform(torch.tensor([5, 7]), [1 << 16]).double()
    assert 0 <= draw.min() < 1e-3
    assert 1 - 1e-3 < draw.max() < 1
    # Five standard deviations of the mean of 2^16 draws.
    assert abs(draw.mean() - 0.5) < 5 * math.sqrt(1 / 12 / 2**16)
    counts = torch.histc(draw, 64, 0, 1)
    chi_square = ((counts - 1024) ** 2 / 1024).sum()
    assert 25 < chi_square < 125  # 63 degrees of freedom: beyond 5 sigma


def test_streams_are_the_words_of_successive_blocks():
    key, index = torch.tensor([3, 4]), torch.arange(6)
    zero = torch.zeros_like(index)
    for stream in (0, 1, 3, 4, 7, 4095):
        block = torch.full_like(index, stream // 4)
        words = philox((index, zero, block, zero), (key[0], key[1]))
        assert torch.equal(torch_ops.random_bits(key, [6], stream), words[stream % 4])
