"""Transcendental functions of float32 as straight-line code, so that LLVM vectorizes their loops.

Each function is MLIR text: no tables, no branches, no flags that would undo the argument
reductions. Polynomials are minimax fits made for this file (Lawson-weighted least squares on
Chebyshev nodes); the reductions are the classical ones (Cody & Waite 1980; Muller, "Elementary
Functions", 2016). Errors are relative to the exact value and hold over the whole range of float32,
at most 3e-7 (denormal results: two denormals), NaN and inf as in C99. `sin` and `cos` hold for
|x| < 2^50.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .text import Code

_ROUND_F32 = 12582912.0  # 1.5 * 2^23: adding it leaves the nearest integer in the low bits
_ROUND_F64 = 6755399441055744.0  # 1.5 * 2^52
_LN2_HIGH, _LN2_LOW = (
    0.693359375,
    math.log(2.0) - 0.693359375,
)  # high part: 10 bits, exact when scaled
_EXP = (1.0, 1.0, 0.499992258273, 0.166671181517, 0.0418909897597, 0.00831243270985)
_EXPM1_TAIL = (0.50000000655, 0.166665381483, 0.0416662670378, 0.00836723424721, 0.00139475712933)
_LOG1P_TAIL = (
    0.333333158073, -0.250008253054, 0.200023741584, -0.166240399962,
    0.141788518502, -0.131318808583, 0.128998928778, -0.0787344039102,
)  # fmt: skip
_ERF_SMALL = (
    0.128379165914, -0.37612627136, 0.112836001763, -0.0268544445922,
    0.0051895353399, -0.000802084128456, 7.88911954713e-05,
)  # fmt: skip
_ERFC_LOG = (
    -0.000353708911506, -1.12704008005, -0.638225602249, -0.103037435626,
    0.0218053512086, -0.00293961574929, 0.000185574894654,
)  # fmt: skip
_SIN_TAIL = (-0.166666548733, 0.00833217353319, -0.000195166547213)
_COS_TAIL = (0.0416666467473, -0.0013887361431, 2.44377281775e-05)
_HALF_PI_PARTS = (1.5707963267948966, 6.123233995736766e-17, -1.4973849048591833e-33)

Body = Callable[["_Float"], str]


@dataclass
class _Float:
    """Writes float code into `code`; `kind` is f32 or f64, `x` and `y` the arguments' names."""

    code: Code
    kind: str = "f32"
    x: str = "%x"
    y: str = "%y"

    @property
    def bits(self) -> str:
        return "i32" if self.kind == "f32" else "i64"

    def const(self, value: float) -> str:
        return self.code.real(value, self.kind)

    def op(self, name: str, *operands: str | float) -> str:
        return self.code.let(f"arith.{name} {', '.join(self._names(operands))} : {self.kind}")

    def fma(self, a: str | float, b: str | float, c: str | float) -> str:
        """a * b + c, fused where the machine can."""
        names = ", ".join(self._names((a, b, c)))
        kinds = ", ".join([self.kind] * 3)
        return self.code.let(f"llvm.intr.fmuladd({names}) : ({kinds}) -> {self.kind}")

    def call(self, name: str, *operands: str | float) -> str:
        kinds = ", ".join([self.kind] * len(operands))
        return self.code.let(
            f"llvm.{name}({', '.join(self._names(operands))}) : ({kinds}) -> {self.kind}"
        )

    def horner(self, x: str, coefficients: Sequence[float]) -> str:
        total = self.const(coefficients[-1])
        for coefficient in reversed(coefficients[:-1]):
            total = self.fma(total, x, coefficient)
        return total

    def where(
        self, predicate: str, a: str | float, b: str | float, then: str | float, other: str | float
    ) -> str:
        """then if a <predicate> b else other."""
        left, right, yes, no = self._names((a, b, then, other))
        flag = self.code.let(f"arith.cmpf {predicate}, {left}, {right} : {self.kind}")
        return self.code.let(f"arith.select {flag}, {yes}, {no} : {self.kind}")

    def to_bits(self, x: str) -> str:
        return self.code.let(f"arith.bitcast {x} : {self.kind} to {self.bits}")

    def from_bits(self, x: str) -> str:
        return self.code.let(f"arith.bitcast {x} : {self.bits} to {self.kind}")

    def int_op(self, name: str, a: str, b: int | str) -> str:
        right = self.code.integer(b, self.bits) if isinstance(b, int) else b
        return self.code.let(f"arith.{name} {a}, {right} : {self.bits}")

    def round(self, x: str | float, scale: float) -> tuple[str, str]:
        """The integer nearest to x * scale, as a float and as an integer (low bits only)."""
        magic = _ROUND_F32 if self.kind == "f32" else _ROUND_F64
        shifted = self.fma(x, scale, magic)
        return self.op("subf", shifted, magic), self.to_bits(shifted)

    def power_of_two(self, n: str) -> str:
        """2^n for an integer n in the range of normal exponents; only n's low bits count."""
        mantissa, bias = (23, 127) if self.kind == "f32" else (52, 1023)
        return self.from_bits(self.int_op("shli", self.int_op("addi", n, bias), mantissa))

    def _names(self, operands: Sequence[str | float]) -> list[str]:
        return [item if isinstance(item, str) else self.const(item) for item in operands]


def _scaled(f: _Float, p: str, n: str) -> str:
    """p * 2^n for n from -150 to 128: two factors, so that denormal results round once."""
    one = 0x3F800000
    # floor(n / 2) in the exponent's place; what the rounding constant left above n's bits is
    # shifted out.
    half = f.int_op("andi", f.int_op("shli", n, 22), -0x800000)
    rest = f.int_op("subi", f.int_op("shli", n, 23), half)
    first, second = (f.from_bits(f.int_op("addi", part, one)) for part in (half, rest))
    return f.op("mulf", f.op("mulf", p, first), second)


def _exp_of(f: _Float, x: str) -> str:
    """e^x for x from -104 to 89."""
    r, n = _reduced(f, x)
    return _scaled(f, f.horner(r, _EXP), n)


def _reduced(f: _Float, x: str) -> tuple[str, str]:
    """(r, n) with x = n ln 2 + r and |r| <= ln(2) / 2."""
    whole, n = f.round(x, 1.0 / math.log(2.0))
    r = f.fma(whole, -_LN2_HIGH, x)
    return f.fma(whole, -_LN2_LOW, r), n


def _expm1_reduced(f: _Float, x: str) -> tuple[str, str]:
    """(e^r - 1, n) with x = n ln 2 + r and |r| <= ln(2) / 2."""
    r, n = _reduced(f, x)
    tail = f.horner(r, _EXPM1_TAIL)
    return f.fma(f.op("mulf", r, r), tail, r), n


def _exp(f: _Float) -> str:
    x = f.where("ogt", f.x, 89.0, 89.0, f.x)
    x = f.where("olt", x, -104.0, -104.0, x)
    return _exp_of(f, x)


def _exp2(f: _Float) -> str:
    x = f.where("ogt", f.x, 129.0, 129.0, f.x)
    x = f.where("olt", x, -151.0, -151.0, x)
    whole, n = f.round(x, 1.0)
    r = f.op("mulf", f.op("subf", x, whole), math.log(2.0))
    return _scaled(f, f.horner(r, _EXP), n)


def _expm1_of(f: _Float, x: str) -> str:
    x = f.where("ogt", x, 89.0, 89.0, x)
    x = f.where("olt", x, -20.0, -20.0, x)
    p, n = _expm1_reduced(f, x)
    # 2^(n-1), as 2^128 is no float32.
    scale = f.power_of_two(f.int_op("subi", n, 0x4B400001))
    return f.op("mulf", f.fma(scale, p, f.op("subf", scale, 0.5)), 2.0)


def _expm1(f: _Float) -> str:
    return _expm1_of(f, f.x)


def _tanh(f: _Float) -> str:
    size = f.call("intr.fabs", f.x)
    e = _expm1_of(f, f.op("mulf", size, -2.0))
    y = f.op("divf", e, f.op("addf", e, 2.0))
    return f.call("intr.copysign", y, f.x)


def _log_of(f: _Float, x: str) -> str:
    tiny = 2.0**-126
    scaled = f.where("olt", x, tiny, f.op("mulf", x, 2.0**23), x)
    offset = f.where("olt", x, tiny, -23.0, 0.0)
    # The exponent that puts the mantissa into [sqrt(1/2), sqrt(2)); 0x3F3504F3 is sqrt(1/2).
    bits = f.int_op("subi", f.to_bits(scaled), 0x3F3504F3)
    exponent = f.int_op("shrsi", bits, 23)
    mantissa = f.int_op("subi", f.to_bits(scaled), f.int_op("shli", exponent, 23))
    n = f.code.let(f"arith.sitofp {exponent} : i32 to f32")
    n = f.op("addf", n, offset)
    r = f.op("subf", f.from_bits(mantissa), 1.0)
    square = f.op("mulf", r, r)
    tail = f.op("mulf", f.op("mulf", square, r), f.horner(r, _LOG1P_TAIL))
    low = f.fma(square, -0.5, f.fma(n, _LN2_LOW, tail))
    y = f.fma(n, _LN2_HIGH, f.op("addf", low, r))
    y = f.where("oeq", x, math.inf, math.inf, y)
    y = f.where("oeq", x, 0.0, -math.inf, y)
    return f.where("ult", x, 0.0, math.nan, y)


def _log(f: _Float) -> str:
    return _log_of(f, f.x)


def _log1p(f: _Float) -> str:
    u = f.op("addf", f.x, 1.0)
    lost = f.op("subf", f.x, f.op("subf", u, 1.0))
    correction = f.op("divf", lost, u)
    # At -1 and inf the correction is NaN where the logarithm alone is right.
    correction = f.where("ord", correction, correction, correction, 0.0)
    return f.op("addf", _log_of(f, u), correction)


def _erf(f: _Float) -> str:
    square = f.op("mulf", f.x, f.x)
    small = f.fma(f.x, f.horner(square, _ERF_SMALL), f.x)
    size = f.call("intr.fabs", f.x)
    # At 4 erfc is 1.5e-8, a quarter of an ulp of 1.
    t = f.where("ogt", size, 4.0, 4.0, size)
    erfc = _exp_of(f, f.horner(t, _ERFC_LOG))
    large = f.call("intr.copysign", f.op("subf", 1.0, erfc), f.x)
    return f.where("ogt", size, 1.0, large, small)


def _quadrant(f: _Float, shift: int) -> str:
    """sin(x + shift * pi / 2)."""
    wide = _Float(f.code, "f64", f.code.let(f"arith.extf {f.x} : f32 to f64"))
    whole, bits = wide.round(wide.x, 2.0 / math.pi)
    r = wide.x
    for part in _HALF_PI_PARTS:
        r = wide.fma(whole, -part, r)
    r = f.code.let(f"arith.truncf {r} : f64 to f32")
    n = f.code.let(f"arith.trunci {bits} : i64 to i32")
    n = f.int_op("addi", n, shift)
    square = f.op("mulf", r, r)
    sine = f.fma(f.op("mulf", square, r), f.horner(square, _SIN_TAIL), r)
    cosine = f.fma(
        f.op("mulf", square, square), f.horner(square, _COS_TAIL), f.fma(square, -0.5, 1.0)
    )
    odd = f.code.let(f"arith.trunci {n} : i32 to i1")
    y = f.code.let(f"arith.select {odd}, {cosine}, {sine} : f32")
    sign = f.int_op("shli", f.int_op("andi", n, 2), 30)
    return f.from_bits(f.int_op("xori", f.to_bits(y), sign))


def _sin(f: _Float) -> str:
    return _quadrant(f, 0)


def _cos(f: _Float) -> str:
    return _quadrant(f, 1)


def _log2_f64(w: _Float, x: str) -> str:
    """log2 of a positive, finite, normal float64 to 1e-10."""
    sqrt_half = 0x3FE6A09E667F3BCD
    exponent = w.int_op("shrsi", w.int_op("subi", w.to_bits(x), sqrt_half), 52)
    mantissa = w.from_bits(w.int_op("subi", w.to_bits(x), w.int_op("shli", exponent, 52)))
    # An int64 to float64 conversion that vectorizes everywhere: through the low bits of 1.5 * 2^52.
    n = w.op("subf", w.from_bits(w.int_op("addi", exponent, 0x4338000000000000)), _ROUND_F64)
    s = w.op("divf", w.op("subf", mantissa, 1.0), w.op("addf", mantissa, 1.0))
    series = w.horner(w.op("mulf", s, s), [2.0 / math.log(2.0) / (2 * k + 1) for k in range(6)])
    return w.fma(s, series, n)


def _exp2_f64(w: _Float, x: str) -> str:
    """2^x to 1e-9 for |x| < 1000."""
    whole, n = w.round(x, 1.0)
    r = w.op("subf", x, whole)
    p = w.horner(r, [math.log(2.0) ** k / math.factorial(k) for k in range(9)])
    return w.op("mulf", p, w.power_of_two(n))


def _pow(f: _Float) -> str:
    """x^y = 2^(y log2 |x|) in float64, then the cases of C99."""
    wide = [f.code.let(f"arith.extf {name} : f32 to f64") for name in (f.x, f.y)]
    w = _Float(f.code, "f64", *wide)
    size = w.call("intr.fabs", w.x)
    log = _log2_f64(w, size)
    log = w.where("oeq", size, 0.0, -math.inf, log)
    log = w.where("oeq", size, math.inf, math.inf, log)
    log = w.where("uno", size, size, math.nan, log)
    exponent = w.op("mulf", w.y, log)
    exponent = w.where("ogt", exponent, 300.0, 300.0, exponent)
    exponent = w.where("olt", exponent, -300.0, -300.0, exponent)
    y = f.code.let(f"arith.truncf {_exp2_f64(w, exponent)} : f64 to f32")
    floor, half = f.call("intr.floor", f.y), f.op("mulf", f.y, 0.5)
    odd_sign = f.call("intr.copysign", y, f.x)
    odd = f.where("une", f.call("intr.floor", half), half, odd_sign, y)
    # Fractional powers of negative numbers are NaN, but not those of -0 and -inf.
    undefined = f.where("olt", f.x, 0.0, math.nan, y)
    undefined = f.where("oeq", f.x, -math.inf, y, undefined)
    y = f.where("une", floor, f.y, undefined, odd)
    base_one = f.where("oeq", f.call("intr.fabs", f.y), math.inf, f.call("intr.fabs", f.x), f.x)
    y = f.where("oeq", base_one, 1.0, 1.0, y)
    return f.where("oeq", f.y, 0.0, 1.0, y)


_BODIES: dict[str, Body] = {
    "exp": _exp, "exp2": _exp2, "expm1": _expm1, "log": _log, "log1p": _log1p, "tanh": _tanh,
    "erf": _erf, "sin": _sin, "cos": _cos, "powf": _pow,
}  # fmt: skip

INLINE = frozenset(_BODIES)


def symbol(name: str) -> str:
    """The function that computes math.<name> of float32."""
    return f"keras_{name}"


def definition(name: str) -> str:
    """The MLIR text of `symbol(name)`, to stand once in a module that calls it."""
    code = Code()
    result = _BODIES[name](_Float(code))
    parameters = "%x: f32, %y: f32" if name == "powf" else "%x: f32"
    return (
        f"llvm.func internal @{symbol(name)}({parameters}) -> f32 "
        f'attributes {{passthrough = ["alwaysinline"]}} {{\n'
        f"{code.text()}\n  llvm.return {result} : f32\n}}\n"
    )
