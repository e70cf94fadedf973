"""The bodies of stages as scalar code for the CPU: one table a family of ops.

bfloat16 values are their 16 bits in an i16 throughout: the conversions are integer arithmetic,
exact on denormals (AVX512-BF16 instructions flush them) and the same on every machine. Booleans are
i1, in memory one byte. `index` values are i64.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from mlir import ir

from ..errors import EmitError
from ..lookups import LOOKUP, Lookup
from ..mlir import layer_of
from ..region import Stage
from . import polynomials
from .text import Code, float_bits

_FLAGS = "fastmath<reassoc,contract,nsz>"
_FOLDS = {"arith.addf", "arith.mulf", "arith.maximumf", "arith.minimumf"}
_ROUNDING = {"arith.addf", "arith.mulf"}
_PASS_BITS = ("arith.select", "arith.bitcast")
_INTRINSICS = {
    "math.sqrt": "sqrt",
    "math.absf": "fabs",
    "math.floor": "floor",
    "math.ceil": "ceil",
    "math.trunc": "trunc",
    "math.roundeven": "roundeven",
    "math.copysign": "copysign",
    "math.fma": "fma",
}
# What has no inline polynomial calls libm, a scalar at a time.
_LIBM = {
    f"math.{name}": name
    for name in [
        "exp",
        "exp2",
        "expm1",
        "log",
        "log2",
        "log10",
        "log1p",
        "tanh",
        "erf",
        "sin",
        "cos",
        "tan",
        "atan",
        "sinh",
        "cosh",
        "asin",
        "acos",
        "atan2",
    ]
} | {"math.powf": "pow"}
_EXPENSIVE = {f"math.{name}" for name in polynomials.INLINE} | set(_LIBM)


def kind_of(mlir_type: str) -> str:
    """The type that holds a value of a body: bf16 as i16, index as i64."""
    return {"bf16": "i16", "index": "i64"}.get(mlir_type, mlir_type)


def stored_kind(dtype: str) -> str:
    """The type of one element in memory."""
    return {"i1": "i8"}.get(dtype, kind_of(dtype))


def load(code: Code, pointer: str, dtype: str) -> str:
    """The element at an address, as bodies hold it."""
    value = code.load(pointer, stored_kind(dtype))
    return code.let(f"arith.trunci {value} : i8 to i1") if dtype == "i1" else value


def store(code: Code, value: str, pointer: str, dtype: str) -> None:
    if dtype == "i1":
        value = code.let(f"arith.extui {value} : i1 to i8")
    code.store(value, pointer, stored_kind(dtype))


def is_expensive(stage: Stage) -> bool:
    """Whether a value of the stage is cheaper to keep in cache than to compute again."""
    return any(op.operation.name in _EXPENSIVE for op in stage.block.operations)


def uses_index(stage: Stage) -> bool:
    return any(op.operation.name == "linalg.index" for op in stage.block.operations)


def neutral(code: Code, combiner: str, dtype: str) -> str:
    """What a reduction starts from."""
    bits = int(dtype[1:]) if dtype.startswith("i") else 0
    value = {
        "arith.addf": 0.0,
        "arith.mulf": 1.0,
        "arith.maximumf": float("-inf"),
        "arith.minimumf": float("inf"),
        "arith.addi": 0,
        "arith.muli": 1,
        "arith.maxsi": -(1 << max(bits - 1, 0)),
        "arith.minsi": (1 << max(bits - 1, 0)) - 1,
        "arith.andi": -1,
        "arith.ori": 0,
    }[combiner]
    return _constant(code, value, dtype)


def fold(code: Code, combiner: str, dtype: str, total: str, value: str) -> str:
    """One step of a reduction; its order is free, so that it vectorizes."""
    wide = _wide(combiner, dtype)
    if wide != dtype and combiner in _ROUNDING:
        raise EmitError(f"a sum or product in {dtype}; they accumulate in f32")
    flags = f" {_FLAGS}" if combiner in _FOLDS else ""
    operands = ", ".join(convert_float(code, item, dtype, wide) for item in (total, value))
    folded = code.let(f"{combiner} {operands}{flags} : {kind_of(wide)}")
    return convert_float(code, folded, wide, dtype)


class Point(Protocol):
    """Where a body is written: what it can ask for beside its inputs."""

    def domain_index(self, dim: int) -> str:
        """The index along a dim of the domain."""

    def look_up(self, lookup: Lookup, places: Sequence[str]) -> str:
        """The element at these indices, one an axis."""


class BodyWriter:
    """Writes bodies into functions and remembers which helper functions they call.

    Attributes:
        helpers: symbol -> MLIR text of its definition or declaration.
    """

    def __init__(self) -> None:
        self.helpers: dict[str, str] = {}

    def write(self, code: Code, stage: Stage, inputs: Sequence[str], point: Point) -> str:
        """Writes the body for one point; returns the value it yields (or folds, if it reduces).

        Raises:
            EmitError: an op that the CPU target has no code for.
        """
        block = stage.block
        names = dict(zip(block.arguments, inputs, strict=False))
        accumulator = list(block.arguments)[-1]
        for op in list(block.operations)[:-1]:
            if stage.combiner and accumulator in list(op.operation.operands):
                continue
            results = self._operation(code, op.operation, names, point, stage)
            names.update(zip(op.operation.results, results, strict=True))
        return self._name(code, stage.value, names)

    def _operation(
        self,
        code: Code,
        op: ir.Operation,
        names: dict[ir.Value, str],
        point: Point,
        stage: Stage,
    ) -> list[str]:
        if op.name == "linalg.index":
            return [point.domain_index(ir.IntegerAttr(op.attributes["dim"]).value)]
        if op.name == "arith.constant":
            return [_constant_of(code, op)]
        if op.name == LOOKUP:
            places = [self._name(code, value, names) for value in list(op.operands)[1:]]
            return [point.look_up(stage.lookups[op.results[0]], places)]
        operands = [self._name(code, value, names) for value in op.operands]
        kinds = [str(value.type) for value in op.operands]
        results = [str(value.type) for value in op.results]
        if op.name in ("arith.extf", "arith.truncf"):
            return [convert_float(code, operands[0], kinds[0], results[0])]
        if op.name in ("arith.index_cast", "arith.index_castui"):
            return [
                _convert_int(
                    code, operands[0], kinds[0], results[0], signed=op.name.endswith("cast")
                )
            ]
        if op.name == "arith.bitcast" and kind_of(kinds[0]) == kind_of(results[0]):
            return operands
        wide = [_wide(op.name, kind) for kind in kinds]
        operands = [convert_float(code, *item) for item in zip(operands, kinds, wide, strict=True)]
        if op.name.startswith("math."):
            wide_result = wide[0] if results[0] == kinds[0] else results[0]
            value = self._math(code, op, operands, wide, stage)
            return [convert_float(code, value, wide_result, results[0])]
        if not op.name.startswith("arith."):
            raise _unknown(op, stage)
        return _arith(code, op, operands, wide, results)

    def _math(
        self,
        code: Code,
        op: ir.Operation,
        operands: Sequence[str],
        kinds: Sequence[str],
        stage: Stage,
    ) -> str:
        short, kind = op.name.removeprefix("math."), kinds[0]
        types = f"({', '.join(kinds)}) -> {kind}"
        arguments = ", ".join(operands)
        if op.name in _INTRINSICS:
            return code.let(f"llvm.intr.{_INTRINSICS[op.name]}({arguments}) : {types}")
        if short == "rsqrt":
            root = code.let(f"llvm.intr.sqrt({arguments}) : {types}")
            return code.let(f"arith.divf {code.real(1.0, kind)}, {root} : {kind}")
        if short == "isnan":
            return code.let(f"arith.cmpf uno, {operands[0]}, {operands[0]} : {kind}")
        if short == "absi":
            return code.let(f'"llvm.intr.abs"({arguments}) {{is_int_min_poison = false}} : {types}')
        if kind == "f32" and short in polynomials.INLINE:
            symbol = polynomials.symbol(short)
            self.helpers[symbol] = polynomials.definition(short)
        elif op.name in _LIBM:
            symbol = _LIBM[op.name] + ("f" if kind == "f32" else "")
            self.helpers[symbol] = f"llvm.func @{symbol}({', '.join(kinds)}) -> {kind}\n"
        else:
            raise _unknown(op, stage)
        return code.let(f"llvm.call @{symbol}({arguments}) : {types}")

    def _name(self, code: Code, value: ir.Value, names: dict[ir.Value, str]) -> str:
        if value in names:
            return names[value]
        owner = value.owner
        if isinstance(owner, ir.Block) or owner.name != "arith.constant":
            raise EmitError(f"a body uses {value}, which is neither made in it nor a constant")
        return _constant_of(code, owner)


def _arith(
    code: Code,
    op: ir.Operation,
    operands: Sequence[str],
    kinds: Sequence[str],
    results: Sequence[str],
) -> list[str]:
    """Any arith op in generic form, its results narrowed again where its operands were widened."""
    made = [_wide(op.name, kind) for kind in results]
    attributes = ", ".join(f"{named.name} = {named.attr}" for named in _named(op))
    types = f"({', '.join(map(kind_of, kinds))}) -> ({', '.join(map(kind_of, made))})"
    name = code.name()
    count = f":{len(made)}" if len(made) > 1 else ""
    code.line(f'{name}{count} = "{op.name}"({", ".join(operands)}) {{{attributes}}} : {types}')
    values = [name] if len(made) == 1 else [f"{name}#{position}" for position in range(len(made))]
    return [convert_float(code, *item) for item in zip(values, made, results, strict=True)]


def _named(op: ir.Operation) -> list[ir.NamedAttribute]:
    attributes = op.attributes
    return [attributes[position] for position in range(len(attributes))]


def _wide(op: str, kind: str) -> str:
    """The type an op computes in: half precision only moves and converts."""
    if kind == "bf16" and op not in _PASS_BITS:
        return "f32"
    return "f32" if kind == "f16" and op.startswith("math.") else kind


def convert_float(code: Code, value: str, kind: str, wanted: str) -> str:
    """A float, as bodies hold one of type `kind`, as one of type `wanted`."""
    if kind == wanted:
        return value
    if kind == "bf16":
        bits = code.let(f"arith.extui {value} : i16 to i32")
        bits = code.let(f"arith.shli {bits}, {code.integer(16, 'i32')} : i32")
        return convert_float(code, code.let(f"arith.bitcast {bits} : i32 to f32"), "f32", wanted)
    if wanted == "bf16":
        return _round_to_bf16(code, convert_float(code, value, kind, "f32"))
    wider = {"f16": 16, "f32": 32, "f64": 64}
    name = "extf" if wider[wanted] > wider[kind] else "truncf"
    return code.let(f"arith.{name} {value} : {kind} to {wanted}")


def _round_to_bf16(code: Code, value: str) -> str:
    """To the nearest, ties to even; NaN stays a (quiet) NaN."""
    bits = code.let(f"arith.bitcast {value} : f32 to i32")
    high = code.let(f"arith.shrui {bits}, {code.integer(16, 'i32')} : i32")
    odd = code.let(f"arith.andi {high}, {code.integer(1, 'i32')} : i32")
    half = code.let(f"arith.addi {odd}, {code.integer(0x7FFF, 'i32')} : i32")
    rounded = code.let(f"arith.addi {bits}, {half} : i32")
    rounded = code.let(f"arith.shrui {rounded}, {code.integer(16, 'i32')} : i32")
    quiet = code.let(f"arith.ori {high}, {code.integer(0x40, 'i32')} : i32")
    flag = code.let(f"arith.cmpf uno, {value}, {value} : f32")
    chosen = code.let(f"arith.select {flag}, {quiet}, {rounded} : i32")
    return code.let(f"arith.trunci {chosen} : i32 to i16")


def _convert_int(code: Code, value: str, kind: str, wanted: str, *, signed: bool) -> str:
    kind, wanted = kind_of(kind), kind_of(wanted)
    if kind == wanted:
        return value
    if int(kind[1:]) > int(wanted[1:]):
        return code.let(f"arith.trunci {value} : {kind} to {wanted}")
    return code.let(f"arith.{'extsi' if signed else 'extui'} {value} : {kind} to {wanted}")


def _constant_of(code: Code, op: ir.Operation) -> str:
    attribute = op.attributes["value"]
    kind = str(op.results[0].type)
    return _constant(code, attribute.value, kind)


def _constant(code: Code, value: float | int | bool, kind: str) -> str:
    if kind == "bf16":
        value = float(value)
        wide = float_bits(value, "f32")
        return code.integer(int(wide, 16) >> 16, "i16")
    if kind in ("f16", "f32", "f64"):
        return code.real(float(value), kind)
    if kind == "i1":
        return code.constant("true" if value else "false", "i1")
    if kind == "index":  # where something lies, which may depend on the size
        return code.integer(int(value))
    return code.constant(str(int(value)), kind_of(kind))


def _unknown(op: ir.Operation, stage: Stage) -> EmitError:
    types = ", ".join(str(value.type) for value in op.operands)
    return EmitError(
        f"{op.name}({types}) in layer {layer_of(op) or stage.layer or '?'} has no CPU code"
    )
