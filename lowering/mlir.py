"""The one place that touches MLIR's context: parsing, printing, and the types tensors have in it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from math import prod

import torch
from mlir import ir
from torch.utils._sympy.functions import ToFloat

from .errors import DialectError, SizeError
from .sizes import PRIME, extent, is_symbolic

TORCH_DTYPES: dict[str, torch.dtype] = {
    "f64": torch.float64,
    "f32": torch.float32,
    "f16": torch.float16,
    "bf16": torch.bfloat16,
    "i64": torch.int64,
    "i32": torch.int32,
    "i16": torch.int16,
    "i8": torch.int8,
    "i1": torch.bool,
}
# Tensors of these only pass from one call of torch to another: no op of the dialect takes them.
OPAQUE: dict[str, torch.dtype] = {
    "ui8": torch.uint8,
    "f8E4M3FN": torch.float8_e4m3fn,
    "f8E5M2": torch.float8_e5m2,
    "complex<f32>": torch.complex64,
    "complex<f64>": torch.complex128,
}
DTYPE_NAMES: dict[torch.dtype, str] = {
    dtype: name for name, dtype in (TORCH_DTYPES | OPAQUE).items()
}
FLOATS = ("f64", "f32", "f16", "bf16")
BITS = {
    "f64": 64,
    "f32": 32,
    "f16": 16,
    "bf16": 16,
    "i64": 64,
    "i32": 32,
    "i16": 16,
    "i8": 8,
    "i1": 1,
}


@dataclass(frozen=True)
class TensorType:
    """A ranked tensor of static `shape` (elements) and `dtype` (an MLIR type's name, such as "f32")."""

    shape: tuple[int, ...]
    dtype: str

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes in memory; a bool takes one."""
        return self.size * self.torch_dtype.itemsize

    @property
    def is_float(self) -> bool:
        return self.dtype in FLOATS

    @property
    def is_opaque(self) -> bool:
        """Whether only torch computes with it."""
        return self.dtype in OPAQUE

    @property
    def torch_dtype(self) -> torch.dtype:
        return (OPAQUE if self.is_opaque else TORCH_DTYPES)[self.dtype]

    def with_dtype(self, dtype: str) -> TensorType:
        return TensorType(self.shape, dtype)

    def with_shape(self, shape: Sequence[int]) -> TensorType:
        return TensorType(tuple(map(extent, shape)), self.dtype)

    def __str__(self) -> str:
        return f"tensor<{''.join(f'{n}x' for n in self.shape)}{self.dtype}>"

    def to_mlir(self) -> ir.RankedTensorType:
        """The MLIR type, in the current context."""
        return ir.Type.parse(str(self))

    @classmethod
    def of(cls, type_or_value: ir.Type | ir.Value) -> TensorType:
        """The type of an MLIR value or type (tensor or memref of static shape).

        Raises:
            DialectError: not a ranked, static tensor of a supported element type.
        """
        return _of_type(
            type_or_value.type if isinstance(type_or_value, ir.Value) else type_or_value
        )

    @classmethod
    def of_torch(cls, tensor: torch.Tensor) -> TensorType:
        """The type of a torch tensor, whose shape may be symbolic.

        Raises:
            DialectError: its dtype has no name in the dialect.
            SizeError: an extent is no polynomial of one size.
        """
        if tensor.dtype not in DTYPE_NAMES:
            raise DialectError(
                f"{tensor.dtype} has no type in the keras dialect; it knows {_known()}"
            )
        return cls(tuple(map(number_of, tensor.shape)), DTYPE_NAMES[tensor.dtype])


SYMBOLIC = (torch.SymInt, torch.SymFloat)


def number_of(number: int | torch.SymInt | torch.SymFloat) -> int:
    """A number of a captured graph as modules write it (sizes.py).

    Raises:
        SizeError: it is no polynomial of one size.
    """
    if not isinstance(number, SYMBOLIC):
        return extent(int(number))
    # A float that is made of whole numbers is one.
    formula = number.node.expr.replace(ToFloat, lambda whole: whole)
    formula = formula.replace(
        lambda part: part.is_Float and part == int(part), lambda part: int(part)
    )
    if not formula.free_symbols:
        return int(formula)
    if len(formula.free_symbols) > 1 or not formula.is_polynomial():
        raise SizeError(f"{formula} is no sum of products of one size")
    return extent(int(formula.subs(dict.fromkeys(formula.free_symbols, PRIME))))


_TYPE = re.compile(r"^(?:tensor|memref)<((?:\d+x)*)([a-z]\w*(?:<f\d+>)?)[,>]")


def _known() -> str:
    return ", ".join(DTYPE_NAMES.values())


@cache
def _of_type(kind: ir.Type) -> TensorType:
    # To print a type takes ten times as long as to look it up, and lowering asks ten thousands of times.
    text = str(kind)
    match = _TYPE.match(text)
    if match is None or not (match[2] in TORCH_DTYPES or match[2] in OPAQUE):
        raise DialectError(f"{text} is not a static tensor of {_known()}")
    return TensorType(tuple(extent(int(n)) for n in match[1].split("x") if n), match[2])


@cache
def context() -> ir.Context:
    """The process's MLIR context, with the `keras` dialect loaded.

    Loading an IRDL dialect twice in one context aborts the process, hence one context for all.
    """
    from . import dialect  # the dialect's definition is text made from its op table

    made = ir.Context()
    # A message of MLIR's own threads reaches the bindings without Python's lock: that aborts.
    made.enable_multithreading(False)
    with made, ir.Location.unknown():
        dialect.load()
    return made


def parse(text: str) -> ir.Module:
    """The module that `text` spells, verified by MLIR and by the dialect's own verifiers.

    Raises:
        DialectError: the text does not parse or an op breaks its contract.
    """
    module = parse_verified(text)
    verify(module)
    return module


def verify(module: ir.Module) -> None:
    """Looks whether every op keeps its contract. Builders infer the types of what they make, so what a
    pass of the compiler gives is not looked at again.

    Raises:
        DialectError: an op does not; the sentence names it, its types and its layer.
    """
    from . import dialect, loops

    with context(), ir.Location.unknown():
        dialect.verify(module)
        loops.verify(module)


def copied(module: ir.Module) -> ir.Module:
    """The module again, for a pass to change."""
    with context(), ir.Location.unknown():
        made = ir.Module.create()
        for named in module.operation.attributes:
            made.operation.attributes[named] = module.operation.attributes[named]
        end = ir.InsertionPoint(made.body)
        for op in module.body.operations:
            op.operation.clone(end)
    return made


def parse_verified(text: str) -> ir.Module:
    """The module of a text that `text` gave for a verified module: only MLIR looks at it again.

    Raises:
        DialectError: the text does not parse.
    """
    with context(), ir.Location.unknown():
        try:
            return ir.Module.parse(text)
        except ir.MLIRError as error:
            raise DialectError(f"this is no module of the compiler: {error}") from None


def text(module: ir.Module) -> str:
    """The module's text with locations: all that later stages need, and what `parse` reads."""
    return module.operation.get_asm(enable_debug_info=True, large_elements_limit=None)


def stage_of(module: ir.Module) -> str:
    """The stage a module says it is in: "keras", "linalg", "regions" or "plan"."""
    if "keras.stage" not in module.operation.attributes:
        raise DialectError("the module has no keras.stage attribute, so its stage is unknown")
    return ir.StringAttr(module.operation.attributes["keras.stage"]).value


def is_sized(module: ir.Module) -> bool:
    """Whether an argument of the module's `@main` has a symbolic size."""
    main = functions(module).get("main")
    kinds = main.type.inputs if main else ()
    return any(is_symbolic(*TensorType.of(kind).shape) for kind in kinds)


def layer_of(op: ir.Operation | ir.OpView) -> str:
    """The Keras layer an op's location names ("sequential/dense"), or "" if it names none."""
    match = re.match(r'^loc\("([^"]*)"(?:\(.*\))?\)$', str(op.location))
    return match[1] if match else ""


def callee(op: ir.Operation | ir.OpView) -> str:
    """The function that a `func.call` calls, "" for any other op."""
    if op.operation.name != "func.call":
        return ""
    return ir.FlatSymbolRefAttr(op.operation.attributes["callee"]).value


def functions(module: ir.Module | ir.OpView) -> dict[str, ir.OpView]:
    """The functions directly inside a module, by name, in order."""
    found = {}
    for op in module.body.operations:
        if op.operation.name == "func.func":
            found[ir.StringAttr(op.attributes["sym_name"]).value] = op
    return found
