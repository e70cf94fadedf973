"""The inverse error function: neither MLIR nor the targets have one.

Rational approximations of Wichura 1988, "Algorithm AS 241: The percentage points of the normal
distribution", three of them: for the middle, the flanks and the tails. In float64 the relative error
is below 1e-15; float32 is computed so too, because 1 - |x| needs the digits.
"""

from __future__ import annotations

import math

from .body import Body
from .scalar import FAST, binary, cast, compare, rule, select

# Numerator and denominator, highest power first.
MIDDLE = (
    (
        2.5090809287301226727e3, 3.3430575583588128105e4, 6.7265770927008700853e4,
        4.5921953931549871457e4, 1.3731693765509461125e4, 1.9715909503065514427e3,
        1.3314166789178437745e2, 3.3871328727963666080e0,
    ),
    (
        5.2264952788528545610e3, 2.8729085735721942674e4, 3.9307895800092710610e4,
        2.1213794301586595867e4, 5.3941960214247511077e3, 6.8718700749205790830e2,
        4.2313330701600911252e1, 1.0,
    ),
)  # fmt: skip
FLANK = (
    (
        7.74545014278341407640e-4, 2.27238449892691845833e-2, 2.41780725177450611770e-1,
        1.27045825245236838258e0, 3.64784832476320460504e0, 5.76949722146069140550e0,
        4.63033784615654529590e0, 1.42343711074968357734e0,
    ),
    (
        1.05075007164441684324e-9, 5.47593808499534494600e-4, 1.51986665636164571966e-2,
        1.48103976427480074590e-1, 6.89767334985100004550e-1, 1.67638483018380384940e0,
        2.05319162663775882187e0, 1.0,
    ),
)  # fmt: skip
TAIL = (
    (
        2.01033439929228813265e-7, 2.71155556874348757815e-5, 1.24266094738807843860e-3,
        2.65321895265761230930e-2, 2.96560571828504891230e-1, 1.78482653991729133580e0,
        5.46378491116411436990e0, 6.65790464350110377720e0,
    ),
    (
        2.04426310338993978564e-15, 1.42151175831644588870e-7, 1.84631831751005468180e-5,
        7.86869131145613259100e-4, 1.48753612908506148525e-2, 1.36929880922735805310e-1,
        5.99832206555887937690e-1, 1.0,
    ),
)  # fmt: skip


@rule("erfinv")
def _erfinv(body: Body, x: int, dtype: str) -> int:
    """Infinite at 1 and -1, NaN beyond."""
    f = _Double(body)
    half = f.mul(0.5, cast(body, x, "f64"))
    size = f.math("absf", half)
    middle = f.mul(half, f.ratio(f.sub(0.180625, f.mul(half, half)), MIDDLE))
    depth = f.math("sqrt", f.negative(f.math("log", f.sub(0.5, size))))
    flank, tail = f.ratio(f.sub(depth, 1.6), FLANK), f.ratio(f.sub(depth, 5.0), TAIL)
    outer = f.where("le", depth, 5.0, flank, tail)
    outer = f.where("eq", depth, math.inf, depth, outer)
    outer = f.where("lt", half, 0.0, f.negative(outer), outer)
    quantile = f.where("le", size, 0.425, middle, outer)
    return cast(body, f.mul(quantile, math.sqrt(0.5)), dtype)


class _Double:
    """Writes float64 arithmetic into a body; operands are numbers of values, or float constants."""

    def __init__(self, body: Body) -> None:
        self.body = body

    def mul(self, a: int | float, b: int | float) -> int:
        return binary(self.body, "mulf", "", self._value(a), self._value(b))

    def sub(self, a: int | float, b: int | float) -> int:
        return binary(self.body, "subf", "", self._value(a), self._value(b))

    def negative(self, x: int) -> int:
        return self.body.add("arith.negf", (x,), ("f64",), FAST)

    def math(self, name: str, x: int) -> int:
        return self.body.add(f"math.{name}", (x,), ("f64",), FAST)

    def where(self, predicate: str, a: int, b: float, then: int, other: int) -> int:
        """then if a <predicate> b else other."""
        return select(self.body, compare(self.body, predicate, a, self._value(b)), then, other)

    def ratio(self, x: int, coefficients: tuple[tuple[float, ...], tuple[float, ...]]) -> int:
        above, below = (self._polynomial(x, terms) for terms in coefficients)
        return binary(self.body, "divf", "", above, below)

    def _polynomial(self, x: int, terms: tuple[float, ...]) -> int:
        total = self._value(terms[0])
        for term in terms[1:]:
            total = binary(self.body, "addf", "", self.mul(total, x), self._value(term))
        return total

    def _value(self, x: int | float) -> int:
        return self.body.constant(x, "f64") if isinstance(x, float) else x
