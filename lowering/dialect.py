"""The `keras` dialect: one `OpDef` an op holds its shape, verifier, builder and meaning.

MLIR learns of the ops through IRDL text made from the same table, so the bindings, the verifier and
the interpreter cannot drift apart. IRDL gives arity and attribute names; what it cannot say
(shapes, dtypes, values of attributes) `infer` checks, with a sentence a person can act on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from mlir import ir
from mlir._mlir_libs._mlir import globals as bindings

from .errors import DialectError
from .mlir import TensorType, context, layer_of
from .sizes import extent

Attributes = Mapping[str, Any]
Infer = Callable[[Sequence[TensorType], Attributes], Sequence[TensorType]]
Reference = Callable[[Sequence[torch.Tensor], Attributes], Sequence[torch.Tensor]]


@dataclass(frozen=True)
class OpDef:
    """One op of the dialect.

    Attributes:
        name: its name without the dialect prefix.
        operands, results, attributes: the names of each, in order.
        infer: result types from operand types and attributes; raises DialectError when they do not
            fit.
        reference: its meaning on torch tensors of any float precision.
        template: a kernel of its own exists for it (it stays one op until kernels are emitted).
    """

    name: str
    operands: tuple[str, ...]
    results: tuple[str, ...]
    attributes: tuple[str, ...]
    infer: Infer
    reference: Reference
    template: bool = False


OPS: dict[str, OpDef] = {}


def define(
    name: str,
    operands: str,
    infer: Infer,
    *,
    results: str = "y",
    attributes: str = "",
    template: bool = False,
) -> Callable[[Reference], Reference]:
    """Adds an op whose meaning is the decorated function.

    Raises:
        DialectError: an op of that name exists, or something has been compiled already: MLIR takes a
            dialect's ops all at once.
    """

    def register(reference: Reference) -> Reference:
        if name in OPS:
            raise DialectError(f"keras.{name} is defined twice")
        if context.cache_info().currsize:
            raise DialectError(
                f"keras.{name} is defined too late: ops must be defined before the first compilation"
            )
        OPS[name] = OpDef(
            name,
            tuple(operands.split()),
            tuple(results.split()),
            tuple(attributes.split()),
            infer,
            reference,
            template,
        )
        return reference

    return register


def irdl_text() -> str:
    """The dialect's definition in IRDL: names, arities and attribute names."""
    return "irdl.dialect @keras {\n" + "\n".join(_irdl_op(op) for op in OPS.values()) + "\n}\n"


def _irdl_op(op: OpDef) -> str:
    # A constraint value used twice would demand equal types, so each name gets its own.
    lines = [f"  irdl.operation @{op.name} {{"]
    for role in ("operands", "results", "attributes"):
        names = getattr(op, role)
        if not names:
            continue
        lines += [f"    %{role}_{name} = irdl.any" for name in names]
        if role == "attributes":
            inner = ", ".join(f'"{name}" = %{role}_{name}' for name in names)
            lines.append(f"    irdl.attributes {{ {inner} }}")
        else:
            inner = ", ".join(f"{name}: %{role}_{name}" for name in names)
            lines.append(f"    irdl.{role}({inner})")
    return "\n".join(lines) + "\n  }"


VIEWS = f"{__package__}.views"
"""Where the bindings look for the classes of a dialect's ops first."""


def load() -> None:
    """Registers the dialect in the current context. Once per context: a second time aborts in MLIR."""
    from mlir.dialects import irdl

    from . import ops  # noqa: F401  (fills OPS)

    if VIEWS not in bindings.dialect_search_modules:
        bindings.dialect_search_modules = [VIEWS, *bindings.dialect_search_modules]
    irdl.load_dialects(ir.Module.parse(irdl_text()))


def build(
    name: str,
    operands: Sequence[ir.Value],
    attributes: Attributes | None = None,
    *,
    loc: ir.Location | None = None,
) -> list[ir.Value]:
    """Builds `keras.<name>` at the current insertion point and returns its results.

    Raises:
        DialectError: unknown op, or operands and attributes that its contract refuses.
    """
    attributes = dict(attributes or {})
    op = _find(name)
    where = layer_of_location(loc)
    types = [TensorType.of(value) for value in operands]
    results = infer(op, types, attributes, where)
    built = ir.Operation.create(
        f"keras.{name}",
        results=[result.to_mlir() for result in results],
        operands=list(operands),
        attributes={key: to_attribute(value) for key, value in attributes.items()},
        loc=loc,
    )
    return list(built.results)


def infer(
    op: OpDef, types: Sequence[TensorType], attributes: Attributes, where: str = ""
) -> Sequence[TensorType]:
    """Result types of `op`, or a DialectError that names the op, its operand types and the layer."""
    if len(types) != len(op.operands):
        problem = f"takes {len(op.operands)} operands ({', '.join(op.operands)}), not {len(types)}"
    elif set(attributes) != set(op.attributes):
        problem = f"takes the attributes {sorted(op.attributes)}, not {sorted(attributes)}"
    else:
        try:
            return op.infer(types, attributes)
        except DialectError as error:
            problem = str(error)
    shown = ", ".join(str(kind) for kind in types)
    raise DialectError(
        f"keras.{op.name}({shown}){f' in layer {where}' if where else ''}: {problem}"
    )


def verify(module: ir.Module) -> None:
    """Checks every `keras` op of a module, at any depth, against its contract.

    Raises:
        DialectError: the first op that breaks its contract, by name, types and layer.
    """
    for op in walk(module.operation):
        if op.name.startswith("keras."):
            verify_op(op)


def walk(op: ir.Operation) -> list[ir.Operation]:
    """Every op nested in `op`, outermost first."""
    found: list[ir.Operation] = []

    def add(inner: ir.Operation) -> ir.WalkResult:
        found.append(inner)
        return ir.WalkResult.ADVANCE

    # Through blocks, the bindings make each op a view of its dialect's own class, and import that
    # dialect: several times as slow, and 50 ms for linalg.
    op.walk(add, ir.WalkOrder.PRE_ORDER)
    return found[1:]


def verify_op(op: ir.Operation) -> None:
    """Checks one `keras` op: its result types must be those its contract infers."""
    definition = _find(op.name.removeprefix("keras."))
    types = [TensorType.of(value) for value in op.operands]
    where = layer_of(op)
    expected = infer(definition, types, attributes_of(op), where)
    actual = [TensorType.of(value) for value in op.results]
    if list(expected) != actual:
        shown = ", ".join(map(str, types))
        raise DialectError(
            f"keras.{definition.name}({shown}){f' in layer {where}' if where else ''}: gives "
            f"{', '.join(map(str, expected))}, but the module says {', '.join(map(str, actual))}"
        )


def evaluate(op: ir.Operation, inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """The op's meaning on `inputs`."""
    return list(_find(op.name.removeprefix("keras.")).reference(inputs, attributes_of(op)))


def attributes_of(op: ir.Operation) -> dict[str, Any]:
    """The op's own attributes as Python values (discardable ones of other names are left out)."""
    definition = _find(op.name.removeprefix("keras."))
    present = {
        named: op.attributes[named] for named in definition.attributes if named in op.attributes
    }
    return {key: from_attribute(value) for key, value in present.items()}


def to_attribute(value: Any) -> ir.Attribute:
    """A Python value as MLIR spells it: bool, int (i64), float (f64), str, list of ints, or an
    Attribute.
    """
    if isinstance(value, ir.Attribute):
        return value
    if isinstance(value, bool):
        return ir.BoolAttr.get(value)
    if isinstance(value, int):
        return ir.IntegerAttr.get(ir.IntegerType.get_signless(64), value)
    if isinstance(value, float):
        return ir.FloatAttr.get(ir.F64Type.get(), value)
    if isinstance(value, str):
        return ir.StringAttr.get(value)
    return ir.DenseI64ArrayAttr.get([int(item) for item in value])


def from_attribute(attribute: ir.Attribute) -> Any:
    """The inverse of `to_attribute`; attributes of other kinds come back as they are."""
    if isinstance(attribute, ir.BoolAttr | ir.FloatAttr | ir.StringAttr):
        return attribute.value
    if isinstance(attribute, ir.IntegerAttr):
        return extent(attribute.value)
    if isinstance(attribute, ir.DenseI64ArrayAttr):
        return tuple(map(extent, attribute))
    return attribute


def layer_of_location(loc: ir.Location | None) -> str:
    """The layer a location names, or ""."""
    shown = str(loc) if loc is not None else ""
    return shown[5:-2] if shown.startswith('loc("') and shown.endswith('")') else ""


def _find(name: str) -> OpDef:
    from . import ops  # noqa: F401  (fills OPS)

    if name not in OPS:
        raise DialectError(f"keras.{name} is not an op of the dialect")
    return OPS[name]
