"""Kernels of gates: the template's problem, and the epilogue that sees all blocks of columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mlir import ir

from keras_triton.kernels import spec
from keras_triton.kernels.device import Device
from keras_triton.kernels.problem import Problem, TensorSpec

from ..errors import EmitError
from ..gates import KIND, Gates, block_of, read_gates
from ..mlir import TensorType, layer_of
from ..region import Read
from ..templates import TemplateKernel
from .kernel import GeneratedKernel, TemplateUse
from .source import Value
from .template import problem_of, spec_of
from .tile import EpilogueBuilder


class _GatesBuilder(EpilogueBuilder):
    """Writes an epilogue whose `acc` is a tuple: a tile of each block."""

    def read(self, read: Read) -> Value:
        if (read.source, read.index) != ("argument", 0):
            return super().read(read)
        block = block_of(read.dims, self.region.parallel[1])
        # Not yet rounded to the type the product would have in memory.
        return Value(f"acc[{block}]", "f32", frozenset("p"))


def emit_gates(
    name: str,
    function: ir.OpView,
    config: Mapping[str, Any] | None,
    device: Device,
    sized: bool = False,
) -> GeneratedKernel:
    """The kernel of a function of gates; `sized` as for `emit_template`.

    Raises:
        EmitError: the template does not take these operands.
        RegionError: the function is not one of gates.
    """
    parts = read_gates(name, function)
    problem, template = _problem(parts), spec.get(KIND)
    if not sized and (reason := template.supports(problem)):
        raise EmitError(f"keras.{KIND} (layer {layer_of(parts.product) or '?'}): {reason}")
    if config is None:
        config = template.space.record(template.space.guess(problem, device))
    stored = list(parts.region.outputs)
    product = parts.product
    whole = TemplateKernel(
        product, (), tuple(product.results), {}, parts.extras, parts.region, None, ((), ())
    )
    builder = _GatesBuilder(f"{name}_epilogue", whole)
    text = builder.epilogue(stored)
    use = TemplateUse(KIND, problem, dict(config))
    use = replace(
        use,
        epilogue=builder.name,
        outputs=len(stored),
        extras=len(parts.extras),
        sized=builder.is_sized,
    )
    inputs, outputs, aliases, tensors = _buffers(function, parts, len(stored))
    return GeneratedKernel(
        name=name,
        source=text,
        inputs=inputs,
        outputs=outputs,
        tensors=tensors,
        config=dict(config),
        template=use,
        aliases=aliases,
    )


def _buffers(
    function: ir.OpView, parts: Gates, stored: int
) -> tuple[tuple[str, ...], tuple[str, ...], dict[str, str], dict[str, TensorSpec]]:
    """What launches call the inputs and outputs; further names of inputs; and what each of all these is."""
    block = function.regions[0].blocks[0]
    arguments, results = list(block.arguments), list(list(block.operations)[-1].operands)
    named = [
        *zip("ab", parts.product.operands, strict=True),
        *((f"extra{i}", value) for i, value in enumerate(parts.extras)),
    ]
    roles = [[role for role, value in named if value == argument] for argument in arguments]
    inputs = tuple(mine[0] if mine else f"unused{i}" for i, mine in enumerate(roles))
    aliases = {role: mine[0] for mine in roles for role in mine[1:]}
    made = parts.product.results[0]
    numbers = iter(range(stored))
    outputs = tuple("product" if v == made else f"out{next(numbers)}" for v in results)
    tensors = {
        buffer: spec_of(TensorType.of(value))
        for buffer, value in zip((*inputs, *outputs), (*arguments, *results), strict=True)
    }
    tensors |= {alias: tensors[buffer] for alias, buffer in aliases.items()}
    return inputs, outputs, aliases, tensors


def problem_of_gates(function: ir.OpView) -> Problem:
    """The template's problem of a kernel function of gates."""
    return _problem(read_gates("gates", function))


def _problem(parts: Gates) -> Problem:
    product = problem_of(parts.product, "matmul")
    operands = [(operand.shape, operand.dtype) for operand in product.operands]
    options = {"gates": parts.count, "keep": parts.keeps}
    if "precision" in product.attrs:
        options["precision"] = product.attrs["precision"]
    return Problem.of(operands, **options)
