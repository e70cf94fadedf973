"""Writes linalg on tensors as MLIR text: the one spelling of all passes that build modules."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from mlir import ir

from ..indexing import map_text
from ..mlir import BITS, TensorType
from .body import OVERFLOW, Body, literal
from .scalar import FAST

Named = tuple[str, TensorType]


class Writer:
    """Collects the lines of one function's body and hands out fresh SSA names."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._count = 0

    def fresh(self) -> str:
        self._count += 1
        return f"%t{self._count}"

    def line(self, text: str) -> None:
        self.lines.append(text)

    def op(
        self,
        name: str,
        operands: Sequence[Named],
        results: Sequence[TensorType],
        attributes: str,
        location: str,
    ) -> list[str]:
        """An op in generic form, with `attributes` as the text of its dictionary; returns its
        results' names.
        """
        names = [self.fresh() for _ in results]
        bound = f"{', '.join(names)} = " if names else ""
        kinds = ", ".join(str(kind) for _, kind in operands)
        made = ", ".join(map(str, results))
        arguments = ", ".join(value for value, _ in operands)
        self.line(f'{bound}"{name}"({arguments}) {attributes} : ({kinds}) -> ({made}) {location}')
        return names

    def empty(self, kind: TensorType) -> str:
        name = self.fresh()
        self.line(f"{name} = tensor.empty() : {kind}")
        return name

    def filled(self, kind: TensorType, value: str) -> str:
        """A tensor of which every element is the attribute `value`."""
        constant, result, empty = self.fresh(), self.fresh(), self.empty(kind)
        self.line(f"{constant} = arith.constant {value}")
        self.line(
            f"{result} = linalg.fill ins({constant} : {kind.dtype}) "
            f"outs({empty} : {kind}) -> {kind}"
        )
        return result

    def generic(
        self,
        body: Body,
        value: int,
        result: TensorType,
        extents: tuple[int, ...],
        named: Callable[[Any], Named],
        *,
        combiner: str = "",
        axes: tuple[int, ...] = (),
        location: str = "",
        op: str = "",
    ) -> str:
        """One linalg.generic over `extents`: `value`, folded by `combiner` over the last dims, or stored so
        that the result's axes are the dims `axes`.

        `named` gives the SSA name and type of a source that the body reads; `op` names the keras
        op.
        """
        reads = body.reads(value)
        sources = [named(source) for source, _ in reads]
        tables = {source: named(source) for source in body.tables(value)}
        kinds = ["parallel"] * result.rank + ["reduction"] * (len(extents) - result.rank)
        shapes = [kind.shape for _, kind in sources]
        maps = [
            map_text(len(extents), dims, shape)
            for (_, dims), shape in zip(reads, shapes, strict=True)
        ]
        written = axes or tuple(range(result.rank))
        maps.append(map_text(len(extents), written, result.shape))
        start = (
            self.filled(result, neutral(combiner, result.dtype)) if combiner else self.empty(result)
        )
        inputs = ", ".join(name for name, _ in sources)
        input_types = ", ".join(str(kind) for _, kind in sources)
        name = self.fresh()
        iterators = ", ".join(f'"{kind}"' for kind in kinds)
        self.line(
            f"{name} = linalg.generic {{indexing_maps = [{', '.join(maps)}], "
            + f"iterator_types = [{iterators}]}}"
            + (f" ins({inputs} : {input_types})" if sources else "")
            + f" outs({start} : {result})"
            + (f' attrs = {{keras.op = "{op}"}}' if op else "")
            + " {"
        )
        arguments = [f"%in{i}: {kind.dtype}" for i, (_, kind) in enumerate(sources)]
        self.line(f"^bb0({', '.join([*arguments, f'%out: {result.dtype}'])}):")
        names = {read: f"%in{i}" for i, read in enumerate(reads)}
        lines, (yielded,) = body.lines([value], names, tables)
        self.lines += lines
        if combiner:
            self.line(_fold(combiner, yielded, result.dtype))
            yielded = "%fold"
        self.line(f"linalg.yield {yielded} : {result.dtype}")
        self.line(f"}} -> {result} {location}")
        return name


def _fold(combiner: str, value: str, dtype: str) -> str:
    flags = (
        FAST
        if combiner.endswith("f")
        else OVERFLOW
        if combiner in ("arith.addi", "arith.muli")
        else ""
    )
    properties = f" <{{{flags}}}>" if flags else ""
    return f'%fold = "{combiner}"(%out, {value}){properties} : ({dtype}, {dtype}) -> {dtype}'


def neutral(combiner: str, dtype: str) -> str:
    """The attribute of the element that `combiner` leaves others unchanged with."""
    name = combiner.removeprefix("arith.")
    floats = {"addf": 0.0, "mulf": 1.0, "maximumf": float("-inf"), "minimumf": float("inf")}
    if name in floats:
        return literal(floats[name], dtype)
    greatest = (1 << (BITS[dtype] - 1)) - 1
    whole = {"addi": 0, "muli": 1, "maxsi": -greatest - 1, "minsi": greatest, "andi": -1, "ori": 0}
    return literal(whole[name], dtype)


def attribute_text(op: ir.Operation | ir.OpView, leave_out: Sequence[str] = ()) -> str:
    """The op's attribute dictionary as text, with braces."""
    attributes = op.operation.attributes
    return (
        "{"
        + ", ".join(f"{name} = {attributes[name]}" for name in attributes if name not in leave_out)
        + "}"
    )


def header_text(function: ir.OpView, arguments: Sequence[str]) -> str:
    """The first line of a function like `function`, with `arguments` as "name: type"."""
    attributes = zip(arguments, argument_text(function), strict=True)
    listed = ", ".join(f"{argument} {text}".rstrip() for argument, text in attributes)
    results = ", ".join(str(kind) for kind in ir.FunctionType(function.type).results)
    name = ir.StringAttr(function.operation.attributes["sym_name"]).value
    private = "private " if "sym_visibility" in function.operation.attributes else ""
    kept = attribute_text(
        function, ("sym_name", "function_type", "arg_attrs", "res_attrs", "sym_visibility")
    )
    return f"func.func {private}@{name}({listed}) -> ({results}) attributes {kept} {{"


def string_list(items: Sequence[str]) -> str:
    """An array attribute of strings."""
    return (
        "["
        + ", ".join('"' + item.replace("\\", "\\\\").replace('"', '\\"') + '"' for item in items)
        + "]"
    )


def argument_text(function: ir.OpView) -> list[str]:
    """Each argument's attribute dictionary as text ("" for none)."""
    if "arg_attrs" not in function.operation.attributes:
        return [""] * len(function.regions[0].blocks[0].arguments)
    return [
        "" if len(entry) == 0 else str(entry)
        for entry in function.operation.attributes["arg_attrs"]
    ]


def reshape(writer: Writer, source: Named, shape: tuple[int, ...], location: str) -> str:
    """`source` with another shape, as collapse_shape and expand_shape through their common
    refinement.
    """
    name, kind = source
    middle, collapse, expand = refinement(kind.shape, shape)
    narrow, wide = kind.with_shape(middle), kind.with_shape(shape)
    if narrow != kind:
        collapsed = writer.fresh()
        writer.line(
            f"{collapsed} = tensor.collapse_shape {name} {groups_text(collapse)} "
            f": {kind} into {narrow} {location}"
        )
        name = collapsed
    if wide != narrow:
        expanded = writer.fresh()
        writer.line(
            f"{expanded} = tensor.expand_shape {name} {groups_text(expand)} "
            f"output_shape {list(shape)} : {narrow} into {wide} {location}"
        )
        name = expanded
    return name


def op_text(op: ir.Operation | ir.OpView) -> str:
    """One op as text that stands anywhere: locations and maps are spelled out in place."""
    return op.operation.get_asm(
        enable_debug_info=True, use_local_scope=True, large_elements_limit=None
    )


def groups_text(groups: list[list[int]]) -> str:
    """Axes that belong together, as reshapes spell them."""
    return "[" + ", ".join(str(group) for group in groups) + "]"


def refinement(
    source: tuple[int, ...], target: tuple[int, ...]
) -> tuple[tuple[int, ...], list[list[int]], list[list[int]]]:
    """The finest shape that both are expansions of, and the axes of each behind each of its
    axes.
    """
    count = 1
    for extent in source:
        count *= extent
    if not source or not target:
        return (), [], []
    if count == 0:
        return (0,), [list(range(len(source)))], [list(range(len(target)))]
    middle: list[int] = []
    sides: tuple[list[list[int]], list[list[int]]] = ([], [])
    i = j = 0
    while i < len(source) and j < len(target):
        left, right, first = source[i], target[j], (i, j)
        i, j = i + 1, j + 1
        while left != right:
            if left < right:
                left, i = left * source[i], i + 1
            else:
                right, j = right * target[j], j + 1
        middle.append(left)
        sides[0].append(list(range(first[0], i)))
        sides[1].append(list(range(first[1], j)))
    # What is left over on one side has extent 1.
    sides[0][-1] += range(i, len(source))
    sides[1][-1] += range(j, len(target))
    return tuple(middle), *sides
