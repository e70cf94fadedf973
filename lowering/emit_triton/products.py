"""Kernels of several products: the template's problem, and who of the instances takes what buffer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mlir import ir

from keras_triton.kernels import spec
from keras_triton.kernels.device import Device
from keras_triton.kernels.problem import Problem

from ..errors import EmitError
from ..linalg.body import read_block
from ..mlir import TensorType, layer_of
from ..products import Instance, read_products
from ..region import Read, Region, read_stages
from ..templates import TemplateKernel
from .kernel import GeneratedKernel, TemplateUse
from .source import DTYPE_NAMES, Value
from .template import problem_of, spec_of
from .tile import EpilogueBuilder

KIND = "products"


@dataclass(frozen=True)
class _Part:
    """An instance with what its loops read beside the products, and their region."""

    instance: Instance
    extras: tuple[ir.Value, ...]
    region: Region | None

    def template(self) -> TemplateKernel:
        """The first product with the loops behind it, as if there was no other."""
        assert self.region is not None
        (op, *_), results = self.instance.products, self.instance.results
        stored = tuple(value for value in results if value != op.results[0])
        return TemplateKernel(op, (), results, {}, self.extras, self.region, None, (stored, ()))


class _SumBuilder(EpilogueBuilder):
    """Writes an epilogue of several products: `acc` is their sum. As they only count through that, it
    stands for the first of them, and the others are 0.
    """

    def read(self, read: Read) -> Value:
        if read.source == "stage" or read.index <= len(self.extras):
            return super().read(read)
        return Value(self.once("nothing", False, self._nothing), "f32", frozenset("p"))

    def _nothing(self) -> str:
        return self.assign("nothing", "tl.full(acc.shape, 0.0, tl.float32)", False)


def emit_products(
    name: str,
    function: ir.OpView,
    config: Mapping[str, Any] | None,
    device: Device,
    sized: bool = False,
) -> GeneratedKernel:
    """The kernel of a function of products; `sized` as for `emit_template`.

    Raises:
        EmitError: the template does not take these operands, or the instances differ in code.
        RegionError: the function is not one of products.
    """
    parts = [_part(name, instance) for instance in read_products(function)]
    problem = _problem([part.instance for part in parts])
    template = spec.get(KIND)
    if not sized and (reason := template.supports(problem)):
        layer = layer_of(parts[0].instance.products[0])
        raise EmitError(f"keras.{KIND} (layer {layer or '?'}): {reason}")
    if len({_code(part.region) for part in parts}) > 1:
        raise EmitError(f"{name}: the instances differ in what they compute")
    if config is None:
        config = template.space.record(template.space.guess(problem, device))
    use = TemplateUse(KIND, problem, dict(config))
    text, first = "", parts[0]
    if first.region is not None:
        stored = _stored(first)
        builder = _SumBuilder(f"{name}_epilogue", first.template())
        text = builder.epilogue(stored)
        use = replace(
            use,
            epilogue=builder.name,
            outputs=len(stored),
            extras=len(first.extras),
            sized=builder.is_sized,
        )
    block = function.regions[0].blocks[0]
    inputs, aliases = _inputs(list(block.arguments), parts)
    outputs = _outputs(list(list(block.operations)[-1].operands), parts)
    values = (*block.arguments, *list(block.operations)[-1].operands)
    tensors = {
        buffer: spec_of(TensorType.of(value))
        for buffer, value in zip((*inputs, *outputs), values, strict=True)
    }
    tensors |= {alias: tensors[buffer] for alias, buffer in aliases.items()}
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


def problem_of_products(function: ir.OpView) -> Problem:
    """The template's problem of a kernel function of products."""
    return _problem(read_products(function))


def _problem(instances: Sequence[Instance]) -> Problem:
    products = [op for instance in instances for op in instance.products]
    types = [TensorType.of(value) for op in products for value in op.operands]
    return Problem.of(
        [(kind.shape, DTYPE_NAMES[kind.dtype]) for kind in types],
        instances=len(instances),
        pairs=len(instances[0].products),
        sums=instances[0].sums is not None,
        **problem_of(products[0], products[0].name.removeprefix("keras.")).attrs,
    )


def _part(name: str, instance: Instance) -> _Part:
    made = [op.results[0] for op in instance.products]
    read = [value for stage in instance.stages for value in list(stage.operation.operands)[:-1]]
    extras = tuple(dict.fromkeys(value for value in read if isinstance(value.owner, ir.Block)))
    if not instance.stages:
        return _Part(instance, extras, None)
    kept = [value for value in instance.results if value not in made]
    region = read_stages(name, [made[0], *extras, *made[1:]], instance.stages, kept)
    if region.reduction or region.parallel != TensorType.of(made[0]).shape:
        raise EmitError(f"{name}: an epilogue computes at the points of the template's result")
    return _Part(instance, extras, region)


def _stored(part: _Part) -> list[int]:
    """What the epilogue stores: stages, or -1 for the products' sum."""
    assert part.region is not None
    made = iter(part.region.outputs)
    first = part.instance.products[0].results[0]
    return [-1 if value == first else next(made) for value in part.instance.results]


def _code(region: Region | None) -> object:
    """All of a region but its location."""
    if region is None:
        return None
    code = []
    for stage in region.stages:
        sources = [((read.source, read.index), read.dims) for read in stage.reads]
        body, numbers = read_block(stage.block, sources, {})
        code.append((tuple(body.ops), numbers[stage.value], stage.type))
    return tuple(code), region.arguments, region.outputs


def _inputs(
    arguments: Sequence[ir.Value], parts: Sequence[_Part]
) -> tuple[tuple[str, ...], dict[str, str]]:
    """A name for each argument, and the further names it goes by."""
    products = [op for part in parts for op in part.instance.products]
    extras = [value for part in parts for value in part.extras]
    named = [
        *((f"a{i}", op.operands[0]) for i, op in enumerate(products)),
        *((f"b{i}", op.operands[1]) for i, op in enumerate(products)),
        *((f"extra{i}", value) for i, value in enumerate(extras)),
    ]
    roles = [[name for name, value in named if value == argument] for argument in arguments]
    names = tuple(mine[0] if mine else f"unused{i}" for i, mine in enumerate(roles))
    return names, {role: mine[0] for mine in roles for role in mine[1:]}


def _outputs(returned: Sequence[ir.Value], parts: Sequence[_Part]) -> tuple[str, ...]:
    """A name for each result."""
    results = [value for part in parts for value in part.instance.results]
    names = {value: f"out{i}" for i, value in enumerate(results)}
    names |= {part.instance.sums: f"sum{i}" for i, part in enumerate(parts)}
    if len(set(returned)) != len(returned):
        raise EmitError("a result of products is returned twice")
    return tuple(names[value] for value in returned)
