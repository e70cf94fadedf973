"""group-instances: parallel kernels with equal code, on whatever shapes, become one "multi" kernel, and
products with equal code and shapes one "products" kernel.

So the optimizer's update is one launch for all parameters, and so are the projections to queries, keys
and values. Kernels that depend on one another stay apart, and a group is formed only where no path leads
out of it and back in.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any, ClassVar

from mlir import ir

from ..errors import RegionError
from ..fusion.alike import is_template, join_alike, key_of, most_of, multiplied
from ..fusion.instances import multi_text, strings_of, write_call
from ..fusion.order import ordered
from ..indexing import plain
from ..linalg.body import read_block
from ..linalg.write import Named, Writer, header_text, op_text
from ..loops import code
from ..mlir import TensorType, callee, functions, parse
from ..products import KINDS
from ..region import Region, kernel_kind, read_region
from .base import Pass

Key = tuple[Any, ...]


@dataclass
class _Item:
    """An op of a function and the ops it depends on, as a mask of their numbers."""

    op: ir.Operation
    above: int


@dataclass(eq=False)
class _Group:
    """Calls of kernels with equal code. Of products, `bonds` are the tensors that they multiply, and the
    launches of templates that make those.
    """

    key: Key
    items: list[int] = field(default_factory=list)
    bonds: set[Hashable] = field(default_factory=set)


@dataclass(frozen=True)
class GroupInstances(Pass):
    """Options: `least`, how many instances make a group; `products`, whether products form groups."""

    name: ClassVar[str] = "group-instances"
    takes: ClassVar[str] = "regions"
    gives: ClassVar[str] = "regions"

    least: int = 2
    products: bool = True

    def run(self, module: ir.Module) -> ir.Module:
        self.check_stage(module)
        known = functions(module)
        keys = {
            name: _key(function)
            for name, function in known.items()
            if kernel_kind(function) == "loop"
        }
        if self.products:
            alike = {name: key_of(function) for name, function in known.items()}
            keys |= {name: (key, ()) for name, key in alike.items() if key is not None}
        callers = code(module)
        kernels: dict[str, str] = {}
        taken: set[str] = set()
        texts: list[str] = []
        for function in callers.values():
            items = _items(function)
            found = _Grouping(items, known, keys).groups
            groups = [group for group in found if len(group.items) >= self.least]
            taken |= {callee(items[number].op) for group in groups for number in group.items}
            texts.append(_caller(function, known, items, groups, kernels))
        kept = [op_text(f) for name, f in known.items() if name not in taken | callers.keys()]
        lines = [*kept, *kernels.values(), *texts]
        return parse("\n".join(['module attributes {keras.stage = "regions"} {', *lines, "}"]))


def _items(function: ir.OpView) -> list[_Item]:
    items: list[_Item] = []
    maker: dict[ir.Value, int] = {}
    for view in function.regions[0].blocks[0].operations:
        op, number, above = view.operation, len(items), 0
        for value in op.operands:
            if value in maker:
                above |= items[maker[value]].above | (1 << maker[value])
        maker.update(dict.fromkeys(op.results, number))
        items.append(_Item(op, above))
    return items


def _key(function: ir.OpView) -> Key | None:
    """The code of a purely parallel kernel with the shapes left out; None if it is none that can
    be grouped.

    On a domain of one element every read is both of the element in its place and of a scalar: those
    reads get the kind "any".
    """
    try:
        region = read_region(function)
    except RegionError:
        return None
    if region.reduction or region.updates or region.looked_up:
        return None
    kinds = _kinds(region)
    if kinds is None:
        return None
    stages = []
    for stage in region.stages:
        sources = [((read.source, read.index), ()) for read in stage.reads]
        body, numbers = read_block(stage.block, sources, {})
        if any(op.name == "linalg.index" for op in body.ops):
            return None
        stages.append((tuple(body.ops), numbers[stage.value], stage.type.dtype))
    dtypes = tuple(kind.dtype for kind in region.arguments)
    return (tuple(stages), region.outputs, dtypes), kinds


def _kinds(region: Region) -> tuple[str, ...] | None:
    """How each argument is read: "scalar", "element", "any"; None if otherwise or mixed."""
    rank = len(region.parallel)
    single = all(extent == 1 for extent in region.parallel)
    kinds = ["any"] * len(region.arguments)
    for stage in region.stages:
        for read in stage.reads:
            if read.source != "argument":
                continue
            axes = zip(read.dims, region.arguments[read.index].shape, strict=True)
            dims = plain(read.dims)
            if dims is None or any(dim is None and extent > 1 for dim, extent in axes):
                return None  # a part of the argument, which the instances' flat loop cannot pick
            if single:
                continue
            kind = {tuple(range(rank)): "element", (): "scalar"}.get(dims)
            if kind is None or kinds[read.index] not in ("any", kind):
                return None
            kinds[read.index] = kind
    return tuple(kinds)


def _agree(a: Key, b: Key) -> bool:
    """Whether two kernels' code is equal, a read of kind "any" being equal to both others."""
    same = zip(a[1], b[1], strict=False)
    return a[0] == b[0] and all(x == y or "any" in (x, y) for x, y in same)


class _Grouping:
    """Independent calls of equal code, without making a cycle of what lies between them."""

    def __init__(
        self, items: list[_Item], known: dict[str, ir.OpView], keys: dict[str, Key | None]
    ) -> None:
        self.items, self.known = items, known
        self.groups: list[_Group] = []
        self.of: dict[ir.Operation, _Group] = {}
        for number, item in enumerate(items):
            key = keys.get(callee(item.op))
            if key is not None:
                self._place(number, key)
        # The first member is the pattern of the loop, so it must not be of one element.
        for group in self.groups:
            group.items.sort(key=lambda n: (_is_single(items[n]), n))

    def _place(self, number: int, key: Key) -> None:
        """Adds a call to the first group that takes it, else to one of its own."""
        bonds = self._bonds(number)
        for group in self.groups:
            fits = _agree(group.key, key) and self._belongs(group, number, bonds)
            if fits and _join(self.items, group, number):
                break
        else:
            group = _Group(key, [number])
            self.groups.append(group)
        group.bonds |= bonds
        self.of[self.items[number].op] = group

    def _belongs(self, group: _Group, number: int, bonds: set[Hashable]) -> bool:
        """Whether products may share a launch: those that multiply a common tensor, or tensors that one
        launch of a template makes, do. Others gain less by it than it costs to keep their operands. What
        is pointwise always may.
        """
        kernel = self.known[callee(self.items[number].op)]
        if kernel_kind(kernel) not in KINDS:
            return True
        return len(group.items) < most_of(kernel) and bool(group.bonds & bonds)

    def _bonds(self, number: int) -> set[Hashable]:
        op = self.items[number].op
        kernel = self.known[callee(op)]
        if kernel_kind(kernel) not in KINDS:
            return set()
        values = set(multiplied(op, kernel))
        makers = {value.owner for value in values if not isinstance(value.owner, ir.Block)}
        made = {maker for maker in makers if is_template(self.known.get(callee(maker)))}
        return {*values, *(self.of.get(maker, maker) for maker in made)}


def _is_single(item: _Item) -> bool:
    return all(TensorType.of(result).size == 1 for result in item.op.results)


def _join(items: list[_Item], group: _Group, number: int) -> bool:
    """Adds a call to a group unless a path leads from one to the other; then all that depends on
    one member depends on what any of them does.
    """
    mask = sum(1 << n for n in group.items)
    if items[number].above & mask or any(items[n].above >> number & 1 for n in group.items):
        return False
    members = mask | 1 << number
    above = items[number].above
    for n in group.items:
        above |= items[n].above
    if above & members:
        return False
    group.items.append(number)
    for n, item in enumerate(items):
        if members >> n & 1:
            item.above = above
        elif item.above & members:
            item.above |= above | members
    return True


def _caller(
    function: ir.OpView,
    known: dict[str, ir.OpView],
    items: list[_Item],
    groups: list[_Group],
    made: dict[str, str],
) -> str:
    """The function again, one call for each group; the kernels of groups are added to `made`."""
    grouped = {number: group for group in groups for number in group.items}
    names, operands = {}, {}
    for group in groups:
        calls = [items[number].op for number in group.items]
        kernels = [known[callee(call)] for call in calls]
        name = names[id(group)] = _name(kernels, len(made))
        if kernel_kind(kernels[0]) == "loop":
            made[name] = multi_text(name, list(map(read_region, kernels)), kernels)
            operands[name] = [value for call in calls for value in call.operands]
        else:
            made[name], operands[name] = join_alike(name, calls, kernels)
    writer = Writer()
    values: dict[ir.Value, Named] = {}
    arguments = []
    for i, value in enumerate(function.regions[0].blocks[0].arguments):
        values[value] = (f"%a{i}", TensorType.of(value))
        arguments.append(f"%a{i}: {value.type}")
    for numbers in _order(items, grouped):
        ops = [items[number].op for number in numbers]
        name = names[id(grouped[numbers[0]])] if numbers[0] in grouped else ""
        write_call(writer, values, ops, name, operands.get(name, ()))
    return "\n".join([header_text(function, arguments), *writer.lines, "}"])


def _order(items: list[_Item], grouped: dict[int, _Group]) -> list[list[int]]:
    """The ops of a function, each after what it depends on, a group's together behind the last."""
    maker = {result: n for n, item in enumerate(items) for result in item.op.results}
    members = {n: grouped[n].items if n in grouped else [n] for n in range(len(items))}

    def needs(unit: int) -> list[int]:
        values = [value for n in members[unit] for value in items[n].op.operands]
        return [max(members[maker[value]]) for value in values if value in maker]

    last = [n for n in range(len(items)) if n == max(members[n])]
    return [members[n] for n in ordered(last, needs)]


def _name(kernels: list[ir.OpView], count: int) -> str:
    layers = {layer for kernel in kernels for layer in strings_of(kernel, "keras.layers")}
    common = next(iter(layers), "") if len(layers) == 1 else ""
    if kernel_kind(kernels[0]) != "loop":
        levels = zip(*(layer.split("/") for layer in layers), strict=False)
        common = "/".join(
            level[0] for level in takewhile(lambda level: len(set(level)) == 1, levels)
        )
    last = [part for part in common.split("/") if part not in ("", "grad")][-1:]
    parts = [*(re.sub(r"\W", "_", part) for part in last or ["multi"]), f"x{len(kernels)}"]
    return "_".join([*parts, str(count)])
