"""How far the result of each op of the dialect may be from what it means in float64: one table.

`page()` is what ACCURACY.md holds; a test compares the two, and others hold the ops to the table on the
CPU target and in Triton's interpreter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from . import dialect
from .mlir import TensorType, context

Types = Sequence[TensorType]
Terms = Callable[[Types, Mapping[str, Any]], int]

UNIT = {"f64": 2.0**-53, "f32": 2.0**-24, "bf16": 2.0**-24, "f16": 2.0**-24}
"""What rounding once adds, relatively, in the type that an op computes in: float32 for half precision."""
ROUNDING = {"f64": 2.0**-53, "f32": 2.0**-24, "bf16": 2.0**-8, "f16": 2.0**-11}
"""The same for the type that its result is stored in."""


def gamma(n: int, unit: float) -> float:
    """n u / (1 - n u): what n roundings, one on top of the other, add relatively.

    Higham 2002, "Accuracy and Stability of Numerical Algorithms", lemma 3.1.
    """
    return n * unit / (1 - n * unit)


@dataclass(frozen=True)
class Bound:
    """A bound on the error of an op's result.

    Attributes:
        ulps: for an op of one element at a time, so many units in the last place between the result
            and the exact value rounded; for others None.
        terms: for others, how many roundings lie on top of one another.
        shown: the same in words.
        stored: roundings to the op's own type on the way, where it takes more than one kernel.
        linear: it is linear in each of its operands of floating point.
    """

    ulps: int | None = None
    terms: Terms | None = None
    shown: str = ""
    stored: int = 0
    linear: bool = False

    @property
    def text(self) -> str:
        if self.ulps is not None:
            return f"{self.ulps} ulp" if self.ulps else "the exact value, rounded"
        on_the_way = f", {self.stored} stored on the way" if self.stored else ""
        name = "sum" if self.linear else "slope"
        return f"{name}, n = {self.shown}{on_the_way}"


def _ulps(count: int, names: str) -> dict[str, Bound]:
    return dict.fromkeys(names.split(), Bound(count))


def _sum(shown: str, terms: Terms, names: str, stored: int = 0) -> dict[str, Bound]:
    return dict.fromkeys(names.split(), Bound(None, terms, shown, stored, linear=True))


def _slope(shown: str, terms: Terms, names: str, stored: int = 0) -> dict[str, Bound]:
    return dict.fromkeys(names.split(), Bound(None, terms, shown, stored))


def _inner(types: Types, attributes: Mapping[str, Any]) -> int:
    return types[0].shape[-2 if attributes.get("transpose_a") else -1]


def _row(types: Types, attributes: Mapping[str, Any]) -> int:
    return max(kind.shape[-1] for kind in types if kind.rank == 2)


def _folded(types: Types, attributes: Mapping[str, Any]) -> int:
    return prod(types[0].shape[axis] for axis in attributes["axes"])


def _window(types: Types, attributes: Mapping[str, Any]) -> int:
    return prod(attributes["window"])


BOUNDS: dict[str, Bound] = (
    _ulps(0, "floor ceil round neg abs sign relu maximum minimum add sub mul isnan isinf select")
    | _ulps(0, "logical_not logical_and logical_or logical_xor eq ne lt le gt ge cast barrier")
    | _ulps(0, "bitwise_not bitwise_and bitwise_or bitwise_xor shift_left shift_right floor_divide")
    | _ulps(0, "max min any all argmax argmin max_pool2d gather sort top full iota random_bits random_uniform")
    | _ulps(0, "broadcast_to broadcast_in_dim reshape transpose slice reverse concat pad")
    | _ulps(1, "sqrt remainder fmod dropout")
    | _ulps(2, "div reciprocal rsqrt sigmoid")
    | _ulps(3, "exp exp2 expm1 log log1p sin cos asin acos atan sinh cosh tanh erf pow")
    | _ulps(4, "tan atan2")
    | _ulps(5, "erfinv")
    | _sum("inner extent", _inner, "matmul batch_matmul")
    | _slope("inner extent + 1", lambda t, a: _inner(t, a) + 1, "linear", stored=1)
    | _sum(
        "taps of the kernel", lambda t, a: prod(t[1].shape[:3]), "conv2d"
    )
    | _sum(
        "taps of the kernel, by filters",
        lambda t, a: t[1].shape[0] * t[1].shape[1] * t[1].shape[3],
        "conv2d_input_grad",
    )
    | _sum("points of the result", lambda t, a: prod(t[0].shape[:3]), "conv2d_kernel_grad")
    | _sum("elements folded", _folded, "sum")
    | _slope("elements folded", _folded, "prod")
    | _sum("updates", lambda t, a: t[1].size, "scatter")
    | _sum("elements of the axis", lambda t, a: t[0].shape[a["axis"]], "cumulate")
    | _sum("elements of the window + 1", lambda t, a: _window(t, a) + 1, "avg_pool2d avg_pool2d_grad", 2)
    | _sum("elements of the window", _window, "max_pool2d_grad")
    | _slope("row + 8", lambda t, a: _row(t, a) + 8, "softmax log_softmax cross_entropy layer_norm")
    | _slope("row + 8", lambda t, a: _row(t, a) + 8, "softmax_grad log_softmax_grad cross_entropy_grad")
    | _slope("row + rows + 8", lambda t, a: sum(t[0].shape) + 8, "layer_norm_grad")
    | _slope(
        "depth + classes + rows + 16",
        lambda t, a: sum(t[0].shape) + max(t[1].shape) + 16,
        "linear_cross_entropy linear_cross_entropy_input_grad linear_cross_entropy_weight_grad",
        stored=2,
    )
    | _slope(
        "keys + width + 16",
        lambda t, a: t[1].shape[1] + sum(t[0].shape[1::2]) + 16,
        "attention attention_grad",
        stored=2,
    )
)  # fmt: skip
"""Each op's bound. Two ops have the same only where the sentence about them is the same."""

HEAD = """# Accuracy

How far what a compiled step computes may be from what its ops mean in float64, op by op, for results of
float64, float32, bfloat16 and float16. Half precision is computed in float32 and rounded where it is
stored. `python -m keras_triton.lowering.accuracy` prints this page from the table in
[`lowering/accuracy.py`](lowering/accuracy.py); tests hold every op to it on random and on hard inputs, on
the CPU target and in Triton's interpreter. On a GPU, its library's exponentials and the like may be off by
a few units more; `keras_triton.verify` measures there.

* *k ulp*: at most k units in the last place lie between the result and the exact value, rounded. What is
  smaller than the least normal number may be zero.
* *sum*: the error is at most γ(n) times the sum of the magnitudes of all terms, plus one rounding of the
  result. γ(n) = n u / (1 - n u), with u = 2⁻²⁴, or 2⁻⁵³ for float64.
* *slope*: it is at most γ(n) times the sum, over all inputs, of how much the result changes with the input
  times the input's magnitude, plus γ(n) times the largest magnitude among inputs and results, plus one
  rounding of the result.
* What is *stored on the way* rounds to the op's own type once more, relative to the same.
* Products of float32 are this accurate at torch's default precision, "highest"; tf32 rounds factors to
  10 bits of fraction.

| op | error |
|---|---|
"""


def page() -> str:
    """The table as a page: ops of one bound share a row."""
    found: dict[str, list[str]] = {}
    for name, bound in BOUNDS.items():
        found.setdefault(bound.text, []).append(f"`{name}`")
    return HEAD + "".join(f"| {', '.join(names)} | {text} |\n" for text, names in found.items())


def missing() -> set[str]:
    """Ops of the dialect that the table does not know."""
    context()
    return set(dialect.OPS) - set(BOUNDS)


if __name__ == "__main__":
    print(page(), end="")
