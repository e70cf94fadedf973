"""Row ops spelled out in pointwise ops, reductions and broadcasts: what a target without a template
for them compiles. Half types compute in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from mlir import ir

from . import dialect
from .build import Algebra, OpBuilder, Value, compute_dtype
from .errors import DialectError
from .mlir import TensorType, context, functions, parse, text

Attributes = dialect.Attributes
DECOMPOSITIONS: dict[str, Callable[..., Sequence[Value]]] = {}


def decomposes(name: str) -> Callable[[Callable[..., Sequence[Value]]], Callable]:
    """Registers the decomposition of `keras.<name>`: from `_Rows`, operands and attributes, its
    results in the compute dtype. A second one for an op is refused.
    """

    def register(function: Callable[..., Sequence[Value]]) -> Callable[..., Sequence[Value]]:
        if name in DECOMPOSITIONS:
            raise DialectError(f"keras.{name} has two decompositions")
        DECOMPOSITIONS[name] = function
        return function

    return register


def decompose_module(module: ir.Module, names: Iterable[str]) -> ir.Module:
    """A copy of the module in which no op of `names` is left.

    Raises:
        DialectError: a name without a decomposition.
    """
    wanted = {f"keras.{name}" for name in names}
    with context(), ir.Location.unknown():
        copied = parse(text(module))
        for function in functions(copied).values():
            for op in list(dialect.walk(function.operation)):
                if op.name in wanted:
                    decompose(op)
    return copied


def decompose(op: ir.Operation) -> None:
    """Replaces the op, in its place, by ops that mean the same.

    Raises:
        DialectError: the op has no decomposition.
    """
    name = op.name.removeprefix("keras.")
    if name not in DECOMPOSITIONS:
        raise DialectError(
            f"{op.name} has no decomposition; these have: {', '.join(sorted(DECOMPOSITIONS))}"
        )
    with context(), op.location, ir.InsertionPoint(op):
        kind = TensorType.of(op.operands[0])
        rows = _Rows(OpBuilder(op.location), kind)
        made = DECOMPOSITIONS[name](
            rows, *map(rows.widen, op.operands), **dialect.attributes_of(op)
        )
        for result, value in zip(op.results, made, strict=True):
            result.replace_all_uses_with(rows.builder.cast(value, TensorType.of(result).dtype))
    op.erase()


class _Rows(Algebra):
    """Arithmetic on tensors of one shape in the compute dtype, with reductions of the last axis."""

    def __init__(self, builder: OpBuilder, kind: TensorType) -> None:
        super().__init__(builder, compute_dtype(kind.dtype) if kind.is_float else kind.dtype)
        self.kind, self.shape = kind, kind.shape

    def widen(self, x: Value) -> Value:
        """Floats in the compute dtype; anything else as it is."""
        return self.builder.cast(x, self.dtype) if TensorType.of(x).is_float else x

    def fold(self, name: str, x: Value) -> Value:
        """A value a row: the reduction `name` of the last axis."""
        return self.builder.emit(name, x, axes=(len(self.shape) - 1,))

    def spread(self, row: Value, axis: int | None = None) -> Value:
        """A value a row at every element of the row along `axis` (the last)."""
        axis = len(self.shape) - 1 if axis is None else axis
        dims = [i for i in range(len(self.shape)) if i != axis]
        return self.builder.emit("broadcast_in_dim", row, shape=self.shape, dims=dims)

    def mean(self, x: Value) -> Value:
        return self.div(self.fold("sum", x), self.shape[-1])

    def places(self, axis: int, dtype: str = "i64") -> Value:
        """Each element's index along `axis`."""
        return self.builder.emit("iota", shape=self.shape, axis=axis, dtype=dtype)


@decomposes("softmax")
def _softmax(k: _Rows, x: Value) -> list[Value]:
    e = k.exp(k.sub(x, k.spread(k.fold("max", x))))
    return [k.div(e, k.spread(k.fold("sum", e)))]


@decomposes("softmax_grad")
def _softmax_grad(k: _Rows, g: Value, y: Value) -> list[Value]:
    return [k.mul(y, k.sub(g, k.spread(k.fold("sum", k.mul(g, y)))))]


@decomposes("log_softmax")
def _log_softmax(k: _Rows, x: Value) -> list[Value]:
    shifted = k.sub(x, k.spread(k.fold("max", x)))
    return [k.sub(shifted, k.spread(k.log(k.fold("sum", k.exp(shifted)))))]


@decomposes("log_softmax_grad")
def _log_softmax_grad(k: _Rows, g: Value, y: Value) -> list[Value]:
    return [k.sub(g, k.mul(k.exp(y), k.spread(k.fold("sum", g))))]


@decomposes("layer_norm")
def _layer_norm(k: _Rows, x: Value, weight: Value, bias: Value, epsilon: float) -> list[Value]:
    mean = k.mean(x)
    off = k.sub(x, k.spread(mean))
    rstd = k.rsqrt(k.add(k.mean(k.mul(off, off)), epsilon))
    return [k.add(k.mul(k.mul(off, k.spread(rstd)), weight), bias), mean, rstd]


@decomposes("layer_norm_grad")
def _layer_norm_grad(
    k: _Rows, g: Value, x: Value, mean: Value, rstd: Value, weight: Value
) -> list[Value]:
    scale = k.spread(rstd)
    z = k.mul(k.sub(x, k.spread(mean)), scale)
    gw = k.mul(g, weight)
    common = k.add(k.spread(k.mean(gw)), k.mul(z, k.spread(k.mean(k.mul(gw, z)))))
    dx = k.mul(k.sub(gw, common), scale)
    rows = tuple(range(len(k.shape) - 1))
    totals = [k.mul(g, z), g]
    if rows:
        totals = [k.builder.emit("sum", total, axes=rows) for total in totals]
    return [dx, *totals]


@decomposes("cross_entropy")
def _cross_entropy(k: _Rows, logits: Value, target: Value) -> list[Value]:
    most = k.fold("max", logits)
    # Rows whose maximum is infinite keep their own scale: inf - inf would be NaN.
    shift = k.select(k.isinf(most), 0, most)
    lse = k.add(shift, k.log(k.fold("sum", k.exp(k.sub(logits, k.spread(shift))))))
    hot = k.eq(k.places(1), k.spread(target))
    return [k.sub(lse, k.fold("sum", k.select(hot, logits, 0))), lse]


@decomposes("cross_entropy_grad")
def _cross_entropy_grad(
    k: _Rows, g: Value, logits: Value, target: Value, lse: Value
) -> list[Value]:
    k = _Rows(k.builder, TensorType.of(logits))
    probabilities = k.exp(k.sub(logits, k.spread(lse)))
    hot = k.eq(k.places(1), k.spread(target))
    return [k.mul(k.spread(g), k.select(hot, k.sub(probabilities, 1), probabilities))]


def _arg(extreme: str) -> Callable[..., list[Value]]:
    """The least index at which the extreme (or a NaN, which torch counts as it) stands."""

    def arg(k: _Rows, x: Value, axis: int) -> list[Value]:
        found = k.builder.emit(extreme, x, axes=(axis,))
        hit = k.eq(x, k.spread(found, axis))
        if k.kind.is_float:
            hit = k.logical_or(hit, k.isnan(x))
        beyond = k.builder.scalar(k.shape[axis], "i64")
        return [k.builder.emit("min", k.select(hit, k.places(axis), beyond), axes=(axis,))]

    return arg


decomposes("argmax")(_arg("max"))
decomposes("argmin")(_arg("min"))


@decomposes("dropout")
def _dropout(k: _Rows, x: Value, key: Value, rate: float) -> list[Value]:
    draw = k.builder.emit("random_uniform", key, shape=k.shape)
    kept = k.builder.emit("ge", draw, k.builder.scalar(rate, "f32"))
    return [k.select(kept, k.div(x, 1 - rate), 0)]
