"""The in-process interpreter: what it corrects, and that it leaves the language alone."""

import math

import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from triton.language.extra import libdevice

from keras_triton.kernels import Launch, compile_offline, interpreted, philox_uniform, philox_word


@triton.jit
def twice(x):
    return x + x


@triton.jit
def cast_kernel(x, y, N: tl.constexpr):
    at = tl.arange(0, N)
    tl.store(y + at, tl.load(x + at).to(y.dtype.element_ty))


@triton.jit
def helper_kernel(x, y, FUNCTION: tl.constexpr, N: tl.constexpr):
    at = tl.arange(0, N)
    value = FUNCTION(tl.load(x + at))
    tl.store(y + at, value + tl.sum(value, axis=0))


@triton.jit
def libdevice_kernel(x, y, N: tl.constexpr):
    at = tl.arange(0, N)
    tl.store(y + at, libdevice.tanh(tl.load(x + at)))


@triton.jit
def philox_kernel(words, uniforms, HI, KEY0, KEY1, N: tl.constexpr):
    at = tl.arange(0, N)
    low = at.to(tl.uint32)
    high = tl.zeros_like(low) + tl.cast(HI, tl.uint32)
    key0, key1 = tl.cast(KEY0, tl.uint32), tl.cast(KEY1, tl.uint32)
    tl.store(words + at, philox_word(low, high, key0, key1).to(tl.int64))
    tl.store(uniforms + at, philox_uniform(low, high, key0, key1))


def test_bfloat16_rounds_to_nearest_even():
    values = [1.00390625, 1.01171875, 3.4e38, math.inf, -math.inf, math.nan, 1e-40, -0.0]
    x = torch.tensor(values)
    y = torch.empty(8, dtype=torch.bfloat16)
    interpreted(cast_kernel)[(1,)](x, y, N=8)
    torch.testing.assert_close(y, x.bfloat16(), rtol=0, atol=0, equal_nan=True)
    back = torch.empty(8)
    interpreted(cast_kernel)[(1,)](y, back, N=8)
    torch.testing.assert_close(back, y.float(), rtol=0, atol=0, equal_nan=True)


@triton.jit
def constant_kernel(y, VALUE: tl.constexpr, N: tl.constexpr):
    tl.store(y + tl.arange(0, N), tl.full((N,), VALUE, tl.bfloat16))


@pytest.mark.parametrize("value", [2.0, 0.1, 0.0])
def test_constants_of_bfloat16(value):
    y = torch.empty(8, dtype=torch.bfloat16)
    interpreted(constant_kernel)[(1,)](y, VALUE=value, N=8)
    assert torch.equal(y, torch.full((8,), value, dtype=torch.bfloat16))


@triton.jit
def power_kernel(base, x, y, N: tl.constexpr):
    at = tl.arange(0, N)
    tl.store(y + at, libdevice.pow(tl.load(base), tl.load(x + at)) + 1.0)


def test_libdevice_takes_a_scalar_before_a_block():
    x, y = torch.tensor([-1.0, 0.0, 2.0, 3.0]), torch.empty(4)
    interpreted(power_kernel)[(1,)](torch.tensor([2.0]), x, y, N=4)
    assert y.tolist() == [1.5, 2.0, 5.0, 9.0]


@triton.jit
def comparisons_kernel(x, least, y, N: tl.constexpr):
    at = tl.arange(0, N)
    scalar = tl.load(least)
    tl.store(y + at, ((tl.load(x + at) < 0.0) ^ (scalar < 0.0)).to(tl.int32))


def test_comparisons_of_scalars_meet_those_of_blocks():
    x, y = torch.tensor([-1.0, 0.0, 2.0, -3.0]), torch.empty(4, dtype=torch.int32)
    interpreted(comparisons_kernel)[(1,)](x, torch.tensor([-2.0]), y, N=4)
    assert y.tolist() == [0, 1, 1, 0]


def test_helpers_are_interpreted_wherever_they_come_from():
    x, y = torch.arange(8.0), torch.empty(8)
    interpreted(helper_kernel)[(1,)](x, y, twice, 8)
    torch.testing.assert_close(y, 2 * x + 56)


def test_libdevice_functions_have_their_meaning():
    x, y = torch.linspace(-2, 2, 8), torch.empty(8)
    interpreted(libdevice_kernel)[(1,)](x, y, N=8)
    torch.testing.assert_close(y, x.tanh())


def test_the_language_is_as_before_after_a_run_and_after_an_error():
    watched = ((tl, "load"), (tl, "sum"), (tl.core, "load"), (tl.core, "reduce"), (tl, "range"))
    watched += ((libdevice, "tanh"), (tl.tensor, "__index__"), (type(twice), "__call__"))
    before = [getattr(owner, name, None) for owner, name in watched]
    x = torch.arange(8.0)
    interpreted(helper_kernel)[(1,)](x, torch.empty(8), twice, 8)
    with pytest.raises(TypeError):
        interpreted(helper_kernel)[(1,)](x, torch.empty(8), 5, 8)
    assert [getattr(owner, name, None) for owner, name in watched] == before


def test_a_kernel_compiles_after_it_was_interpreted():
    interpreted(helper_kernel)[(1,)](torch.ones(8), torch.empty(8), twice, 8)
    constexprs = {"FUNCTION": twice, "N": 8}
    launch = Launch(helper_kernel, {"x": "x", "y": "y"}, constexprs, (1, 1, 1), num_warps=1)
    assert compile_offline(launch, {"x": "float32", "y": "float32"}, 90).registers > 0


def test_only_jit_functions_are_interpreted():
    with pytest.raises(TypeError, match="is no jit function; is TRITON_INTERPRET set"):
        interpreted(len)


def test_device_tensors_are_refused():
    with pytest.raises(ValueError, match="argument x is on meta; the interpreter needs cpu"):
        interpreted(cast_kernel)[(1,)](torch.empty(8, device="meta"), torch.empty(8), N=8)


def philox_reference(counter, key):
    """Philox4x32-10 in plain integers, after Salmon et al. (2011)."""
    c, k = list(counter), list(key)
    for _ in range(10):
        a, b = c[0] * 0xD2511F53, c[2] * 0xCD9E8D57
        c = [(b >> 32) ^ c[1] ^ k[0], b & 0xFFFFFFFF, (a >> 32) ^ c[3] ^ k[1], a & 0xFFFFFFFF]
        k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return c


def test_the_philox_reference_gives_the_published_vectors():
    # From the known-answer file of the authors' Random123 library.
    assert philox_reference((0, 0, 0, 0), (0, 0))[0] == 0x6627E8D5
    ones = 0xFFFFFFFF
    assert philox_reference((ones,) * 4, (ones,) * 2)[0] == 0x408F276D
    pi = (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344)
    assert philox_reference(pi, (0xA4093822, 0x299F31D0))[0] == 0xD16CFE09


@pytest.mark.parametrize("key", [(0, 0), (0xA4093822, 0x299F31D0), (0xFFFFFFFF, 1)])
def test_philox_words_and_uniforms(key):
    words, uniforms = torch.empty(16, dtype=torch.int64), torch.empty(16)
    interpreted(philox_kernel)[(1,)](words, uniforms, 3, *key, N=16)
    expected = [philox_reference((i, 3, 0, 0), key)[0] for i in range(16)]
    assert words.tolist() == expected
    assert uniforms.tolist() == [np.float32((word >> 8) * 2.0**-24) for word in expected]


def test_philox_compiles():
    launch = Launch(
        philox_kernel,
        {"words": "words", "uniforms": "uniforms"},
        {"N": 128},
        (1, 1, 1),
        scalars={"HI": 3, "KEY0": 0xA4093822, "KEY1": 7},
    )
    report = compile_offline(launch, {"words": "int64", "uniforms": "float32"}, 90)
    assert report.spills == 0
