"""What the kernels of attention share: how they load rows and make scores, sizes, tiles, tuning space."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import triton
import triton.language as tl

from .device import Device
from .gemm import FLOATS, precision_of, unsupported_dtype
from .problem import ITEM_BYTES, Problem, TensorSpec, ceil_div, next_power_of_two, wide
from .space import Space, dimension

WIDEST = 256
"""Of one head: a program holds rows of that width in registers."""


@triton.jit
def product_of_rows(
    left,
    right,
    here,
    there,
    WIDTH,
    EVEN: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """The products of rows at the pointers ``left`` [BLOCK_M, 1] with rows at ``right`` [1, BLOCK_N], of
    those that are ``here`` and ``there``; loaded BLOCK_K of the width at a time."""
    acc = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    for start in tl.range(0, WIDTH, BLOCK_K):
        d = start + tl.arange(0, BLOCK_K)
        a_mask, b_mask = here, there
        if not EVEN:
            a_mask = a_mask & (d[None, :] < WIDTH)
            b_mask = b_mask & (d[:, None] < WIDTH)
        a = tl.load(left + d[None, :], mask=a_mask, other=0.0)
        b = tl.load(right + d[:, None], mask=b_mask, other=0.0)
        acc = tl.dot(a, b, acc, input_precision=PRECISION)
    return acc


@triton.jit
def load_rows(rows, present, d, WIDTH, EVEN: tl.constexpr):
    """Rows at pointers, of those that are present, at the columns ``d``; 0 beyond the width."""
    mask = present if EVEN else present & (d < WIDTH)
    return tl.load(rows + d, mask=mask, other=0.0)


@triton.jit
def biased_scores(
    products,
    m,
    n,
    bias,
    QUERIES,
    KEYS,
    BIAS_ROW,
    BIAS_ROWS: tl.constexpr,
    BIAS_COLS: tl.constexpr,
    SCALE: tl.constexpr,
    CAUSAL: tl.constexpr,
    MASKED: tl.constexpr,
):
    """``products * SCALE + bias`` of queries ``m`` and keys ``n``, which stand along either axis.

    ``bias`` points to that of the head, which varies with the query (BIAS_ROW apart), the key, both or
    none. Where MASKED, keys that do not exist or lie ahead of the query have -inf.
    """
    scores = products * SCALE
    if BIAS_ROWS and BIAS_COLS:
        place, mask = bias + m * BIAS_ROW + n, (m < QUERIES) & (n < KEYS)
        scores += tl.load(place, mask=mask, other=0.0).to(tl.float32)
    elif BIAS_ROWS:
        scores += tl.load(bias + m * BIAS_ROW, mask=m < QUERIES, other=0.0).to(tl.float32)
    elif BIAS_COLS:
        scores += tl.load(bias + n, mask=n < KEYS, other=0.0).to(tl.float32)
    else:
        scores += tl.load(bias).to(tl.float32)
    if MASKED:
        seen = n < KEYS
        if CAUSAL:
            seen = seen & (n <= m)
        scores = tl.where(seen, scores, -float("inf"))
    return scores


@triton.jit
def key_bounds(first, KEYS, CAUSAL: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr):
    """Up to where whole blocks of keys are seen by all of BLOCK_M queries from ``first`` on, and up to
    where any is."""
    every, some = KEYS, KEYS
    if CAUSAL:
        every, some = tl.minimum(KEYS, first + 1), tl.minimum(KEYS, first + BLOCK_M)
    return every // BLOCK_N * BLOCK_N, some


@dataclass(frozen=True)
class AttentionConfig:
    """Tiles of block_m rows that a program owns (queries, or keys for their gradients) by block_n that it
    goes through. Rows stay on chip where block_k is the whole width, else they are multiplied block_k of it
    at a time."""

    block_m: int = dimension(16, 32, 64, 128, default=64)
    block_n: int = dimension(16, 32, 64, 128, default=64)
    block_k: int = dimension(16, 32, 64, 128, 256, default=64)
    num_warps: int = dimension(1, 2, 4, 8, default=4)
    num_stages: int = dimension(1, 2, 3, 4, default=2)


@dataclass(frozen=True)
class AttentionSize:
    """Extents of an attention; values are ``depth`` wide."""

    batch: int
    heads: int
    queries: int
    keys: int
    width: int
    depth: int

    @property
    def blocks(self) -> tuple[int, int]:
        """Powers of two that queries and values fit in."""
        return max(next_power_of_two(self.width), 16), max(next_power_of_two(self.depth), 16)

    def flops(self, of_width: int, of_depth: int, causal: bool) -> int:
        """Operations of so many products of queries by keys, of the width and of the depth; of causal
        attention half of them are made."""
        each = of_width * self.width + of_depth * self.depth
        flops = 2 * self.batch * self.heads * self.queries * self.keys * each
        return flops // 2 if causal else flops


def size_of(problem: Problem, read: int = 0) -> AttentionSize:
    """``read`` tells the queries of the operands; keys and values follow."""
    batch, queries, heads, width = problem.shape(read)
    keys, depth = problem.shape(read + 1)[1], problem.shape(read + 2)[3]
    return AttentionSize(batch, heads, queries, keys, width, depth)


def is_vector(problem: Problem) -> bool:
    """Whether products run without tensor cores."""
    return problem.dtype() == "float32" and precision_of(problem) == "ieee"


def unsupported(problem: Problem, read: int = 0) -> str | None:
    """Why no kernel takes the operands, or None; ``read`` as for `size_of`, and the bias behind values."""
    bias = read + 3
    q, k, v = (problem.shape(i) for i in range(read, bias))
    others = problem.operands[:bias] + problem.operands[bias + 1 : bias + 2]
    if reason := unsupported_dtype(Problem(others, problem.attributes)):
        return reason
    if problem.dtype(bias) not in FLOATS:
        return f"a bias of {problem.dtype(bias)}; allowed: one of {', '.join(FLOATS)}"
    if not (len(q) == len(k) == len(v) == 4 and k[:3] == v[:3] and k[3] == q[3]):
        return f"queries, keys and values of shape {q}, {k} and {v} do not fit"
    if (q[0], q[2]) != (k[0], k[2]) or len(problem.shape(bias)) > 4:
        return f"queries, keys and a bias of shape {q}, {k} and {problem.shape(bias)} do not fit"
    if max(q[3], v[3]) > WIDEST:
        return f"heads are {max(q[3], v[3])} wide; at most {WIDEST}"
    if k[1] == 0:
        return "there are no keys"
    return None


def attention_constexprs(
    problem: Problem, config: AttentionConfig, read: int, *written: TensorSpec
) -> dict[str, Any]:
    """The constants that every kernel of attention takes, but its tiles; ``read`` as for `size_of`."""
    size, bias = size_of(problem, read), problem.shape(read + 3)
    shape = (1,) * (4 - len(bias)) + bias
    strides = [0, 0, 0, 0]
    step = 1
    for axis in (3, 2, 1, 0):
        strides[axis] = 0 if shape[axis] == 1 else step
        step *= shape[axis]
    width, depth = size.blocks
    return {
        "QUERIES": size.queries,
        "HEADS": size.heads,
        "WIDTH": size.width,
        "DEPTH": size.depth,
        "BIAS_BATCH": strides[0],
        "BIAS_HEAD": strides[1],
        "BIAS_ROW": strides[2],
        "BIAS_ROWS": shape[2] != 1,
        "BIAS_COLS": shape[3] != 1,
        "SCALE": problem.attrs["scale"],
        "CAUSAL": problem.attrs["causal"],
        "EVEN": (width, depth) == (size.width, size.depth),
        "HELD": config.block_k >= max(width, depth),
        "PRECISION": precision_of(problem),
        "INDEX": tl.int64 if wide(*problem.operands, *written) else tl.int32,
        "BLOCK_K": config.block_k,
        "BLOCK_WIDTH": width,
        "BLOCK_DEPTH": depth,
    }


def _refuse(
    read: int, config: AttentionConfig, problem: Problem, size: AttentionSize, device: Device
) -> str | None:
    threads, block = 32 * config.num_warps, max(size.blocks)
    if config.block_k > block:
        return "a block deeper than heads are wide"
    held = config.block_m if config.block_k >= block else 0
    rows = held + config.num_stages * config.block_n
    item = ITEM_BYTES[problem.dtype()]
    shared = rows * sum(size.blocks) * item
    if shared > device.shared_bytes:
        return f"{config.num_stages} stages take {shared} bytes of shared memory"
    if is_vector(problem) and max(config.block_k, config.block_n) > 32:
        return "a product without tensor cores unrolls what it adds up: more than 32 spills"
    if item == 4 and (config.block_k > 64 or config.block_n > 32 or config.num_stages > 2):
        return "larger tiles of float32, or more of them at a time, spill"
    ampere = device.capability < 90 and not is_vector(problem)
    if read and ampere and (config.block_n > 32 or config.block_m * block * item > 8192):
        return "owned rows lie in registers there, and gradients spill"
    if read and config.block_n > max(config.block_m, 16):
        return "gradients of fewer rows than are gone through at a time spill"
    sums = size.blocks[1] if read == 0 else sum(size.blocks)
    values = config.block_m * (config.block_n + sums) // threads
    if values > _most_values(problem, device):
        return f"{values} scores and sums in each thread spill"
    most_m, most_n = _extents(size, read)
    for block, extent in ((config.block_m, most_m), (config.block_n, most_n)):
        if block > 16 and block >= 2 * next_power_of_two(extent):
            return "a tile more than half empty"
    return None


def _extents(size: AttentionSize, read: int) -> tuple[int, int]:
    """Rows that are owned, and gone through: queries and keys, and for gradients the other way, too."""
    longest = max(size.queries, size.keys)
    return (longest, longest) if read else (size.queries, size.keys)


def _most_values(problem: Problem, device: Device) -> int:
    """That a thread may hold: more spill, as compiled for sm_80, sm_90 and sm_100."""
    if problem.dtype() == "float32":
        return 48
    return 96 if device.capability >= 90 else 72


def _largest_tiles(problem: Problem) -> tuple[int, int, int]:
    """Rows that a program owns, those that it goes through, and what it multiplies of the width at a time:
    to begin with."""
    if problem.dtype() != "float32":
        return 128, 64, WIDEST
    return (32, 32, 16) if is_vector(problem) else (64, 32, 32)


def _guess(read: int, problem: Problem, device: Device) -> AttentionConfig:
    """As many rows as fit the registers of eight warps, fewer while programs do not fill the device."""
    size, (block_m, block_n, block_k) = size_of(problem, read), _largest_tiles(problem)
    most_m, most_n = (max(next_power_of_two(extent), 16) for extent in _extents(size, read))
    block_m, block_n = min(block_m, most_m), min(block_n, most_n)
    if read and device.capability < 90:
        block_n = min(block_n, 32)
    block_k = min(block_k, max(size.blocks))
    heads = size.batch * size.heads
    while block_m > 32 and ceil_div(size.queries, block_m) * heads < device.multiprocessors:
        block_m //= 2
    while True:
        block_n = min(block_n, block_m) if read else block_n
        for num_warps, num_stages in ((4, 3), (8, 3), (8, 2)):
            config = AttentionConfig(block_m, block_n, block_k, num_warps, num_stages)
            if _refuse(read, config, problem, size, device) is None:
                return config
        if block_m == 16:
            return AttentionConfig(16, 16, 16, 8, 1)
        block_m //= 2


def attention_space(read: int) -> Space:
    """Of a kernel whose operand ``read`` is the queries: it adds up more for gradients, which have one
    before."""
    return Space(
        AttentionConfig,
        lambda config, problem, device: _refuse(
            read, config, problem, size_of(problem, read), device
        ),
        lambda problem, device: _guess(read, problem, device),
    )
