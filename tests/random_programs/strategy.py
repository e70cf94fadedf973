"""The hypothesis strategy of random programs."""

from __future__ import annotations

from hypothesis import strategies as st

from .blocks import grow
from .builder import Builder, Unfit
from .program import Program

# Primes and ones meet every tile at an odd place.
EXTENTS = [2, 1, 3, 4, 5, 7, 6, 17]
# One program in so many has axes of no elements, which empty most of it.
EMPTY = 12

# Results that nothing else reads: with more of them, fewer programs fuse.
MOST_UNREAD = 5


@st.composite
def programs(draw, most_steps: int = 24) -> Program:
    """A random program of up to `most_steps` steps, some of its arguments donated."""
    extents = [2, *draw(st.lists(st.sampled_from(EXTENTS), min_size=1, max_size=3))]
    if draw(st.integers(1, EMPTY)) == EMPTY:
        extents.append(0)
    dtype = draw(st.sampled_from(["f32"] * 6 + ["bf16", "f16", "f64"]))
    b = Builder(draw, extents, dtype)
    for _ in range(b.integer(1, 3)):
        b.argument(b.shape(), dtype)
    if b.coin():
        b.argument(b.shape(), b.choose(["i64", "i32", "i8", "i1", "f32", "f16", "bf16"]))
    grow(b, b.integer(min(4, most_steps), most_steps))
    read = {value.number for op in b.ops for value in op.operands}
    unread = [value for op in b.ops for value in op.results if value.number not in read]
    results = [*unread[-MOST_UNREAD:], *(b.pick() for _ in range(b.integer(0, 2)))]
    donated = {}
    for index, argument in enumerate(b.arguments):
        if b.integer(0, 2) == 0:
            continue
        try:
            new = b.pick(lambda x, kind=argument.type: x.type == kind)
        except Unfit:
            continue
        donated[len(results)] = index
        results.append(new)
    results = results or [b.values[-1]]
    return b.program(results, donated).live()
