"""Generated Triton kernels, run in the interpreter against the meaning of their regions."""

import os
from pathlib import Path

import pytest
import torch
from triton_cases import Generic, check, inputs_of, kernel_of, region_text

from keras_triton.lowering import emit_triton

GOLDEN = Path(__file__).parent / "golden"
FLOATS = ["f64", "f32", "bf16", "f16"]
SIZES = [(1,), (127,), (129,), (3, 7), (2, 1, 65)]


def type_of(shape, dtype):
    return f"tensor<{''.join(f'{extent}x' for extent in shape)}{dtype}>"


def widened(body, dtype, inputs):
    """A body over f32 values %v0..., of inputs in `dtype`, rounding %w to %r."""
    if dtype in ("f64", "f32"):
        for i in range(inputs):
            body = body.replace(f"%v{i}", f"%x{i}")
        return body.replace("%w", "%r").replace("f32", dtype)
    wide = "".join(f"%v{i} = arith.extf %x{i} : {dtype} to f32\n" for i in range(inputs))
    return f"{wide}{body}\n%r = arith.truncf %w : f32 to {dtype}"


SWISH = """%one = arith.constant 1.0 : f32
%s = arith.addf %v0, %v1 : f32
%n = arith.negf %s : f32
%e = math.exp %n : f32
%p = arith.addf %e, %one : f32
%w = arith.divf %s, %p : f32"""


def swish(shape, dtype):
    rank = len(shape)
    arguments = {"x": type_of(shape, dtype), "bias": type_of(shape[-1:], dtype)}
    reads = (("x", tuple(range(rank))), ("bias", (rank - 1,)))
    y = Generic("y", reads, type_of(shape, dtype), widened(SWISH, dtype, 2))
    return region_text("swish", arguments, [y], ["y"])


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", SIZES)
def test_pointwise(tmp_path, shape, dtype):
    check(swish(shape, dtype), tmp_path)


def softmax(rows, columns, dtype="f32", temperature=True):
    """Softmax over all of `columns`, of x scaled per row, its row maxima, and its logarithmic sum."""
    p, r = len(rows), len(columns)
    full, row = type_of((*rows, *columns), dtype), type_of(rows, "f32")
    every, mine = tuple(range(p + r)), tuple(range(p))
    wide = "" if dtype == "f32" else f"%v = arith.extf %x0 : {dtype} to f32\n"
    value = "%x0" if dtype == "f32" else "%v"
    exp = type_of((*rows, *columns), "f32")
    generics = [
        Generic("scaled", (("x", every), ("t", mine)), exp, f"{wide}%r = arith.mulf {value}, %x1 : f32"),
        Generic("top", (("scaled", every),), row, "%r = arith.addf %x0, %x0 : f32\n", "arith.maximumf"),
        Generic("half", (("top", mine),), row, "%c = arith.constant 0.5 : f32\n%r = arith.mulf %x0, %c : f32"),
        Generic("e", (("scaled", every), ("half", mine)), exp,
                "%d = arith.subf %x0, %x1 : f32\n%r = math.exp %d : f32"),
        Generic("total", (("e", every),), row, "%z = arith.constant 0.0 : f32\n%r = arith.addf %x0, %z : f32", "arith.addf"),
        Generic("lse", (("total", mine), ("half", mine)), row,
                "%l = math.log %x0 : f32\n%r = arith.addf %l, %x1 : f32"),
        Generic("y", (("e", every), ("total", mine)), full,
                "%q = arith.divf %x0, %x1 : f32\n"
                + (f"%r = arith.truncf %q : f32 to {dtype}" if dtype != "f32"
                   else "%c = arith.constant 1.0 : f32\n%r = arith.mulf %q, %c : f32")),
    ]  # fmt: skip
    arguments = {"x": full, "t": row}
    return region_text("softmax_like", arguments, generics, ["y", "half", "lse"], (p, r))


def loop(block_p, block_r, slices=1):
    return {
        "block_p": block_p,
        "block_r": block_r,
        "slices": slices,
        "num_warps": 4,
        "num_stages": 2,
    }


@pytest.mark.parametrize(
    "config", [None, loop(4, 64), loop(2, 16), loop(1, 16, 2), loop(4, 8, 8)], ids=str
)
@pytest.mark.parametrize(("rows", "columns"), [((5,), (37,)), ((2, 3), (4, 8)), ((), (50,))])
def test_reductions(tmp_path, rows, columns, config):
    if config and not rows:
        config = config | {"block_p": 1}
    check(softmax(rows, columns), tmp_path, config)


@pytest.mark.parametrize("dtype", ["bf16", "f16"])
@pytest.mark.parametrize("config", [None, loop(2, 16, 2)], ids=["whole", "split"])
def test_half_precision_rows(tmp_path, dtype, config):
    check(softmax((7,), (33,), dtype), tmp_path, config)
