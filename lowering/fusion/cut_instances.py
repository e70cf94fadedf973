"""Multi kernels cut into several, so that what some instances need can go before others run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mlir import ir

from ..linalg.write import Named, Writer, header_text, op_text
from ..loops import code
from ..mlir import TensorType, callee, functions, parse
from ..region import Region, kernel_kind, read_instances
from .instances import multi_text, write_call


def cut_instances(module: ir.Module, parts: int) -> ir.Module:
    """The module with each multi kernel that `@main` calls as up to so many, of as many bytes each."""
    known = functions(module)
    kernels: dict[str, str] = {}
    cuts: dict[str, list[tuple[str, slice, slice]]] = {}
    for name, function in known.items():
        if kernel_kind(function) == "multi":
            regions = read_instances(function)
            for n, (first, last) in enumerate(_even(regions, parts)):
                cut = f"{name}_part{n}"
                kernels[cut] = multi_text(cut, regions[first:last], [function])
                reads, makes = len(regions[0].arguments), len(regions[0].results)
                cuts.setdefault(name, []).append(
                    (cut, slice(first * reads, last * reads), slice(first * makes, last * makes))
                )
    callers = code(module)
    kept = [op_text(f) for name, f in known.items() if name not in cuts.keys() | callers.keys()]
    lines = [*kept, *kernels.values(), *(_cut_caller(f, cuts) for f in callers.values())]
    return parse("\n".join(['module attributes {keras.stage = "regions"} {', *lines, "}"]))


def _even(regions: Sequence[Region], parts: int) -> list[tuple[int, int]]:
    """Runs of instances whose results take about as many bytes."""
    sizes = [sum(kind.nbytes for kind in region.results) for region in regions]
    found: list[tuple[int, int]] = []
    share, first, taken = sum(sizes) / parts, 0, 0
    for n, nbytes in enumerate(sizes):
        taken += nbytes
        if taken >= share * (len(found) + 1) or n == len(sizes) - 1:
            found.append((first, n + 1))
            first = n + 1
    return found


def _cut_caller(function: ir.OpView, cuts: Mapping[str, Sequence[tuple[str, slice, slice]]]) -> str:
    """The function again, with calls of the parts."""
    writer = Writer()
    values: dict[ir.Value, Named] = {}
    block = function.regions[0].blocks[0]
    values.update({v: (f"%a{i}", TensorType.of(v)) for i, v in enumerate(block.arguments)})
    for view in block.operations:
        op = view.operation
        if callee(op) not in cuts:
            write_call(writer, values, [op], "")
            continue
        for name, reads, makes in cuts[callee(op)]:
            results = list(op.results)[makes]
            types = [TensorType.of(result) for result in results]
            operands = [values[value] for value in list(op.operands)[reads]]
            text = f"{{callee = @{name}}}"
            made = writer.op("func.call", operands, types, text, str(op.location))
            values.update(zip(results, zip(made, types, strict=True), strict=True))
    arguments = [f"%a{i}: {value.type}" for i, value in enumerate(block.arguments)]
    return "\n".join([header_text(function, arguments), *writer.lines, "}"])
