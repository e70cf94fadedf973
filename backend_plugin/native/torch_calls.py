"""Calls of torch's ops as instructions for the driver, through torch's stable C interface.

An op's schema says how each argument is handed over. The tensors of a call are views of a launch's
operands, or results of other calls.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from math import prod
from typing import Any, TypeAlias

import torch

from keras_triton.lowering.emit_llvm.driver import DEPTH, driver, dtype_code
from keras_triton.lowering.extern import parse_target
from keras_triton.lowering.mlir import TensorType

from .entry import Entry, NoEntryError
from .words import Words, float64

Instruction: TypeAlias = tuple[str, int | Words]


@dataclass(frozen=True)
class View:
    """A tensor in the memory of an operand.

    Attributes:
        entry: which of the launch's operands, inputs first.
        strides: in elements.
    """

    entry: int
    dtype: torch.dtype
    sizes: tuple[int, ...]
    strides: tuple[int, ...]

    @classmethod
    def of(cls, entry: int, kind: TensorType) -> View:
        return cls(entry, kind.torch_dtype, (), ()).reshaped(*kind.shape)

    def reshaped(self, *sizes: int) -> View:
        """The memory in other sizes, row by row."""
        strides = tuple(prod(sizes[axis + 1 :]) for axis in range(len(sizes)))
        return replace(self, sizes=tuple(map(int, sizes)), strides=strides)

    def transposed(self) -> View:
        """The last two axes in the other order."""
        axes = range(len(self.sizes))
        return self.permuted(*axes[:-2], axes[-1], axes[-2])

    def permuted(self, *axes: int) -> View:
        sizes, strides = (tuple(of[axis] for axis in axes) for of in (self.sizes, self.strides))
        return replace(self, sizes=sizes, strides=strides)

    def expanded(self, *sizes: int) -> View:
        """The same as often as broadcasting to `sizes` asks for."""
        missing = len(sizes) - len(self.sizes)
        old = (1,) * missing + self.sizes, (0,) * missing + self.strides
        strides = (
            stride if have == wanted else 0
            for have, stride, wanted in zip(*old, sizes, strict=True)
        )
        return replace(self, sizes=sizes, strides=tuple(strides))

    @property
    def words(self) -> Words:
        return Words(self.entry, _code(self.dtype), len(self.sizes), *self.sizes, *self.strides)


@dataclass(frozen=True)
class TorchCall:
    """A call of an op, named as `target_name` does, on views, calls with one result, and plain values."""

    target: str
    args: Sequence[Any]
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    def arguments(self) -> Iterator[tuple[Any, Any]]:
        """Each argument of the op's schema with its value."""
        positional = iter(self.args)
        for argument in parse_target(self.target)._schema.arguments:
            if argument.name in self.kwargs:
                yield argument, self.kwargs[argument.name]
            elif argument.kwarg_only:
                yield argument, argument.default_value
            else:
                yield argument, next(positional, argument.default_value)


_HANDED_OVER: dict[str, tuple[type, ...]] = {
    "Tensor": (View, TorchCall),
    "int": (int, torch.dtype),
    "bool": (bool,),
    "float": (float, int),
    "str": (str,),
    "List[int]": (list, tuple, int),
    "List[bool]": (list, tuple),
}
"""Types of arguments that can be handed over, by themselves or as optional, and values for them. (Torch's
Python makes tensors of numbers, too.)"""


def entry_of(call: TorchCall, results: Sequence[View | None]) -> Entry:
    """The launch that makes a call and copies its results to where they belong; None drops one.

    Raises:
        NoEntryError: torch cannot be called so.
    """
    lacking = driver().lacks["torch"]
    if lacking:
        raise NoEntryError(f"torch {torch.__version__} has no {lacking}")
    listed = list(_called(call))
    returned = parse_target(call.target)._schema.returns
    if len(returned) != len(results) or any(str(item.type) != "Tensor" for item in returned):
        raise NoEntryError(f"{call.target} does not return {len(results)} tensors")
    for view in reversed(results):
        listed.append(("drop", 0) if view is None else ("store", view.words))
    words = [part for name, operand in listed for part in (driver().address(name), operand)]
    return Entry("torch", Words(len(listed), Words(*words)))


def _called(call: TorchCall) -> Iterator[Instruction]:
    """Leaves the results of a call on the stack."""
    count = 0
    for argument, value in call.arguments():
        kind = str(argument.type)
        if value is None:
            if not kind.startswith("Optional["):
                raise NoEntryError(f"{call.target} is called without its {argument.name}")
            yield "push", 0
        else:
            plain = kind.removeprefix("Optional[").removesuffix("]" if "Optional" in kind else "")
            if not isinstance(value, _HANDED_OVER.get(plain, ())):
                raise NoEntryError(f"{call.target} takes {argument.real_type} for {argument.name}")
            yield from _pushed(plain, value, argument.N)
            if plain != kind:
                yield "wrap", 0
        count += 1
    if count > DEPTH // 2:
        raise NoEntryError(f"{call.target} takes {count} arguments")
    namespace, _, rest = call.target.partition(".")
    name, _, overload = rest.rpartition(".")
    overload = overload.removeprefix("default")
    results = len(parse_target(call.target)._schema.returns)
    texts = f"{namespace}::{name}".encode(), overload.encode()
    yield "call", Words(*texts, count, results)


def _pushed(kind: str, value: Any, length: int | None) -> Iterator[Instruction]:
    """An argument of one of the plain types."""
    if kind == "Tensor":
        if isinstance(value, TorchCall):
            yield from _called(value)
        else:
            yield "view", value.words
    elif kind.startswith("List"):
        values = list(value) if isinstance(value, list | tuple) else [value] * (length or 1)
        yield "integers", Words(len(values), *map(int, values))
    elif kind == "str":
        text = value.encode()
        yield "string", Words(text, len(text))
    elif kind == "float":
        yield "push", float64(value)
    else:
        yield "push", _code(value) if isinstance(value, torch.dtype) else int(value)


@cache
def _code(dtype: torch.dtype) -> int:
    """A dtype's number in torch's C interface.

    Raises:
        NoEntryError: it has none.
    """
    code = dtype_code(str(dtype).removeprefix("torch."))
    if code is None:
        raise NoEntryError(f"torch's C interface has no {dtype}")
    return code
