"""Steps of several ops at once: rows, products, convolutions, pooling, draws, updates and loops."""

from __future__ import annotations

from math import prod
from typing import Any

from keras_triton.lowering.mlir import TensorType

from .builder import Builder, Unfit, Value
from .steps import STEPS, step


def _rows(b: Builder, rank: int = 1) -> Value:
    """A float with elements along its last axis, small enough to exponentiate."""
    x = b.pick(lambda x: x.type.is_float and x.type.rank >= rank and x.type.size > 0)
    return b.tame(x)


def _given(b: Builder, x: Value) -> Value:
    """Another value of exactly x's type, such as a gradient."""
    try:
        return b.tame(b.pick(lambda y: y.type == x.type))
    except Unfit:
        return b.argument(x.type.shape, x.type.dtype)


@step(2)
def softmax(b: Builder) -> None:
    x = _rows(b)
    name = b.choose(["softmax", "log_softmax"])
    bound = 1.0 if name == "softmax" else 2 * x.bound + 8
    y = b.op(name, x, bound=bound, exact=False)
    if b.coin():
        g = _given(b, x)
        b.op(f"{name}_grad", g, y, bound=g.bound * (1 + x.type.shape[-1]), exact=False)


@step(2)
def layer_norm(b: Builder) -> None:
    x = _rows(b)
    weight, bias = (b.argument(x.type.shape[-1:], x.type.dtype) for _ in range(2))
    root = x.type.shape[-1] ** 0.5
    y, mean, rstd = b.ops_results(
        "layer_norm", x, weight, bias, epsilon=0.25, bound=3 * root + 3 + x.bound, exact=False
    )
    if b.coin():
        g = b.at_most(_given(b, y), 3.0)
        many = 20.0 * (1 + x.type.size)
        b.ops_results("layer_norm_grad", g, x, mean, rstd, weight, bound=many, exact=False)


@step()
def cross_entropy(b: Builder) -> None:
    x = b.flat(_rows(b), 2)
    rows, classes = x.type.shape
    target = b.argument((rows,), "i64")
    target = b.op("remainder", target, b.full(classes, "i64"), bound=float(classes))
    bound = 2 * x.bound + 8
    loss, lse = b.ops_results("cross_entropy", x, target, bound=bound, exact=False)
    if b.coin():
        g = _given(b, loss)
        b.op("cross_entropy_grad", g, x, target, lse, bound=2 * g.bound, exact=False)


# Products.


@step(3)
def matmul(b: Builder) -> None:
    rank = b.choose([2, 2, 3])
    x = b.flat(b.tame(b.floats(least=1)), rank)
    if b.coin():
        x = b.at_most(x, 1.0)
    transposed = b.coin()
    inner = x.type.shape[-2 if transposed else -1]
    width = b.choose(b.extents)
    back = b.coin()
    shape = (*x.type.shape[:-2], *((width, inner) if back else (inner, width)))
    w = b.argument(shape, x.type.dtype)
    y = b.op(
        "matmul" if rank == 2 else "batch_matmul",
        x,
        w,
        transpose_a=transposed,
        transpose_b=back,
        bound=x.bound * w.bound * max(inner, 1),
        exact=False,
    )
    if b.coin():
        _epilogue(b, y)
    if b.coin():
        _normalized(b, y)


def _epilogue(b: Builder, y: Value) -> None:
    """What follows products: a bias, an activation, a scale, a residual."""
    bias = b.argument(y.type.shape[-1:], y.type.dtype)
    y = b.op("add", y, bias, bound=y.bound + bias.bound, exact=False)
    if b.coin():
        y = b.op(b.choose(["relu", "tanh", "sigmoid"]), y, exact=False)
    if b.coin():
        y = b.op("reshape", y, shape=(*y.type.shape[:1], 1, *y.type.shape[1:]))
    if b.coin():
        other = _given(b, y)
        b.op("add", y, other, bound=y.bound + other.bound, exact=False)


def _normalized(b: Builder, y: Value) -> None:
    """Batch normalization: sums of columns, what follows from them, and the columns scaled by that; often
    what is made goes into a product again.
    """
    dtype = y.type.dtype
    if dtype in ("bf16", "f16"):
        y = b.op("cast", y, dtype="f32")
    axes = tuple(range(y.type.rank - 1))
    count = max(y.type.size // max(y.type.shape[-1], 1), 1)
    keep = (*(1 for _ in axes), y.type.shape[-1])
    total = b.op("sum", y, axes=axes, bound=y.bound * count, exact=False)
    mean = b.op("div", total, b.full(count, y.type.dtype), bound=y.bound, exact=False)
    square = b.op("mul", y, y, bound=y.bound**2, exact=False)
    squares = b.op("sum", square, axes=axes, bound=y.bound**2 * count, exact=False)
    power = b.op("div", squares, b.full(count, y.type.dtype), bound=y.bound**2, exact=False)
    power = b.op("add", power, b.full(1.0, y.type.dtype), bound=y.bound**2 + 1, exact=False)
    scale = b.op("reshape", b.op("rsqrt", power, bound=1.0, exact=False), shape=keep)
    apart = b.op("sub", y, b.op("reshape", mean, shape=keep), bound=2 * y.bound, exact=False)
    z = b.op("mul", apart, scale, bound=2 * y.bound, exact=False)
    if z.type.dtype != dtype:
        z = b.op("cast", z, dtype=dtype, exact=False)
    if b.coin():
        z = b.op("relu", z, exact=False)
    if z.type.rank != 4 or b.coin():
        z = b.flat(z, 2)
        w = b.argument((z.type.shape[1], b.choose(b.extents)), z.type.dtype)
        bound = z.bound * w.bound * max(z.type.shape[1], 1)
        b.op("matmul", z, w, transpose_a=False, transpose_b=False, bound=bound, exact=False)
    else:
        w = b.argument((b.integer(1, 3), 1, z.type.shape[3], b.choose([1, 3])), z.type.dtype)
        bound = z.bound * w.bound * w.type.size
        options = {"strides": (1, 1), "pads": (1, 1, 0, 0), "dilations": (1, 1), "groups": 1}
        b.op("conv2d", z, w, **options, bound=bound, exact=False)


@step(2)
def pooled(b: Builder) -> None:
    """Sums over some axes, and over more axes those of products with a factor that follows from those."""
    x = b.at_most(b.floats(least=3), 3.0)
    if x.type.dtype in ("bf16", "f16"):
        x = b.op("cast", x, dtype="f32")
    rank, shape = x.type.rank, x.type.shape
    y = b.op("relu", x) if b.coin() else x
    inner = tuple(range(1, rank - 1))
    total = b.op("sum", y, axes=inner, bound=3.0 * max(x.type.size, 1), exact=False)
    late = b.op("tanh", total, bound=1.0, exact=False)
    wide = b.op("broadcast_in_dim", late, dims=(0, rank - 1), shape=shape, exact=False)
    if b.coin():
        zero = b.full(0.0, y.type.dtype)
        off = b.op("le", y, zero, bound=1.0)
        wide = b.op("select", off, zero, wide, exact=False)
    if b.coin():
        wide = b.op("mul", wide, b.choose([x, y]), bound=3.0, exact=False)
    if b.coin():
        wide = b.op("neg", wide, exact=False)
    axes = b.choose([(0, *inner), inner, tuple(range(rank))])
    b.op("sum", wide, axes=axes, bound=3.0 * max(x.type.size, 1), exact=False)


@step()
def linear(b: Builder) -> None:
    x = b.flat(b.tame(b.floats(least=1)), 2)
    width = b.choose(b.extents)
    w = b.argument((x.type.shape[1], width), x.type.dtype)
    bias = b.argument((width,), x.type.dtype)
    bound = x.bound * w.bound * max(x.type.shape[1], 1) + bias.bound
    b.op("linear", x, w, bias, activation=b.choose(["none", "relu"]), bound=bound, exact=False)


@step(2)
def projections(b: Builder) -> None:
    """Products of one matrix with several others, and what are their gradients."""
    x = b.at_most(b.flat(b.tame(b.floats(least=1)), 2), 1.0)
    (rows, inner), width = x.type.shape, b.choose(b.extents)
    weights = [b.argument((inner, width), x.type.dtype) for _ in range(b.integer(2, 3))]
    biased = b.coin()
    for w in weights:
        y = _product(b, x, w)
        if biased:
            bias = b.argument((width,), x.type.dtype)
            b.op("add", y, bias, bound=y.bound + bias.bound, exact=False)
    if not b.coin():
        return
    summed, total = b.coin(), None
    for w in weights:
        g = b.argument((rows, width), x.type.dtype)
        back = _product(b, g, w, transpose_b=True)
        total = (
            back
            if total is None
            else b.op("add", total, back, bound=total.bound + back.bound, exact=False)
        )
        _product(b, x, g, transpose_a=True)
        if summed:
            b.op("sum", g, axes=(0,), bound=g.bound * max(rows, 1), exact=False)


def _product(
    b: Builder, x: Value, y: Value, transpose_a: bool = False, transpose_b: bool = False
) -> Value:
    bound = x.bound * y.bound * max(x.type.shape[0 if transpose_a else 1], 1)
    transposes = {"transpose_a": transpose_a, "transpose_b": transpose_b}
    return b.op("matmul", x, y, **transposes, bound=bound, exact=False)


@step(3)
def gates(b: Builder) -> None:
    """A product, equal blocks of whose columns are combined; now and then windows that are none."""
    x = b.at_most(b.flat(b.tame(b.floats(least=1)), 2), 1.0)
    (rows, inner), units, count = x.type.shape, b.choose([2, 3, 4, 1]), b.choose([2, 3, 4, 5])
    product = _product(b, x, b.argument((inner, units * count), x.type.dtype))
    shift = b.choose([0, 0, 0, 1])
    total = None
    for number in b.choose([tuple(range(count)), (0, 1), (1, 0)]):
        start = min(number * units + shift, (count - 1) * units)
        y = b.op("slice", product, starts=(0, start), limits=(rows, start + units), strides=(1, 1))
        if b.coin():
            y = b.op(b.choose(["tanh", "sigmoid", "relu"]), y, exact=False)
        total = (
            y if total is None else b.op("mul", total, y, bound=total.bound * y.bound, exact=False)
        )


@step()
def attention(b: Builder) -> None:
    x = b.at_most(b.floats(), 3.0)
    batch, heads, length, width = (b.choose([1, 2, 3]) for _ in range(4))
    q, k, v = (b.argument((batch, n, heads, width), x.type.dtype) for n in (length, 4, 4))
    if x.type.size == q.type.size:
        q = b.op("reshape", x, shape=q.type.shape)
    bias = b.argument((1, heads, 1, 4), x.type.dtype)
    options: dict[str, Any] = {"scale": 0.5, "causal": b.coin()}
    o, lse = b.ops_results("attention", q, k, v, bias, **options, bound=30.0, exact=False)
    if b.coin():
        g = _given(b, o)
        operands = (g, q, k, v, bias, o, lse)
        b.ops_results("attention_grad", *operands, **options, bound=500.0, exact=False)


# Images.


def _image(b: Builder) -> Value:
    x = b.tame(b.floats())
    if x.type.rank == 4 and 0 not in x.type.shape:
        return x
    return b.argument((b.choose([1, 2]), b.integer(3, 6), b.integer(3, 5), 4), x.type.dtype)


def _window(b: Builder, x: Value, window: tuple[int, int]) -> dict[str, Any]:
    pads = []
    for extent, length in zip(x.type.shape[1:3], window, strict=True):
        pads += [b.integer(max(0, length - extent), max(length - 1, 0)), b.integer(0, length - 1)]
    return {"strides": (b.integer(1, 2), b.integer(1, 2)), "pads": tuple(pads)}


@step()
def convolution(b: Builder) -> None:
    x = b.at_most(_image(b), 3.0)
    groups = b.choose([n for n in (1, 2, 4) if x.type.shape[3] % n == 0])
    window = (b.integer(1, 3), b.integer(1, 3))
    shape = (*window, x.type.shape[3] // groups, groups * b.choose([1, 2]))
    w = b.argument(shape, x.type.dtype)
    options = _window(b, x, window) | {"dilations": (1, 1), "groups": groups}
    bound = x.bound * w.bound * prod(shape[:3])
    y = b.op("conv2d", x, w, **options, bound=bound, exact=False)
    if b.coin():
        _epilogue(b, y)
    if b.coin():
        _normalized(b, y)
    if b.coin():
        g = b.at_most(_given(b, y), 3.0)
        many = 9.0 * max(y.type.size, 1)
        image, kernel = {"shape": x.type.shape}, {"shape": shape}
        b.op("conv2d_input_grad", g, w, **image, **options, bound=many, exact=False)
        b.op("conv2d_kernel_grad", g, x, **kernel, **options, bound=many, exact=False)


@step()
def pool(b: Builder) -> None:
    x = _image(b)
    window = (b.integer(1, 3), b.integer(1, 3))
    options = {"window": window} | _window(b, x, window)
    if x.exact and b.coin():
        y, index = b.ops_results("max_pool2d", x, **options)
        g = _given(b, y)
        bound = g.bound * prod(window)
        b.op("max_pool2d_grad", g, index, shape=x.type.shape, **options, bound=bound, exact=False)
    else:
        y = b.op("avg_pool2d", x, **options, exact=False)
        if b.coin():
            g = _given(b, y)
            bound = g.bound * prod(window)
            b.op("avg_pool2d_grad", g, shape=x.type.shape, **options, bound=bound, exact=False)


# Random numbers, rows by index, calls of torch.


def _key(b: Builder) -> Value:
    return b.argument((2,), "i64", bound=1e6)


@step(2)
def dropout(b: Builder) -> None:
    x = b.tame(b.floats())
    b.op("dropout", x, _key(b), rate=b.choose([0.25, 0.5]), bound=2 * x.bound, exact=False)


@step()
def draw(b: Builder) -> None:
    shape = b.shape()
    if b.coin():
        b.op("random_uniform", _key(b), shape=shape, bound=1.0, exact=False)
    else:
        b.op("random_bits", _key(b), shape=shape, stream=b.integer(0, 5), bound=2.0**32)


@step(2)
def gather(b: Builder) -> None:
    """Lookup along any axis; of integers and bools also outside of it, where floats would read NaN."""
    x = b.pick(lambda x: x.type.rank > 0)
    axis = b.integer(0, x.type.rank - 1)
    extent = x.type.shape[axis]
    if not extent:
        raise Unfit
    index = b.argument(b.shape(0, 2), b.choose(["i64", "i32"]))
    if x.type.is_float or b.coin():
        index = b.op("remainder", index, b.full(extent, index.type.dtype), bound=float(extent))
    b.op("gather", x, index, axis=axis, bound=x.bound, exact=x.exact)


@step(2)
def scatter(b: Builder) -> None:
    """Rows by index, some of them outside. Where no row comes, a largest float would be infinite."""
    x = b.tame(b.pick(lambda x: x.type.rank > 0 and x.type.dtype != "i1"))
    index = b.argument(x.type.shape[:-1], b.choose(["i64", "i32"]))
    fold = b.choose(["sum", "prod"] if x.type.is_float else ["sum", "prod", "max", "min"])
    if fold == "prod" and x.type.is_float:
        x = b.at_most(x, 1.0)
    bound = x.bound * max(index.type.size, 1) if x.type.is_float else 2.0**63
    exact = x.exact and fold == "sum"
    b.op("scatter", x, index, rows=b.choose([3, 1, 5]), fold=fold, bound=bound, exact=exact)


@step()
def extern(b: Builder) -> None:
    """A call of torch between others."""
    x = b.tame(b.pick(lambda x: x.type.rank > 0 and x.type.dtype != "i1"))
    axis = b.integer(0, x.type.rank - 1)
    if b.coin():
        args = f'[[{{"t": 0}}, {{"t": 1}}, {{"t": 0}}], {axis}]'
        y = _given(b, x)
        shape = tuple(n * 3 if i == axis else n for i, n in enumerate(x.type.shape))
        b.extern("aten.cat.default", f"[{args}]", [x, y], x.type.with_shape(shape))
    elif x.type.is_float:
        b.extern("aten.cumsum.default", f'[[{{"t": 0}}, {axis}]]', [x], x.type)


# State and loops.


@step(2)
def updates(b: Builder) -> None:
    """What an optimizer does: one formula on many tensors."""
    count = b.integer(2, 4)
    for _ in range(count):
        state = b.argument(b.shape(), b.dtype)
        g = b.argument(state.type.shape, b.dtype)
        rate = b.full(0.1, b.dtype)
        small = b.op("mul", g, rate, bound=0.3, exact=False)
        b.op("sub", state, small, bound=state.bound + 0.3, exact=False)


@step(2)
def scan(b: Builder) -> None:
    """A loop of a few steps over a random body."""
    if b.depth:
        raise Unfit
    length = b.choose([1, 2, 3])
    body = Builder(b.draw, b.extents, b.dtype, depth=1)
    # What a loop carries is computed by it, so it decides nothing.
    carried = [body.argument(b.shape(0, 2), b.dtype, exact=False) for _ in range(b.choose([1, 2]))]
    scanned = [body.argument(b.shape(0, 2), b.dtype) for _ in range(b.choose([0, 1, 2]))]
    constants = [body.argument(b.shape(0, 2), b.dtype) for _ in range(b.choose([0, 1]))]
    known = len(body.arguments)
    grow(body, b.integer(1, 6))
    news = [_new_carry(body, x) for x in carried]
    stacked = [body.pick(lambda x: x.type.dtype == b.dtype) for _ in range(b.choose([0, 1, 2]))]
    # What the body asked for besides stands after the constants.
    operands = [_outside(b, x.type, x.bound) for x in carried]
    operands += [_outside(b, x.type.with_shape((length, *x.type.shape)), x.bound) for x in scanned]
    operands += [_outside(b, x.type, x.bound) for x in constants]
    operands += [b.argument(x.type.shape, x.type.dtype, x.bound) for x in body.arguments[known:]]
    b.scan(
        body.program([*news, *stacked], {}),
        operands,
        carries=len(carried),
        scanned=len(scanned),
        length=length,
        reverse=b.coin(),
    )


def _new_carry(body: Builder, x: Value) -> Value:
    """A value of the body that fits a carry, no larger than the carry may be."""
    try:
        new = body.pick(lambda y: y.type == x.type and y.number != x.number)
    except Unfit:
        new = x
    return body.op("tanh", new, bound=1.0, exact=False)


def _outside(b: Builder, kind: TensorType, bound: float) -> Value:
    """A value of the program for a loop's operand."""
    try:
        return b.pick(lambda x: x.type == kind and x.exact and x.bound <= bound)
    except Unfit:
        return b.argument(kind.shape, kind.dtype, bound)


def grow(b: Builder, count: int) -> None:
    """Adds about `count` random steps."""
    for _ in range(count):
        chosen = b.choose(STEPS)
        try:
            chosen(b)
        except Unfit:
            continue
