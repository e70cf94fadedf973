"""Kernels of stage "regions" as Triton: readable source, and the launches that run it.

``emit`` turns a kernel function into text and a description of plain data; ``load`` makes it run,
on a GPU, in Triton's interpreter on CPU tensors, or through the offline compiler.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mlir import ir

from keras_triton.kernels import spec
from keras_triton.kernels.device import H200, Device
from keras_triton.kernels.problem import ceil_div

from .. import sizes
from ..errors import EmitError
from ..mlir import TensorType, layer_of
from ..region import Region, kernel_kind, read_instances, read_region
from .config import SPACE, LoopConfig
from .gates import emit_gates, problem_of_gates
from .index import Domain
from .kernel import GeneratedKernel, GeneratedLaunch
from .loop import stores_early, whole_function
from .multi import InstanceBuilder
from .products import emit_products, problem_of_products
from .split import split_functions
from .tables import ALIGNMENT, InstanceTable
from .template import emit_template, problem_of, spec_of
from .tiling import OPEN, WIDE, Function, Tiling

JOINED = {
    "products": (emit_products, problem_of_products),
    "gates": (emit_gates, problem_of_gates),
}
"""Templates that a kernel function of other ops names: their emitters, and their problems."""


@dataclasses.dataclass(frozen=True)
class Sizing:
    """How sizes are taken.

    Attributes:
        open: some are known when the kernel runs.
        whole: then, a tile holds whole rows of the domain.
    """

    open: bool
    whole: bool


CLOSED = Sizing(False, False)


def emit(
    function: ir.OpView, config: Mapping[str, Any] | None = None, device: Device = H200
) -> GeneratedKernel:
    """The Triton kernel of a function with the attribute keras.kernel.

    `config` is a record of the kernel's tuning space (`space(function)`); without one, the space's
    first guess for `device` is taken. A configuration the space refuses is still emitted.

    Raises:
        EmitError: the target has no kernel for it; the sentence says which op and why.
        RegionError: a "loop" or "multi" function that is no region.
        ValueError: a config with other fields or values than the space has.
    """
    return _emitted(function, config, device, CLOSED)


def emit_open(function: ir.OpView, config: Mapping[str, Any], *, whole: bool) -> GeneratedKernel:
    """The kernel of a function with a symbolic size, for any: `at` gives that of one size.

    `whole` is whether a tile holds whole rows, whose length is open: that of the configuration holds.

    Raises:
        EmitError: as `emit`, or the code would be another for each size.
    """
    return _emitted(function, config, H200, Sizing(True, whole))


def _emitted(
    function: ir.OpView, config: Mapping[str, Any] | None, device: Device, sizing: Sizing
) -> GeneratedKernel:
    kind, name = kernel_kind(function), identifier(function)
    if kind not in ("loop", "multi"):
        if kind in JOINED:
            kernel = JOINED[kind][0](name, function, config, device, sizing.open)
        else:
            kernel = emit_template(name, kind, function, config, device, sizing.open)
        source = kernel.source and header(function, name, kernel.source) + kernel.source
        return dataclasses.replace(kernel, source=source)
    regions = read_instances(function) if kind == "multi" else [read_region(function)]
    chosen = SPACE.parse(config) if config is not None else _guess(regions, device)
    make = _emit_multi if kind == "multi" else _emit_loop
    kernel = make(name, regions, chosen, sizing)
    return dataclasses.replace(kernel, source=header(function, name, kernel.source) + kernel.source)


def space(function: ir.OpView) -> tuple[Any, Any]:
    """The tuning space of a kernel function, and what its `configs` and `guess` take as problem."""
    kind = kernel_kind(function)
    if kind == "loop":
        return SPACE, read_region(function)
    if kind == "multi":
        return SPACE, _flattened(read_instances(function))
    if kind in JOINED:
        return spec.get(kind).space, JOINED[kind][1](function)
    if not spec.has(kind):
        raise EmitError(f"keras.{kind} has no template")
    op = next(
        op
        for op in function.regions[0].blocks[0].operations
        if op.operation.name == f"keras.{kind}"
    )
    return spec.get(kind).space, problem_of(op.operation, kind)


def default_config(function: ir.OpView, device: Device = H200) -> dict[str, Any]:
    """The first guess for a kernel function, as a record."""
    found, problem = space(function)
    return found.record(found.guess(problem, device))


def identifier(function: ir.OpView) -> str:
    """The kernel's name as Python spells names."""
    name = ir.StringAttr(function.operation.attributes["sym_name"]).value
    plain = re.sub(r"\W", "_", name)
    return plain if plain[:1].isalpha() else f"kernel_{plain}"


def header(function: ir.OpView, name: str, text: str) -> str:
    """Docstring and imports of a module with the given functions."""
    layers, lines = _layers(function), [f'"""{name}: made by keras-triton from these ops.', ""]
    block = function.regions[0].blocks[0]
    for op in block.operations:
        if op.operation.name.startswith(("linalg.generic", "keras.")):
            lines.append(f"    {_described(op)}")
    if layers:
        lines += ["", f"Layers: {', '.join(layers)}."]
    lines += ['"""', "", "import triton", "import triton.language as tl"]
    if "libdevice." in text:
        lines.append("from triton.language.extra import libdevice")
    if used := sorted(set(re.findall(r"\breduce_\w+(?=\()", text))):
        lines += ["", f"from keras_triton.kernels.reductions import {', '.join(used)}"]
    return "\n".join(lines) + "\n\n\n"


def _layers(function: ir.OpView) -> list[str]:
    attributes = function.operation.attributes
    if "keras.layers" not in attributes:
        return []
    return [ir.StringAttr(item).value for item in ir.ArrayAttr(attributes["keras.layers"])]


def _described(op: ir.OpView) -> str:
    """One op of a kernel in a line: what it computes, of which type, for which layer."""
    name = op.operation.name
    if name == "linalg.generic":
        body = [inner.operation.name.split(".")[1] for inner in op.regions[0].blocks[0].operations]
        kind = "reduce" if "reduction" in str(op.attributes["iterator_types"]) else "map"
        shown = [op for op in body if op not in ("yield", "constant")]
        name = f"{kind}: {_shortened(shown) or 'copy'}"
    layer = layer_of(op)
    return f"{name} -> {TensorType.of(op.operation.results[0])}{f'  ({layer})' if layer else ''}"


def _shortened(names: Sequence[str], most: int = 6) -> str:
    shown = ", ".join(names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown


def _guess(regions: Sequence[Region], device: Device) -> LoopConfig:
    return SPACE.guess(_flattened(regions) if len(regions) > 1 else regions[0], device)


def _flattened(regions: Sequence[Region]) -> Region:
    """Instances as one region of as many elements, for the first guess."""
    size = sum(Domain(region.parallel, ()).rows for region in regions)
    return dataclasses.replace(regions[0], parallel=(size,))


def _tensors(names: Iterable[str], types: Iterable[TensorType]) -> dict[str, Any]:
    return {name: spec_of(kind) for name, kind in zip(names, types, strict=True)}


def _emit_loop(
    name: str, regions: Sequence[Region], config: LoopConfig, sizing: Sizing
) -> GeneratedKernel:
    region = regions[0]
    domain = Domain(region.parallel, region.reduction)
    inputs = tuple(f"in{i}" for i in range(len(region.arguments)))
    outputs = tuple(f"out{i}" for i in range(len(region.results)))
    types = (*region.arguments, *region.results)
    points = domain.rows * domain.columns
    slices = _whole_slices(domain, config)
    tiling = Tiling(
        config.block_p,
        config.block_r if region.reduction else 0,
        slices,
        _index_type(points, types, sizing),
        sizing.whole,
    )
    scratch: dict[str, TensorType] = {}
    functions: tuple[tuple[Function, int], ...]
    in_place = True
    if slices > 1:
        split = split_functions(name, region, tiling, inputs, outputs)
        functions, scratch, in_place = split.functions, split.scratch, False
    else:
        fits = sizing.whole or domain.columns <= config.block_r
        in_place = fits or not stores_early(region)
        functions = ((whole_function(name, region, tiling, inputs, outputs), 1),)
    return GeneratedKernel(
        name=name,
        source="\n\n".join(function.text for function, _ in functions),
        inputs=inputs,
        outputs=outputs,
        tensors=_tensors((*inputs, *outputs), types),
        config=dataclasses.asdict(config),
        launches=tuple(
            _launch(function, config, domain.rows, programs) for function, programs in functions
        ),
        scratch=_tensors(scratch, scratch.values()),
        in_place=in_place,
        points=points,
    )


def _index_type(points: int, types: Iterable[TensorType], sizing: Sizing) -> str:
    """The type of offsets: the widest that any needs, or one that is chosen for each size."""
    if sizing.open:
        return OPEN
    return WIDE if max(points, *(kind.size for kind in types)) >= 2**31 else ""


def _whole_slices(domain: Domain, config: LoopConfig) -> int:
    """Slices of which none is empty, but for some sizes."""
    if not domain.reduction or config.slices == 1:
        return 1
    if sizes.is_symbolic(domain.columns):
        return config.slices
    tiles = max(ceil_div(domain.columns, config.block_r), 1)
    return ceil_div(tiles, ceil_div(tiles, min(config.slices, tiles)))


def _launch(function: Function, config: LoopConfig, rows: int, programs: int) -> GeneratedLaunch:
    """`programs` programs for each tile of rows."""
    constexprs = {"BLOCK_P": config.block_p}
    if function.columns:
        constexprs["BLOCK_R"] = function.columns
    return GeneratedLaunch(
        function.name,
        function.pointers,
        constexprs,
        ((rows,), config.block_p),
        (programs, 1),
        config.num_warps,
        config.num_stages,
        open=function.open,
    )


def _emit_multi(
    name: str, regions: Sequence[Region], config: LoopConfig, sizing: Sizing
) -> GeneratedKernel:
    builder = InstanceBuilder(name, regions)
    region = regions[0]
    elements = tuple(Domain(each.parallel, ()).rows for each in regions)
    table = InstanceTable(elements, len(region.arguments), len(region.outputs), config.block_p)
    inputs = tuple(f"in{i}_{k}" for i in range(len(regions)) for k in range(table.arguments))
    outputs = tuple(f"out{i}_{k}" for i in range(len(regions)) for k in range(table.results))
    types = [
        *(kind for each in regions for kind in each.arguments),
        *(kind for each in regions for kind in each.results),
    ]
    buffers = {buffer: buffer for buffer in table.dtypes()}
    launch = GeneratedLaunch(
        name,
        buffers,
        {"ALIGN": ALIGNMENT, "BLOCK_P": config.block_p},
        (elements, config.block_p),
        num_warps=config.num_warps,
        num_stages=config.num_stages,
    )
    return GeneratedKernel(
        name=name,
        source=builder.text(),
        inputs=inputs,
        outputs=outputs,
        tensors=_tensors((*inputs, *outputs), types),
        config=dataclasses.asdict(config),
        launches=(launch,),
        table=table,
    )
