"""The steps that a random program is made of, by family; each adds a few ops to a builder."""

from __future__ import annotations

import math
from collections.abc import Callable
from math import prod

from keras_triton.lowering.mlir import TensorType

from .builder import Builder, Unfit, Value, broadcast

Step = Callable[[Builder], object]
STEPS: list[Step] = []


def step(weight: int = 1) -> Callable[[Step], Step]:
    """Adds a step, drawn `weight` times as often as others."""

    def register(function: Step) -> Step:
        STEPS.extend([function] * weight)
        return function

    return register


# Pointwise. Smooth functions where they are defined, and their largest magnitude there.
BOUNDED = {"tanh": 1.0, "sigmoid": 1.0, "sin": 1.0, "cos": 1.0, "erf": 1.0, "atan": math.pi / 2}
OF_POSITIVE = {
    "log": lambda b: math.log(b + 2), "sqrt": lambda b: math.sqrt(b + 2), "rsqrt": lambda b: 1.5,
    "reciprocal": lambda b: 2.0, "log1p": lambda b: math.log(b + 2),
}  # fmt: skip
OF_SMALL = {
    "exp": math.exp, "exp2": lambda b: 2.0**b, "expm1": math.exp, "sinh": math.sinh,
    "cosh": math.cosh,
}  # fmt: skip
INSIDE_ONE = ("asin", "acos", "erfinv")


@step(5)
def smooth(b: Builder) -> None:
    x = b.tame(b.floats())
    name = b.choose([*BOUNDED, *OF_POSITIVE, *OF_SMALL, *INSIDE_ONE])
    if name in BOUNDED:
        b.op(name, x, bound=BOUNDED[name], exact=False)
    elif name in OF_POSITIVE:
        b.op(name, b.positive(x), bound=OF_POSITIVE[name](x.bound + 0.5), exact=False)
    elif name in OF_SMALL:
        x = b.at_most(x, 3.0)
        b.op(name, x, bound=OF_SMALL[name](x.bound), exact=False)
    else:
        inside = b.op("sin", x, bound=1.0, exact=False)
        half = b.op("mul", inside, b.full(0.5, x.type.dtype), bound=0.5, exact=False)
        b.op(name, half, bound=3.2, exact=False)


@step(2)
def any_unary(b: Builder) -> None:
    x = b.pick(lambda x: x.type.dtype != "i1")
    b.op(b.choose(["neg", "relu", "abs"]), x)


@step()
def jump(b: Builder) -> None:
    x = b.pick(lambda x: x.type.is_float and x.exact)
    b.op(b.choose(["floor", "ceil", "round", "sign"]), x)


@step()
def test_float(b: Builder) -> None:
    b.op(b.choose(["isnan", "isinf"]), b.floats(), bound=1.0)


@step(9)
def binary(b: Builder) -> None:
    x = b.tame(b.pick(lambda x: x.type.dtype != "i1"))
    y = b.tame(b.like(x))
    name = b.choose(["add", "mul", "sub", "maximum", "minimum"])
    pair = (x, y) if b.coin() else (y, x)
    bound = {"add": x.bound + y.bound, "sub": x.bound + y.bound, "mul": x.bound * y.bound}
    exact = x.exact and y.exact and (name != "mul" or not x.type.is_float)
    b.op(name, *pair, bound=bound.get(name, max(x.bound, y.bound)), exact=exact)


@step(2)
def divide(b: Builder) -> None:
    x = b.tame(b.floats())
    y = b.positive(b.tame(b.like(x)))
    name = b.choose(["div", "atan2", "pow", "fmod", "remainder"])
    if name in ("fmod", "remainder"):
        if not (x.exact and y.exact):
            raise Unfit
        b.op(name, x, y, bound=max(x.bound, y.bound))
    elif name == "pow":
        exponent = b.op("tanh", x, bound=1.0, exact=False)
        b.op(name, y, exponent, bound=max(y.bound, 2.0), exact=False)
    else:
        bound = 2 * x.bound if name == "div" else 3.2
        b.op(name, x, y, bound=bound, exact=False)


@step(2)
def compare(b: Builder) -> None:
    x = b.pick(lambda x: x.exact)
    y = b.like(x, lambda y: y.exact)
    if x.type.dtype == "i1":
        b.op(b.choose(["logical_and", "logical_or", "logical_xor", "eq", "ne"]), x, y, bound=1.0)
    else:
        b.op(b.choose(["lt", "le", "gt", "ge", "eq", "ne"]), x, y, bound=1.0)


@step(3)
def select(b: Builder) -> None:
    x = b.pick()
    y = b.like(x)
    condition = b.pick(
        lambda c: (
            c.type.dtype == "i1"
            and broadcast(c.type.shape, x.type.shape)
            and broadcast(c.type.shape, y.type.shape)
        )
    )
    pair = (x, y) if b.coin() else (y, x)
    try:
        b.op("select", condition, *pair, bound=max(x.bound, y.bound), exact=x.exact and y.exact)
    except Exception as error:  # three shapes that broadcast two by two may not do so together
        raise Unfit from error


@step(2)
def integers(b: Builder) -> None:
    x = b.pick(lambda x: x.type.dtype.startswith("i") and x.type.dtype != "i1")
    name = b.choose(
        ["bitwise_and", "bitwise_or", "bitwise_xor", "shift_left", "shift_right", "floor_divide",
         "remainder", "bitwise_not"]
    )  # fmt: skip
    wide = 2.0**63
    if name == "bitwise_not":
        b.op(name, x, bound=x.bound + 1)
    elif name.startswith("shift"):
        b.op(name, x, b.full(b.integer(0, 6), x.type.dtype), bound=wide)
    elif name.startswith("bitwise"):
        b.op(name, x, b.like(x), bound=wide)
    else:
        divisor = b.op("bitwise_and", b.like(x), b.full(7, x.type.dtype), bound=7.0)
        divisor = b.op("add", divisor, b.full(1, x.type.dtype), bound=8.0)
        b.op(name, x, divisor, bound=max(x.bound, 8.0))


@step(3)
def cast(b: Builder) -> None:
    x = b.pick()
    dtype = b.choose(["f32", "f16", "bf16", "f64", "i32", "i64", "i8", "i16", "i1"])
    if not TensorType((), dtype).is_float and not x.exact:
        raise Unfit
    x = b.tame(x)
    b.op("cast", x, dtype=dtype, bound=1.0 if dtype == "i1" else x.bound)


@step(2)
def back_to_float(b: Builder) -> None:
    """Halves, integers and bools join the other floats again."""
    b.op("cast", b.tame(b.pick(lambda x: x.type.dtype != b.dtype)), dtype=b.dtype)


# Reductions.


@step(10)
def reduce(b: Builder) -> None:
    x = b.tame(b.pick(lambda x: x.type.rank > 0))
    axes = b.axes(x.type.rank)
    made = _reduced(b, x, axes)
    if b.coin():
        _spread(b, x, made, axes)


def _reduced(b: Builder, x: Value, axes: tuple[int, ...]) -> Value:
    count = prod(x.type.shape[axis] for axis in axes)
    if x.type.dtype == "i1":
        return b.op(b.choose(["any", "all"]), x, axes=axes)
    name = b.choose(["sum", "max", "min", "prod"])
    if name == "sum":
        bound = x.bound * max(count, 1)
        # Halves accumulate in float32 and round at the end, so the last sum alone must fit.
        return b.op(name, x, axes=axes, bound=bound, exact=x.exact)
    if name == "prod":
        if x.type.is_float:
            x = b.at_most(x, 1.0)
        bound = 1.0 if x.type.is_float else 2.0**63
        return b.op(name, x, axes=axes, bound=bound, exact=not x.type.is_float)
    if count == 0:
        raise Unfit
    return b.op(name, x, axes=axes)


def _spread(b: Builder, x: Value, made: Value, axes: tuple[int, ...]) -> None:
    """What was reduced, beside what it was reduced from."""
    kept = tuple(axis for axis in range(x.type.rank) if axis not in axes)
    if b.coin():
        wide = b.op("broadcast_in_dim", made, shape=x.type.shape, dims=kept)
    else:
        ones = tuple(1 if axis in axes else n for axis, n in enumerate(x.type.shape))
        wide = b.op("reshape", made, shape=ones)
    if x.type.dtype == "i1":
        b.op("logical_xor", x, wide)
    elif x.bound + wide.bound <= 200:
        b.op("sub", x, wide, bound=x.bound + wide.bound)


@step(2)
def arg_reduce(b: Builder) -> None:
    x = b.pick(lambda x: x.exact and x.type.rank > 0 and x.type.dtype != "i1")
    axis = b.integer(0, x.type.rank - 1)
    if not x.type.shape[axis]:
        raise Unfit
    b.op(b.choose(["argmax", "argmin"]), x, axis=axis, bound=float(x.type.shape[axis]))


# Shapes.


@step(4)
def transpose(b: Builder) -> None:
    x = b.pick(lambda x: x.type.rank > 1)
    order = sorted(range(x.type.rank), key=lambda axis: b.integer(0, 9))
    b.op("transpose", x, permutation=tuple(order))


@step(4)
def reshape(b: Builder) -> None:
    x = b.pick()
    shape, size = x.type.shape, x.type.size
    choices = [(size,), shape[::-1], (1, *shape), (*shape, 1), (size, 1)]
    choices += [tuple(n for n in shape if n != 1)]
    choices += [(prod(shape[:i]), prod(shape[i:])) for i in range(1, len(shape))]
    choices += [(n, size // n) for n in (2, 3, 4, 5) if size and size % n == 0]
    choices += [(shape[0] // 2, 2, *shape[1:])] if shape and shape[0] and shape[0] % 2 == 0 else []
    b.op("reshape", x, shape=b.choose(choices))


@step(6)
def place(b: Builder) -> None:
    """x[:, i]: one place of an axis, with the axis or without."""
    x = b.pick(lambda x: x.type.rank > 0)
    axis = b.integer(0, x.type.rank - 1)
    if not x.type.shape[axis]:
        raise Unfit
    start = b.integer(0, x.type.shape[axis] - 1)
    starts = tuple(start if i == axis else 0 for i in range(x.type.rank))
    limits = tuple(start + 1 if i == axis else n for i, n in enumerate(x.type.shape))
    made = b.op("slice", x, starts=starts, limits=limits, strides=(1,) * x.type.rank)
    if b.coin():
        b.op("reshape", made, shape=tuple(n for i, n in enumerate(x.type.shape) if i != axis))


@step(4)
def window(b: Builder) -> None:
    x = b.pick(lambda x: x.type.rank > 0)
    starts = [b.integer(0, max(n - 1, 0)) if b.coin() else 0 for n in x.type.shape]
    limits = [
        b.integer(start, n) if b.coin() else n
        for start, n in zip(starts, x.type.shape, strict=True)
    ]
    strides = tuple(b.integer(1, 3) for _ in starts)
    b.op("slice", x, starts=tuple(starts), limits=tuple(limits), strides=strides)


@step(2)
def reverse(b: Builder) -> None:
    x = b.pick(lambda x: x.type.rank > 0)
    b.op("reverse", x, axes=b.axes(x.type.rank))


@step(4)
def concat(b: Builder) -> None:
    x = b.pick(lambda x: x.type.rank > 0)
    axis = b.integer(0, x.type.rank - 1)

    def fits(y: Value) -> bool:
        same = [m == n for m, n in zip(x.type.shape, y.type.shape, strict=False)]
        return (
            y.type.dtype == x.type.dtype
            and y.type.rank == x.type.rank
            and all(same[:axis] + same[axis + 1 :])
        )

    y = b.pick(fits)
    b.op("concat", *((x, y) if b.coin() else (y, x)), axis=axis)


@step(2)
def pad(b: Builder) -> None:
    x = b.pick(lambda x: x.type.rank > 0)
    low, high = (tuple(b.integer(0, 2) for _ in x.type.shape) for _ in range(2))
    value = float(b.choose([0, 2])) if x.type.dtype != "i1" else 0.0
    b.op("pad", x, low=low, high=high, value=value, bound=max(x.bound, value))


@step(3)
def spread(b: Builder) -> None:
    x = b.pick()
    shape = tuple(b.choose(b.extents) if n == 1 else n for n in x.type.shape)
    front = b.shape(0, 1)
    if b.coin():
        b.op("broadcast_to", x, shape=(*front, *shape))
    else:
        position = b.integer(0, x.type.rank)
        wide = (*shape[:position], *front, *shape[position:])
        dims = [i for i in range(len(wide)) if not position <= i < position + len(front)]
        b.op("broadcast_in_dim", x, shape=wide, dims=tuple(dims))


@step()
def barrier(b: Builder) -> None:
    b.op("barrier", b.pick())


@step()
def made_here(b: Builder) -> None:
    shape = b.shape(1)
    dtype = b.choose([b.dtype, "i32", "i64"])
    axis = b.integer(0, len(shape) - 1)
    b.op("iota", shape=shape, axis=axis, dtype=dtype, bound=float(max(shape)), exact=True)
