"""Kernels over many instances as text, and the functions that call them."""

from __future__ import annotations

from collections.abc import Sequence

from mlir import ir

from ..linalg.body import read_block
from ..linalg.write import Named, Writer, attribute_text, string_list
from ..mlir import TensorType
from ..region import Region


def write_call(
    writer: Writer,
    values: dict[ir.Value, Named],
    ops: list[ir.Operation],
    kernel: str,
    taken: Sequence[ir.Value] = (),
) -> None:
    """One op as it is, or the calls of a group as one that takes these values."""
    operands = [values[value] for value in (taken if kernel else ops[0].operands)]
    results = [result for op in ops for result in op.results]
    types = [TensorType.of(result) for result in results]
    attributes = f"{{callee = @{kernel}}}" if kernel else attribute_text(ops[0])
    made = writer.op(ops[0].name, operands, types, attributes, str(ops[0].location))
    values.update(
        {result: (name, kind) for result, name, kind in zip(results, made, types, strict=True)}
    )


def strings_of(kernel: ir.OpView, attribute: str) -> list[str]:
    """The strings of an attribute that may be absent."""
    attributes = kernel.operation.attributes
    return (
        [ir.StringAttr(item).value for item in attributes[attribute]]
        if attribute in attributes
        else []
    )


def multi_text(name: str, regions: Sequence[Region], told: Sequence[ir.OpView]) -> str:
    """The kernel of all instances: arguments, stages and results stand instance after instance. What
    its layers are, and why it ends where it does, the kernels `told` say.
    """
    parameters: list[str] = []
    results: list[Named] = []
    writer = Writer()
    for i, region in enumerate(regions):
        arguments = [(f"%i{i}_a{j}", kind) for j, kind in enumerate(region.arguments)]
        parameters += [f"{text}: {kind}" for text, kind in arguments]
        stages = _stages(writer, region, arguments)
        results += [stages[index] for index in region.outputs]
    layers = list(
        dict.fromkeys(item for kernel in told for item in strings_of(kernel, "keras.layers"))
    )
    reasons = list(
        dict.fromkeys(item for kernel in told for item in strings_of(kernel, "keras.reason"))
    )
    attributes = [
        'keras.kernel = "multi"',
        f"keras.instances = {len(regions)} : i64",
        f"keras.layers = {string_list(layers)}",
        *([f"keras.reason = {string_list(reasons)}"] if reasons else []),
    ]
    writer.op("func.return", results, [], "", "")
    types = ", ".join(str(kind) for _, kind in results)
    header = f"func.func private @{name}({', '.join(parameters)}) -> ({types})"
    return "\n".join([f"{header} attributes {{{', '.join(attributes)}}} {{", *writer.lines, "}"])


def _stages(writer: Writer, region: Region, arguments: list[Named]) -> list[Named]:
    """Writes the stages of one instance; returns their results."""
    made: list[Named] = []
    for stage in region.stages:
        body, numbers = read_block(
            stage.block, [((read.source, read.index), read.dims) for read in stage.reads], {}
        )
        attributes = stage.block.owner.attributes
        result = writer.generic(
            body,
            numbers[stage.value],
            stage.type,
            region.parallel,
            lambda source: arguments[source[1]] if source[0] == "argument" else made[source[1]],
            location=f'loc("{stage.layer}")' if stage.layer else "",
            op=ir.StringAttr(attributes["keras.op"]).value if "keras.op" in attributes else "",
        )
        made.append((result, stage.type))
    return made
