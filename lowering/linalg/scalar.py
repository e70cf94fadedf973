"""What each pointwise op of the `keras` dialect computes on scalars, as arith and math ops.

Each rule takes a Body, the operands' numbers and their element type, and returns the result's
number. Half floats are computed in float32. Floats carry reassoc, contract and nsz. Never nnan or
ninf: NaN and infinity flow as in torch. Never arcp: 49 / 49 by a reciprocal is less than 1, and a
learning rate that falls every 49 steps is a step late.
"""

from __future__ import annotations

from collections.abc import Callable

from ..errors import DialectError
from ..mlir import BITS, FLOATS
from .body import OVERFLOW, Body

Rule = Callable[..., int]
FAST = "fastmath = #arith.fastmath<reassoc,nsz,contract>"
RULES: dict[str, Rule] = {}

_FLOAT_PREDICATES = {"eq": 1, "gt": 2, "ge": 3, "lt": 4, "le": 5, "ne": 13, "unordered": 14}
_INT_PREDICATES = {"eq": 0, "ne": 1, "lt": 2, "le": 3, "gt": 4, "ge": 5}
_UNSIGNED_PREDICATES = {"eq": 0, "ne": 1, "lt": 6, "le": 7, "gt": 8, "ge": 9}


def emit(body: Body, name: str, operands: list[int]) -> int:
    """Adds the pointwise op `name` on `operands` (one element type) to `body`.

    Raises:
        DialectError: no scalar rule of that name.
    """
    if name not in RULES:
        raise DialectError(f"keras.{name} has no scalar meaning")
    dtype = body.types[operands[0]]
    if dtype in ("f16", "bf16"):
        wide = [cast(body, operand, "f32") for operand in operands]
        result = RULES[name](body, *wide, dtype="f32")
        return result if body.types[result] != "f32" else cast(body, result, dtype)
    return RULES[name](body, *operands, dtype=dtype)


def cast(body: Body, x: int, dtype: str) -> int:
    """float -> int truncates toward zero; number -> bool is `!= 0`; bool -> number is 0 or 1."""
    source = body.types[x]
    if source == dtype:
        return x
    if dtype == "i1":
        return compare(body, "ne", x, body.constant(0, source))
    return body.add(_conversion(source, dtype), (_half_step(body, x, dtype),), (dtype,))


def _half_step(body: Body, x: int, dtype: str) -> int:
    """Between f16 and bf16 the way leads through f32."""
    if {body.types[x], dtype} == {"f16", "bf16"}:
        return body.add("arith.extf", (x,), ("f32",))
    return x


def _conversion(source: str, dtype: str) -> str:
    if source in FLOATS and dtype in FLOATS:
        wider = BITS[dtype] > BITS[source]
        return "arith.extf" if wider else "arith.truncf"
    if source in FLOATS:
        return "arith.fptosi"
    if dtype in FLOATS:
        return "arith.uitofp" if source == "i1" else "arith.sitofp"
    if BITS[dtype] < BITS[source]:
        return "arith.trunci"
    return "arith.extui" if source == "i1" else "arith.extsi"


def compare(body: Body, predicate: str, a: int, b: int, *, unsigned: bool = False) -> int:
    """Ordered comparison (`ne` holds on NaN), as i1; of integers by their bits if `unsigned`."""
    dtype = body.types[a]
    if dtype in FLOATS:
        return body.add(
            "arith.cmpf", (a, b), ("i1",), f"predicate = {_FLOAT_PREDICATES[predicate]} : i64"
        )
    table = _UNSIGNED_PREDICATES if unsigned or dtype == "i1" else _INT_PREDICATES
    return body.add("arith.cmpi", (a, b), ("i1",), f"predicate = {table[predicate]} : i64")


def select(body: Body, condition: int, a: int, b: int) -> int:
    return body.add("arith.select", (condition, a, b), (body.types[a],))


def binary(body: Body, floating: str, integer: str, a: int, b: int) -> int:
    """The arith op of the operands' kind: arith.<floating> or arith.<integer>."""
    dtype = body.types[a]
    if dtype in FLOATS:
        return body.add(f"arith.{floating}", (a, b), (dtype,), FAST)
    flags = OVERFLOW if integer in ("addi", "subi", "muli", "shli") else ""
    return body.add(f"arith.{integer}", (a, b), (dtype,), flags)


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Registers the decorated function as the scalar meaning of `names`; a second is refused."""

    def register(function: Rule) -> Rule:
        for name in names:
            if name in RULES:
                raise DialectError(f"keras.{name} has two scalar meanings")
            RULES[name] = function
        return function

    return register


def _math(name: str) -> Rule:
    return lambda body, *xs, dtype: body.add(f"math.{name}", xs, (dtype,), FAST)


def _binary(floating: str, integer: str) -> Rule:
    return lambda body, a, b, dtype: binary(body, floating, integer, a, b)


def _compare(predicate: str) -> Rule:
    return lambda body, a, b, dtype: compare(body, predicate, a, b)


for _name in [
    "exp",
    "exp2",
    "expm1",
    "log",
    "log1p",
    "sqrt",
    "rsqrt",
    "sin",
    "cos",
    "tan",
    "asin",
    "acos",
    "atan",
    "sinh",
    "cosh",
    "tanh",
    "erf",
    "atan2",
]:
    rule(_name)(_math(_name))
for _name, _spelling in {
    "floor": "floor",
    "ceil": "ceil",
    "round": "roundeven",
    "pow": "powf",
}.items():
    rule(_name)(_math(_spelling))
for _name, _pair in {
    "add": ("addf", "addi"),
    "sub": ("subf", "subi"),
    "mul": ("mulf", "muli"),
    "div": ("divf", "divsi"),
    "fmod": ("remf", "remsi"),
    "maximum": ("maximumf", "maxsi"),
    "minimum": ("minimumf", "minsi"),
    "bitwise_and": ("", "andi"),
    "bitwise_or": ("", "ori"),
    "bitwise_xor": ("", "xori"),
    "logical_and": ("", "andi"),
    "logical_or": ("", "ori"),
    "logical_xor": ("", "xori"),
    "shift_left": ("", "shli"),
    "shift_right": ("", "shrsi"),
}.items():
    rule(_name)(_binary(*_pair))
for _name in _INT_PREDICATES:
    rule(_name)(_compare(_name))


@rule("reciprocal")
def _reciprocal(body: Body, x: int, dtype: str) -> int:
    return binary(body, "divf", "", body.constant(1.0, dtype), x)


@rule("sigmoid")
def _sigmoid(body: Body, x: int, dtype: str) -> int:
    """1 / (1 + exp(-x))."""
    one = body.constant(1.0, dtype)
    power = body.add("math.exp", (_neg(body, x, dtype),), (dtype,), FAST)
    return binary(body, "divf", "", one, binary(body, "addf", "", one, power))


@rule("neg")
def _neg(body: Body, x: int, dtype: str) -> int:
    if dtype in FLOATS:
        return body.add("arith.negf", (x,), (dtype,), FAST)
    return binary(body, "", "subi", body.constant(0, dtype), x)


@rule("abs")
def _abs(body: Body, x: int, dtype: str) -> int:
    if dtype in FLOATS:
        return body.add("math.absf", (x,), (dtype,), FAST)
    return body.add("math.absi", (x,), (dtype,))


@rule("sign")
def _sign(body: Body, x: int, dtype: str) -> int:
    """-1, 0 or 1; 0 for NaN, as torch."""
    zero = body.constant(0, dtype)
    negative = select(body, compare(body, "lt", x, zero), body.constant(-1, dtype), zero)
    return select(body, compare(body, "gt", x, zero), body.constant(1, dtype), negative)


@rule("relu")
def _relu(body: Body, x: int, dtype: str) -> int:
    return binary(body, "maximumf", "maxsi", x, body.constant(0, dtype))


@rule("isnan")
def _isnan(body: Body, x: int, dtype: str) -> int:
    return compare(body, "unordered", x, x)


@rule("isinf")
def _isinf(body: Body, x: int, dtype: str) -> int:
    return compare(body, "eq", _abs(body, x, dtype), body.constant(float("inf"), dtype))


@rule("logical_not", "bitwise_not")
def _not(body: Body, x: int, dtype: str) -> int:
    return binary(body, "", "xori", x, body.constant(True if dtype == "i1" else -1, dtype))


@rule("remainder")
def _remainder(body: Body, a: int, b: int, dtype: str) -> int:
    """a - floor(a / b) b: the result has the sign of b."""
    rest = binary(body, "remf", "remsi", a, b)
    return select(body, _signs_differ(body, rest, b), binary(body, "addf", "addi", rest, b), rest)


@rule("floor_divide")
def _floor_divide(body: Body, a: int, b: int, dtype: str) -> int:
    quotient = binary(body, "", "divsi", a, b)
    below = binary(body, "", "subi", quotient, body.constant(1, dtype))
    return select(body, _signs_differ(body, binary(body, "", "remsi", a, b), b), below, quotient)


def _signs_differ(body: Body, rest: int, b: int) -> int:
    """Whether `rest` is not zero and has another sign than `b`."""
    zero = body.constant(0, body.types[b])
    negative = [compare(body, "lt", x, zero) for x in (rest, b)]
    return binary(
        body, "", "andi", compare(body, "ne", rest, zero), binary(body, "", "xori", *negative)
    )


@rule("select")
def _select(body: Body, condition: int, a: int, b: int, dtype: str) -> int:
    return select(body, condition, a, b)
