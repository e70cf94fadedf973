"""Reductions: torch's dims and keepdim as the dialect's axes and a reshape."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from math import prod

from ..build import compute_dtype
from ..importer import Builder, NoRule, Value, rule
from ..mlir import TensorType

Dims = int | Sequence[int] | None


def axes_of(x: Value, dim: Dims) -> tuple[int, ...]:
    """Axes that torch's `dim` names; None and [] name all."""
    rank = TensorType.of(x).rank
    dims = (dim,) if isinstance(dim, int) else tuple(dim or range(rank))
    return tuple(sorted(axis % rank for axis in dims)) if rank else ()


def reduce(b: Builder, name: str, x: Value, axes: Sequence[int], keepdim: bool = False) -> Value:
    """keras.<name> over `axes` (none: x itself), the axes kept as extents of 1 if so asked."""
    shape = TensorType.of(x).shape
    y = b.emit(name, x, axes=tuple(axes)) if axes else x
    return b.reshape(y, [1 if i in axes else n for i, n in enumerate(shape)]) if keepdim else y


def _reduction(
    name: str,
    b: Builder,
    x: Value,
    dim: Dims = None,
    keepdim: bool = False,
    dtype: object = None,
) -> Value:
    return reduce(b, name, b.cast(x, b.result.dtype), axes_of(x, dim), keepdim)


def _whole(name: str, b: Builder, x: Value, dtype: object = None) -> Value:
    return _reduction(name, b, x)


rule("aten.sum.dim_IntList")(partial(_reduction, "sum"))
rule("aten.sum.default")(partial(_whole, "sum"))
rule("aten.prod.dim_int")(partial(_reduction, "prod"))
rule("aten.prod.default")(partial(_whole, "prod"))


def _extreme(name: str, b: Builder, x: Value, dim: Dims = None, keepdim: bool = False) -> Value:
    if TensorType.of(x).dtype == "i1":
        name = {"max": "any", "min": "all"}[name]
    return _reduction(name, b, x, dim, keepdim)


rule("aten.amax.default", "aten.max.default")(partial(_extreme, "max"))
rule("aten.amin.default", "aten.min.default")(partial(_extreme, "min"))


def _extreme_with_index(
    name: str, b: Builder, x: Value, dim: int, keepdim: bool = False
) -> list[Value]:
    kind = TensorType.of(x)
    if not kind.rank:
        raise NoRule(f"no dialect op for the index of a {name} in {kind}")
    y = _extreme(name, b, x, dim, keepdim)
    if kind.dtype == "i1":
        x = b.cast(x, "i32")
    return [y, _arg(f"arg{name}", b, x, dim, keepdim)]


rule("aten.max.dim")(partial(_extreme_with_index, "max"))
rule("aten.min.dim")(partial(_extreme_with_index, "min"))


def _arg(name: str, b: Builder, x: Value, dim: int | None = None, keepdim: bool = False) -> Value:
    kind = TensorType.of(x)
    if not kind.rank:
        return b.scalar(0, "i64")
    flat, axis = (b.reshape(x, (kind.size,)), 0) if dim is None else (x, dim % kind.rank)
    y = b.emit(name, flat, axis=axis)
    if not keepdim:
        return y
    kept = [1 if dim is None or i == axis else n for i, n in enumerate(kind.shape)]
    return b.reshape(y, kept)


rule("aten.argmax.default")(partial(_arg, "argmax"))
rule("aten.argmin.default")(partial(_arg, "argmin"))


def _test(name: str, b: Builder, x: Value, dim: Dims = None, keepdim: bool = False) -> Value:
    return reduce(b, name, b.cast(x, "i1"), axes_of(x, dim), keepdim)


for _name in ("any", "all"):
    rule(*(f"aten.{_name}.{kind}" for kind in ("default", "dim", "dims")))(partial(_test, _name))


def mean(b: Builder, x: Value, axes: Sequence[int], keepdim: bool) -> Value:
    """The sum over `axes` divided by how many elements it sums; half types sum in float32."""
    kind = TensorType.of(x)
    wide = compute_dtype(kind.dtype)
    total = reduce(b, "sum", b.cast(x, wide), axes, keepdim)
    count = prod(kind.shape[axis] for axis in axes)
    return b.cast(b.emit("div", total, b.scalar(count, wide)), kind.dtype)


@rule("aten.mean.dim", "aten.mean.default")
def _mean(
    b: Builder, x: Value, dim: Dims = None, keepdim: bool = False, dtype: object = None
) -> Value:
    return mean(b, b.cast(x, b.result.dtype), axes_of(x, dim), keepdim)


def _var_mean(
    b: Builder, x: Value, dim: Dims, correction: float | None, keepdim: bool
) -> tuple[Value, Value]:
    """Variance and mean in two passes, so that no large squares cancel."""
    kind = TensorType.of(x)
    wide = compute_dtype(kind.dtype)
    axes = axes_of(x, dim)
    centre = mean(b, b.cast(x, wide), axes, keepdim=True)
    off = b.emit("sub", b.cast(x, wide), centre)
    total = reduce(b, "sum", b.emit("mul", off, off), axes, keepdim)
    count = prod(kind.shape[axis] for axis in axes)
    freedom = max(count - (1 if correction is None else correction), 0)
    variance = b.emit("div", total, b.scalar(freedom, wide))
    shape = TensorType.of(variance).shape
    return b.cast(variance, kind.dtype), b.cast(b.reshape(centre, shape), kind.dtype)


@rule("aten.var_mean.correction")
def _var_mean_correction(
    b: Builder,
    x: Value,
    dim: Dims = None,
    correction: float | None = None,
    keepdim: bool = False,
) -> tuple[Value, Value]:
    return _var_mean(b, x, dim, correction, keepdim)


@rule("aten.var.correction")
def _var(
    b: Builder,
    x: Value,
    dim: Dims = None,
    correction: float | None = None,
    keepdim: bool = False,
) -> Value:
    return _var_mean(b, x, dim, correction, keepdim)[0]


@rule("aten.linalg_vector_norm.default")
def _vector_norm(
    b: Builder,
    x: Value,
    ord: float = 2,
    dim: Dims = None,
    keepdim: bool = False,
    dtype: object = None,
) -> Value:
    if ord not in (1, 2):
        raise NoRule(f"no dialect form of a vector norm of order {ord}")
    x, axes = b.cast(x, b.result.dtype), axes_of(x, dim)
    if ord == 1:
        return reduce(b, "sum", b.emit("abs", x), axes, keepdim)
    return b.emit("sqrt", reduce(b, "sum", b.emit("mul", x, x), axes, keepdim))
