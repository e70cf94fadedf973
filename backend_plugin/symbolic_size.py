"""A size of the data that a captured step leaves open: which axes have it, and for which sizes it holds.

torch traces such a step with one symbol for the size, and notes as a guard whatever the step asked about
it on the way (whether it is even, above 3, ...). A graph holds for every size that its guards allow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, wraps
from typing import Any, TypeAlias

import sympy
import torch
from keras.src.backend.common import dtypes
from torch._dynamo.source import ConstantSource
from torch._subclasses.fake_impls import register_op_impl
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import DimDynamic, ShapeEnv
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from keras_triton.lowering.errors import SizeError

from .provenance import patched

Axes: TypeAlias = Mapping[int, tuple[int, ...]]
"""Which axes of which tensors of a call have the size."""

LEAST = 2
"""The least size that one graph serves with others: torch and Keras treat an axis of extent 1 apart."""


@dataclass(frozen=True)
class Size:
    """The open size of a captured step.

    Attributes:
        place: a data input and an axis of it that has the size.
        called: the size of the call that it was traced for. It need not hold for that: an axis of
            extent 1 may come of it.
        holds: whether the graph computes what the step does for a size.
    """

    place: tuple[int, int]
    called: int
    holds: Callable[[int], bool]

    def of(self, tensors: Sequence[torch.Tensor]) -> int:
        """The size in a call with these data inputs."""
        position, axis = self.place
        return tensors[position].shape[axis]


class OpenSize:
    """The size while a step is traced.

    Args:
        axes: where it is; at least one place.
        tensors: of the call that the step is traced for.
    """

    def __init__(self, axes: Axes, tensors: Sequence[torch.Tensor]) -> None:
        (self.called,) = {tensors[i].shape[axis] for i, found in axes.items() for axis in found}
        self.axes = axes
        # A size like no other, for which no two sizes are equal by chance.
        hint = sympy.nextprime(max(self.called, *(n for x in tensors for n in x.shape), 4))
        self.environment = ShapeEnv(duck_shape=False)
        source = ConstantSource("size")
        self.symbol = self.environment.create_symbol(
            int(hint), source=source, dynamic_dim=DimDynamic.DYNAMIC
        )
        self.number = self.environment.create_symintnode(self.symbol, hint=int(hint), source=source)

    def fake_mode(self) -> FakeTensorMode:
        return FakeTensorMode(allow_non_fake_inputs=True, shape_env=self.environment)

    def empty_like(self, position: int, tensor: torch.Tensor) -> torch.Tensor:
        """A fresh tensor like one of the call, of the open size."""
        axes = self.axes.get(position, ())
        shape = [self.number if i in axes else n for i, n in enumerate(tensor.shape)]
        return torch.empty(shape, dtype=tensor.dtype, device=tensor.device)

    def close(self) -> Size:
        """What the trace leaves of the size.

        Raises:
            SizeError: the graph holds for the one size only that it was traced for.
        """
        guards = self.environment.guards
        if self.symbol in self.environment.replacements:
            fixed = next((g for g in guards if isinstance(g.expr, sympy.Eq)), None)
            where = f" ({fixed.sloc})" if fixed else ""
            raise SizeError(f"a number is made of the size of the data{where}")
        conditions = [guard.expr for guard in guards]
        if any(condition.free_symbols - {self.symbol} for condition in conditions):
            raise SizeError("sizes depend on the values of tensors")
        place = next((position, axes[0]) for position, axes in self.axes.items() if axes)

        @cache  # it is asked in every call
        def holds(size: int) -> bool:
            known = {self.symbol: sympy.Integer(size)}
            return size >= LEAST and all(
                condition.xreplace(known) == sympy.true for condition in conditions
            )

        return Size(place, self.called, holds)


@register_op_impl(torch.ops.aten.constant_pad_nd.default)
def _padded(
    mode: FakeTensorMode, op: Any, x: torch.Tensor, pad: Sequence[int], value: Any = 0
) -> Any:
    """The one op met so far whose shape torch cannot tell where sizes are symbolic."""
    if not any(isinstance(n, torch.SymInt) for n in x.shape):
        return NotImplemented
    shape = list(x.shape)
    for position in range(0, len(pad), 2):
        shape[-1 - position // 2] += pad[position] + pad[position + 1]
    return x.new_empty(shape)


@contextmanager
def sizes_as_numbers() -> Iterator[None]:
    """What Keras does with sizes of tensors works with open ones."""
    with _SizesAsTensors(), patched(dtypes, "_dtype_and_weaktype", _weak):
        yield


def _weak(original: Callable) -> Callable:
    """An open size has the type of a Python integer, which is weak in Keras's promotion of types."""

    @wraps(original)
    def kind(value: Any) -> Any:
        return original(int if value is torch.SymInt else value)

    return kind


class _SizesAsTensors(TorchFunctionMode):
    """Makes tensors of open sizes by ops: torch's own constructors would read their value.

    Keras asks for one in every loss, `convert_to_tensor(shape(values))`.
    """

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func in (torch.tensor, torch.as_tensor) and _is_open(args[0]):
            return _made(args[0], kwargs.get("dtype"), kwargs.get("device"))
        return func(*args, **kwargs)


def _is_open(value: Any) -> bool:
    return any(isinstance(leaf, torch.SymInt) for leaf in _leaves(value))


def _leaves(value: Any) -> Iterator[Any]:
    return iter(tree_leaves(list(value) if isinstance(value, torch.Size) else value))


def _made(value: Any, dtype: torch.dtype | None, device: Any) -> torch.Tensor:
    if isinstance(value, list | tuple):
        return torch.stack([_made(item, dtype, device) for item in value])
    return torch.scalar_tensor(value, dtype=dtype or torch.int64, device=device)
