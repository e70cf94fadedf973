"""Counter-based random words, the same as the framework's ``random_bits`` op."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def philox_word(index_lo, index_hi, key0, key1):
    """Word 0 of Philox4x32-10 at counter (index_lo, index_hi, 0, 0) with key (key0, key1).

    The indices are integer tensors of one shape whose low 32 bits count, the keys integer scalars
    whose low 32 bits count; the result is uint32.  Source: Salmon et al., "Parallel random numbers:
    as easy as 1, 2, 3", 2011.
    """
    c0 = index_lo.to(tl.uint32)
    c1 = index_hi.to(tl.uint32)
    zero = tl.zeros_like(c0)
    word, _, _, _ = tl.philox_impl(c0, c1, zero, zero, key0.to(tl.uint32), key1.to(tl.uint32), 10)
    return word


@triton.jit
def philox_uniform(index_lo, index_hi, key0, key1):
    """The same word as a float32 in [0, 1): its upper 24 bits times 2**-24."""
    word = philox_word(index_lo, index_hi, key0, key1)
    return (word >> 8).to(tl.float32) * 5.9604644775390625e-08
