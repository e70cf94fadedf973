"""Scalar bodies of linalg.generic in Triton's language: one line of source an op.

Half-precision arithmetic is done in float32 and rounded back. Division and square root of float32
are correctly rounded (Triton's `/` errs by 2 units in the last place, which turns floor(6 / 3) into
1). Transcendental functions come from libdevice: `tl.exp` and `tl.log` are the fast approximations.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from mlir import ir

from ..errors import EmitError
from ..lookups import LOOKUP, Lookup
from ..mlir import BITS, layer_of
from ..region import Stage
from ..sizes import is_symbolic
from .source import LANGUAGE_DTYPES, Assign, Value, literal

NARROW = ("f16", "bf16")

INFIX = {
    "arith.addf": "+", "arith.subf": "-", "arith.mulf": "*",
    "arith.addi": "+", "arith.subi": "-", "arith.muli": "*",
    "arith.divsi": "//", "arith.remsi": "%",
    "arith.andi": "&", "arith.ori": "|", "arith.xori": "^",
    "arith.shli": "<<", "arith.shrsi": ">>",
}  # fmt: skip

CALLS = {
    "arith.maxsi": "tl.maximum", "arith.minsi": "tl.minimum", "arith.remf": "libdevice.fmod",
    "math.absf": "tl.abs", "math.absi": "tl.abs", "math.ceil": "tl.ceil", "math.floor": "tl.floor",
    "math.roundeven": "libdevice.rint", "math.rsqrt": "tl.rsqrt", "math.erf": "libdevice.erf",
    "math.exp": "libdevice.exp", "math.exp2": "libdevice.exp2", "math.expm1": "libdevice.expm1",
    "math.log": "libdevice.log", "math.log1p": "libdevice.log1p", "math.powf": "libdevice.pow",
    "math.sin": "libdevice.sin", "math.cos": "libdevice.cos", "math.tan": "libdevice.tan",
    "math.asin": "libdevice.asin", "math.acos": "libdevice.acos", "math.atan": "libdevice.atan",
    "math.atan2": "libdevice.atan2", "math.sinh": "libdevice.sinh", "math.cosh": "libdevice.cosh",
    "math.tanh": "libdevice.tanh",
}  # fmt: skip

# Predicates by MLIR's number, {} and {} being the operands.
FLOAT_PREDICATES = (
    "", "{0} == {1}", "{0} > {1}", "{0} >= {1}", "{0} < {1}", "{0} <= {1}",
    "({0} < {1}) | ({0} > {1})", "({0} == {0}) & ({1} == {1})",
    "(({0} < {1}) | ({0} > {1})) == 0", "({0} <= {1}) == 0", "({0} < {1}) == 0",
    "({0} >= {1}) == 0", "({0} > {1}) == 0", "{0} != {1}", "({0} != {0}) | ({1} != {1})", "",
)  # fmt: skip
INTEGER_PREDICATES = ("==", "!=", "<", "<=", ">", ">=", "<", "<=", ">", ">=")

STEMS = {
    "arith.cmpf": "compare", "arith.cmpi": "compare", "arith.extf": "wide",
    "arith.truncf": "narrow", "arith.index_cast": "number", "arith.sitofp": "number",
    "arith.uitofp": "number",
    "arith.fptosi": "number", "arith.extsi": "number", "arith.extui": "number",
    "arith.trunci": "number", "arith.maximumf": "maximum", "arith.minimumf": "minimum",
    "arith.maxsi": "maximum", "arith.minsi": "minimum", "math.absf": "magnitude",
    "math.absi": "magnitude", "math.powf": "power", "math.roundeven": "rounded",
    "arith.mului_extended": "product", "arith.andi": "both", "arith.ori": "either",
    "arith.xori": "differ", "arith.shli": "shifted", "arith.shrsi": "shifted",
    "arith.shrui": "shifted",
}  # fmt: skip
"""Variable names that are not simply the op's name without its type letters."""

Rule = Callable[[ir.OpView, Sequence[Value]], str]
RULES: dict[str, Rule] = {}

Index = Callable[[int], Value]
"""The subscript of a domain dim."""

LookUp = Callable[[Lookup, Sequence[Value]], Value]
"""An element at given subscripts."""

Number = Callable[[int], str]
"""The text of a number, which may depend on the symbolic size."""


def emit_body(
    stage: Stage,
    inputs: Sequence[Value],
    index: Index,
    look_up: LookUp,
    assign: Assign,
    number: Number = str,
) -> Value:
    """Emits what the value of a stage with these inputs needs, and returns it.

    Raises:
        EmitError: an op that Triton's language does not have.
    """
    block = stage.block
    known: dict[ir.Value, Value] = dict(zip(list(block.arguments), inputs, strict=False))
    needed = _needed(stage, known)
    for op in (view.operation for view in block.operations):
        if op not in needed:
            continue
        if op.name == LOOKUP:
            places = [known[place] for place in list(op.operands)[1:]]
            known[op.results[0]] = look_up(stage.lookups[op.results[0]], places)
        elif op.name == "arith.constant":
            known[op.results[0]] = _constant(op, number)
        else:
            _emit(op, known, index, assign)
    return known[stage.value]


def _needed(stage: Stage, known: dict[ir.Value, Value]) -> set[ir.Operation]:
    found: set[ir.Operation] = set()
    waiting = [stage.value]
    while waiting:
        value = waiting.pop()
        if value in known or value.owner in found:
            continue
        found.add(value.owner)
        operands = list(value.owner.operands)
        waiting += operands[1:] if value in stage.lookups else operands
    return found


def _emit(op: ir.OpView, known: dict[ir.Value, Value], index: Index, assign: Assign) -> None:
    name, results = op.operation.name, list(op.operation.results)
    if name == "linalg.index":
        known[results[0]] = _index(op, index, assign)
        return
    args = [known[operand] for operand in op.operation.operands]
    axes = frozenset().union(*(arg.axes for arg in args))
    dtype = str(results[0].type)
    if name == "arith.extf" and args[0].dtype == dtype:
        known[results[0]] = args[0]
        return
    if name == "arith.mului_extended":
        for result, text in zip(results, _extended_product(op, args), strict=True):
            known[result] = Value(assign("product", text), dtype, axes)
        return
    known[results[0]] = Value(assign(stem(name), expression(op, args)), dtype, axes)


def stem(name: str) -> str:
    """The variable name for an op: "arith.addf" -> "add"."""
    plain = name.split(".")[1]
    return STEMS.get(name, plain[:-1] if name in INFIX or plain in ("divf", "negf") else plain)


def expression(op: ir.OpView, args: Sequence[Value]) -> str:
    """The Triton expression of one op with one result.

    Raises:
        EmitError: Triton's language has no such op.
    """
    name = op.operation.name
    computes = name in INFIX or name in CALLS or name in ("arith.divf", "arith.negf")
    dtype = str(op.operation.results[0].type)
    if computes or name in (
        "arith.maximumf",
        "arith.minimumf",
        "arith.cmpf",
        "math.sqrt",
        "math.isnan",
    ):
        args = [widened(arg) for arg in args]
    text = _plain(op, args)
    if dtype in NARROW and name not in ("arith.truncf", "arith.select", "arith.bitcast"):
        return f"({text}).to({LANGUAGE_DTYPES[dtype]})"
    return text


def _plain(op: ir.OpView, args: Sequence[Value]) -> str:
    name = op.operation.name
    if name in INFIX:
        left, right = _typed(args)
        return f"{left} {INFIX[name]} {right}"
    if name in CALLS:
        return f"{CALLS[name]}({', '.join(arg.tensor() for arg in args)})"
    if name not in RULES:
        raise EmitError(
            f"{name} on {', '.join(str(operand.type) for operand in op.operation.operands)} has no "
            f"expression in Triton's language (layer {layer_of(op) or '?'})"
        )
    return RULES[name](op, args)


def widened(value: Value) -> Value:
    """A half-precision value as float32; any other as it is."""
    if value.dtype not in NARROW:
        return value
    if value.literal:
        return Value(value.text, "f32", literal=True)
    return Value(f"{value.text}.to(tl.float32)", "f32", value.axes)


def _typed(args: Sequence[Value]) -> list[str]:
    """The texts of operands, at least one of them with a type."""
    if all(arg.literal for arg in args):
        return [args[0].tensor(), *(arg.text for arg in args[1:])]
    return [arg.text for arg in args]


def _constant(op: ir.OpView, number: Number) -> Value:
    dtype, value = str(op.operation.results[0].type), op.operation.attributes["value"].value
    if isinstance(value, int) and is_symbolic(value):
        return Value(f"tl.cast({number(value)}, {LANGUAGE_DTYPES[dtype]})", dtype)
    return literal(value, dtype)


def _index(op: ir.OpView, index: Index, assign: Assign) -> Value:
    value = index(ir.IntegerAttr(op.operation.attributes["dim"]).value)
    users = [use.owner.name for use in op.operation.results[0].uses]
    if all(user in ("arith.index_cast", LOOKUP) for user in users):
        return value
    return Value(assign("subscript", f"{value.tensor()}.to(tl.int64)"), "index", value.axes)


def _rule(*names: str) -> Callable[[Rule], Rule]:
    def register(rule: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, rule))
        return rule

    return register


@_rule("arith.divf")
def _divide(op: ir.OpView, args: Sequence[Value]) -> str:
    left, right = args
    if right.literal and _power_of_two(float_of(right)):
        return f"{left.tensor()} * {literal(1 / float_of(right), right.dtype).text}"
    if right.dtype == "f64":
        return " / ".join(_typed(args))
    return f"tl.div_rn({left.tensor()}, {right.tensor()})"


def float_of(value: Value) -> float:
    """A literal's number."""
    return float(value.text.removeprefix('float("').removesuffix('")'))


def _power_of_two(value: float) -> bool:
    return (
        math.isfinite(value)
        and math.frexp(abs(value))[0] == 0.5
        and 2.0**-64 < abs(value) < 2.0**64
    )


@_rule("arith.negf")
def _negate(op: ir.OpView, args: Sequence[Value]) -> str:
    return f"-{args[0].tensor()}"


@_rule("math.sqrt")
def _sqrt(op: ir.OpView, args: Sequence[Value]) -> str:
    return f"tl.{'sqrt' if args[0].dtype == 'f64' else 'sqrt_rn'}({args[0].tensor()})"


@_rule("math.isnan")
def _isnan(op: ir.OpView, args: Sequence[Value]) -> str:
    return f"{args[0].tensor()} != {args[0].text}"


@_rule("arith.maximumf", "arith.minimumf")
def _extremum(op: ir.OpView, args: Sequence[Value]) -> str:
    function = "tl.maximum" if op.operation.name == "arith.maximumf" else "tl.minimum"
    left, right = _typed(args)
    return f"{function}({left}, {right}, propagate_nan=tl.PropagateNan.ALL)"


@_rule("arith.select")
def _select(op: ir.OpView, args: Sequence[Value]) -> str:
    condition, *branches = args
    # Triton's interpreter makes no constants of bfloat16.
    rounded = [
        Value(f"{widened(arg).tensor()}.to(tl.bfloat16)", "bf16")
        if arg.literal and arg.dtype == "bf16"
        else arg
        for arg in branches
    ]
    chosen, other = _typed(rounded)
    return f"tl.where({condition.text}, {chosen}, {other})"


@_rule("arith.cmpf")
def _compare_floats(op: ir.OpView, args: Sequence[Value]) -> str:
    predicate = ir.IntegerAttr(op.operation.attributes["predicate"]).value
    if not FLOAT_PREDICATES[predicate]:
        return f"tl.full((), {predicate == 15}, tl.int1)"
    return FLOAT_PREDICATES[predicate].format(*_typed(args))


@_rule("arith.cmpi")
def _compare_integers(op: ir.OpView, args: Sequence[Value]) -> str:
    predicate = ir.IntegerAttr(op.operation.attributes["predicate"]).value
    if predicate < 6:
        left, right = _typed(args)
    else:
        left, right = _typed([_unsigned(arg) for arg in args])
    return f"{left} {INTEGER_PREDICATES[predicate]} {right}"


def _unsigned(value: Value) -> Value:
    """The same bits as an unsigned number; subscripts and bools are never negative."""
    if value.dtype in ("i1", "index"):
        return value
    bits = BITS[value.dtype]
    if value.literal:
        return Value(str(int(value.text) % 2**bits), value.dtype, literal=True)
    return Value(f"{value.text}.to(tl.uint{bits}, bitcast=True)", value.dtype, value.axes)


@_rule("arith.shrui")
def _shift_unsigned(op: ir.OpView, args: Sequence[Value]) -> str:
    left, right = _typed([_unsigned(arg) for arg in args])
    return f"({left} >> {right}).to({LANGUAGE_DTYPES[args[0].dtype]}, bitcast=True)"


def _extended_product(op: ir.OpView, args: Sequence[Value]) -> tuple[str, str]:
    """The low and high halves of a product of unsigned numbers."""
    dtype = args[0].dtype
    if dtype not in ("i32", "i64"):
        layer = layer_of(op) or "?"
        raise EmitError(f"arith.mului_extended on {dtype}: allowed are i32, i64 (layer {layer})")
    plain, (left, right) = _typed(args), [_unsigned(arg) for arg in args]
    high = f"tl.umulhi({left.text}, {right.text})"
    return f"{plain[0]} * {plain[1]}", f"{high}.to({LANGUAGE_DTYPES[dtype]}, bitcast=True)"


@_rule("arith.extf", "arith.truncf", "arith.fptosi", "arith.index_cast", "arith.bitcast")
def _convert(op: ir.OpView, args: Sequence[Value]) -> str:
    target = LANGUAGE_DTYPES[str(op.operation.results[0].type)]
    bits = ", bitcast=True" if op.operation.name == "arith.bitcast" else ""
    return f"{args[0].tensor()}.to({target}{bits})"


@_rule("arith.extsi", "arith.sitofp")
def _convert_signed(op: ir.OpView, args: Sequence[Value]) -> str:
    converted = f"{args[0].tensor()}.to({LANGUAGE_DTYPES[str(op.operation.results[0].type)]})"
    # A set bit is -1 as a signed number, but Triton converts bools to 1.
    return f"-({converted})" if args[0].dtype == "i1" else converted


@_rule("arith.extui", "arith.uitofp")
def _convert_unsigned(op: ir.OpView, args: Sequence[Value]) -> str:
    target = LANGUAGE_DTYPES[str(op.operation.results[0].type)]
    value = args[0]
    return f"{value.tensor() if value.literal else _unsigned(value).text}.to({target})"


@_rule("arith.trunci")
def _truncate(op: ir.OpView, args: Sequence[Value]) -> str:
    dtype = str(op.operation.results[0].type)
    if dtype == "i1":
        # Triton's conversion to bool asks for non-zero, truncation for the lowest bit.
        return f"({args[0].tensor()} & 1) != 0"
    return f"{args[0].tensor()}.to({LANGUAGE_DTYPES[dtype]})"
