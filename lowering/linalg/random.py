"""How random ops are spelled in linalg: Philox4x32-10 of each element's row-major index.

The words are i32, so that all arithmetic is modulo 2^32 as the generator wants it.
"""

from __future__ import annotations

from mlir import ir

from ..dialect import attributes_of
from ..mlir import TensorType
from ..ops.random import MULTIPLIERS, ROUNDS, WEYL, scale_of_kept
from . import scalar
from .body import Body
from .rules import Lowering, lowers


@lowers("random_bits")
def _random_bits(lowering: Lowering, op: ir.Operation) -> None:
    body, stream = Body(), attributes_of(op)["stream"]
    word = _philox(lowering, op, body, op.operands[0], stream)
    lowering.generic(op, body, body.add("arith.extui", (word,), ("i64",)))


@lowers("random_uniform")
def _random_uniform(lowering: Lowering, op: ir.Operation) -> None:
    body = Body()
    lowering.generic(op, body, _uniform(body, _philox(lowering, op, body, op.operands[0])))


@lowers("dropout")
def _dropout(lowering: Lowering, op: ir.Operation) -> None:
    body, rate = Body(), attributes_of(op)["rate"]
    x, key = op.operands
    kind = TensorType.of(x)
    value = lowering.read(body, x, tuple(range(kind.rank)))
    compute = "f64" if kind.dtype == "f64" else "f32"
    draw = _uniform(body, _philox(lowering, op, body, key))
    kept = scalar.compare(body, "ge", draw, body.constant(rate, "f32"))
    scale = body.constant(scale_of_kept(rate), compute)
    scaled = scalar.binary(body, "mulf", "", scalar.cast(body, value, compute), scale)
    chosen = scalar.select(body, kept, scaled, body.constant(0.0, compute))
    lowering.generic(op, body, scalar.cast(body, chosen, kind.dtype))


def _uniform(body: Body, word: int) -> int:
    """The upper 24 bits of a word times 2^-24: exact in float32."""
    shifted = body.add("arith.shrui", (word, body.constant(8, "i32")), ("i32",))
    drawn = body.add("arith.uitofp", (shifted,), ("f32",))
    return scalar.binary(body, "mulf", "", drawn, body.constant(2.0**-24, "f32"))


def _philox(
    lowering: Lowering, op: ir.Operation, body: Body, key: ir.Value, stream: int = 0
) -> int:
    """The stream's Philox4x32-10 word (i32) of the element's row-major index.

    Streams of one block are the same code but for the word taken, so they share it once fused.
    """
    c0, c1 = _counter(body, TensorType.of(op.results[0]).shape)
    c2, c3 = body.constant(_signed(stream >> 2), "i32"), body.constant(0, "i32")
    k0, k1 = (_key_word(lowering, op, body, key, i) for i in range(2))
    for _ in range(ROUNDS):
        low0 = _wide_product(body, c0, MULTIPLIERS[0])
        low1 = _wide_product(body, c2, MULTIPLIERS[1])
        c0, c1, c2, c3 = (
            _xor(body, low1 + 1, c1, k0),
            low1,
            _xor(body, low0 + 1, c3, k1),
            low0,
        )
        k0, k1 = (
            scalar.binary(body, "", "addi", word, body.constant(_signed(step), "i32"))
            for word, step in zip((k0, k1), WEYL, strict=True)
        )
    return (c0, c1, c2, c3)[stream & 3]


def _counter(body: Body, shape: tuple[int, ...]) -> tuple[int, int]:
    """The row-major index as two i32 words."""
    linear = body.constant(0, "i64")
    for axis, extent in enumerate(shape):
        step = body.add("arith.index_cast", (body.index(axis),), ("i64",))
        scaled = (
            scalar.binary(body, "", "muli", linear, body.constant(extent, "i64")) if axis else None
        )
        linear = step if scaled is None else scalar.binary(body, "", "addi", scaled, step)
    high = body.add("arith.shrui", (linear, body.constant(32, "i64")), ("i64",))
    return scalar.cast(body, linear, "i32"), scalar.cast(body, high, "i32")


def _key_word(lowering: Lowering, op: ir.Operation, body: Body, key: ir.Value, i: int) -> int:
    name, kind = lowering.named(key)
    word, scalar_type = lowering.writer.fresh(), TensorType((), kind.dtype)
    lowering.writer.line(
        f"{word} = tensor.extract_slice {name}[{i}] [1] [1] : {kind} to {scalar_type} {op.location}"
    )
    return scalar.cast(body, body.read((word, scalar_type), (), kind.dtype), "i32")


def _wide_product(body: Body, x: int, factor: int) -> int:
    """The number of the low word of x * factor; the high word's number is one more."""
    return body.add(
        "arith.mului_extended", (x, body.constant(_signed(factor), "i32")), ("i32", "i32")
    )


def _xor(body: Body, *words: int) -> int:
    first, *rest = words
    for word in rest:
        first = scalar.binary(body, "", "xori", first, word)
    return first


def _signed(word: int) -> int:
    """A 32-bit word as i32 spells it."""
    return word - (1 << 32) if word >> 31 else word
