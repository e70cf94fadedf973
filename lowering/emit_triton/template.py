"""Template kernels: the hand-written kernel's problem, and what is generated for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from mlir import ir

from keras_triton.kernels import spec
from keras_triton.kernels.device import Device
from keras_triton.kernels.launch import Epilogue
from keras_triton.kernels.problem import Problem, TensorSpec

from ..dialect import attributes_of
from ..errors import EmitError
from ..mlir import TensorType, layer_of
from ..templates import TemplateKernel, read_template
from .columns import column_buffer, column_function, column_launch
from .kernel import GeneratedKernel, GeneratedLaunch, TemplateUse
from .source import DTYPE_NAMES
from .tile import EpilogueBuilder, PrologueBuilder

ATTRIBUTE_NAMES = {
    "conv2d_input_grad": {"shape": "x_shape"},
    "conv2d_kernel_grad": {"shape": "w_shape"},
    "max_pool2d_grad": {"shape": "x_shape"},
    "avg_pool2d_grad": {"shape": "x_shape"},
    "layer_norm": {"epsilon": "eps"},
}
"""Where a template calls an attribute otherwise than the dialect."""

MATRICES = (
    "softmax", "softmax_grad", "log_softmax", "log_softmax_grad", "layer_norm", "layer_norm_grad",
)  # fmt: skip
"""Templates over the rows of a matrix, whose ops take tensors of any rank."""


PRECISION = "keras.precision"
"""On a product of float32: how precisely it is computed, if not in full."""


def spec_of(tensor: TensorType) -> TensorSpec:
    return TensorSpec(tensor.shape, DTYPE_NAMES[tensor.dtype])


def emit_template(
    name: str,
    kind: str,
    function: ir.OpView,
    config: Mapping[str, Any] | None,
    device: Device,
    sized: bool = False,
) -> GeneratedKernel:
    """The kernel of a function with one template op and what stands behind it; `sized` is whether it is
    for any size, whose problem is looked at when that is known.

    Raises:
        EmitError: no template of that name, or none for these operands; the sentence says why.
        RegionError: loops that fit not behind the template.
    """
    parts = read_template(name, kind, function)
    problem = problem_of(parts.op, kind)
    if not spec.has(kind):
        raise EmitError(f"keras.{kind} has no template (layer {layer_of(parts.op) or '?'})")
    template = spec.get(kind)
    if not sized and (reason := template.supports(problem)):
        raise EmitError(f"keras.{kind} (layer {layer_of(parts.op) or '?'}): {reason}")
    if config is None:
        config = template.space.record(template.space.guess(problem, device))
    if (parts.epilogue.stages or parts.statistics) and not template.epilogues:
        raise EmitError(f"keras.{kind} takes no epilogue (layer {layer_of(parts.op) or '?'})")
    operands = template.names(problem)
    for number in parts.prologues:
        if operands[number] not in template.prologues:
            raise EmitError(f"keras.{kind} takes no prologue of its operand {operands[number]}")
        if parts.op.operands[number] in parts.results and not template.keeps(problem):
            raise EmitError(f"keras.{kind} loads its operand {operands[number]} more than once")
    return _Assembly(name, kind, parts, problem, config, sized).kernel()


def problem_of(op: ir.Operation, kind: str) -> Problem:
    """The template's problem: shapes as the template sees them, attributes by its names."""
    names = ATTRIBUTE_NAMES.get(kind, {})
    attributes = {names.get(key, key): value for key, value in attributes_of(op).items()}
    if PRECISION in op.attributes:
        attributes["precision"] = ir.StringAttr(op.attributes[PRECISION]).value
    types = [TensorType.of(value) for value in op.operands]
    if kind in MATRICES:
        columns = types[0].shape[-1]
        types = [_matrix(tensor, types[0], columns) for tensor in types]
    return Problem.of([(t.shape, DTYPE_NAMES[t.dtype]) for t in types], **attributes)


def _matrix(tensor: TensorType, rows: TensorType, columns: int) -> TensorType:
    """A tensor of a row op as [rows, columns], its row values as [rows]; parameters stay."""
    if tensor.shape == rows.shape:
        return tensor.with_shape((rows.size // max(columns, 1), columns))
    if tensor.shape == rows.shape[:-1]:
        return tensor.with_shape((rows.size // max(columns, 1),))
    return tensor


class _Assembly:
    """Names the buffers of a template's kernel, and generates what stands behind it."""

    def __init__(
        self,
        name: str,
        kind: str,
        parts: TemplateKernel,
        problem: Problem,
        config: Mapping[str, Any],
        sized: bool,
    ) -> None:
        self.name, self.kind, self.parts, self.problem = name, kind, parts, problem
        self.config, self.open = config, sized
        self.template = spec.get(kind)
        self.operands = self.template.names(problem)
        self.is_plain = not parts.epilogue.stages and parts.statistics is None
        self.reads = {self.operands[i]: made for i, made in parts.prologues.items()}
        values = list(parts.op.operands)
        self.kept = {
            self.operands[i]: values[i] for i in parts.prologues if values[i] in parts.results
        }

    def kernel(self) -> GeneratedKernel:
        inputs, aliases = self._inputs()
        outputs, stored = self._outputs()
        use = TemplateUse(self.kind, self.problem, dict(self.config))
        texts: list[str] = []
        for operand, made in self.reads.items():
            kept = operand in self.kept
            before = PrologueBuilder(f"{self.name}_{operand}", made, kept)
            texts.append(before.prologue())
            named = {operand: (before.name, len(made.arguments), kept, before.is_sized)}
            use = replace(use, prologues={**use.prologues, **named})
        launches: tuple[GeneratedLaunch, ...] = ()
        if not self.is_plain:
            builder = EpilogueBuilder(f"{self.name}_epilogue", self.parts)
            texts.append(builder.epilogue(stored))
            use = replace(
                use,
                epilogue=builder.name,
                outputs=len(stored),
                extras=len(self.parts.extras),
                sums=len(builder.sums),
                sized=builder.is_sized,
            )
        if self.parts.statistics is not None:
            tiles = None if self.open else self._tiles(use)
            function = column_function(f"{self.name}_columns", self.parts, tiles)
            texts.append(function.text)
            launches = (column_launch(function, self.parts),)
        tensors = {
            buffer: spec_of(TensorType.of(value))
            for names, values in ((inputs, self.parts.arguments), (outputs, self.parts.results))
            for buffer, value in zip(names, values, strict=True)
        }
        tensors |= {alias: tensors[buffer] for alias, buffer in aliases.items()}
        return GeneratedKernel(
            name=self.name,
            source="\n\n".join(texts),
            inputs=inputs,
            outputs=outputs,
            tensors=tensors,
            config=dict(self.config),
            launches=launches,
            scratch=self._unreturned(outputs),
            template=use,
            aliases=aliases,
        )

    def _tiles(self, use: TemplateUse) -> int:
        """How many tiles of this configuration share a column."""
        epilogue = Epilogue(outputs=use.outputs, extras=use.extras, sums=use.sums)
        config = self.template.space.parse(self.config)
        scratch = self.template.program(self.problem, config, epilogue).scratch
        return scratch["sum0"].shape[0]

    def _inputs(self) -> tuple[tuple[str, ...], dict[str, str]]:
        """A name for each argument, and the further names it goes by."""
        roles: list[list[str]] = [[] for _ in self.parts.arguments]
        made = (
            (f"{operand}_in{i}", value)
            for operand, prologue in self.reads.items()
            for i, value in enumerate(prologue.arguments)
        )
        for role, value in (
            *zip(self.operands, self.parts.op.operands, strict=False),
            *made,
            *((f"extra{i}", value) for i, value in enumerate(self.parts.extras)),
        ):
            if role not in self.reads:
                roles[self.parts.arguments.index(value)].append(role)
        names = tuple(mine[0] if mine else f"unused{i}" for i, mine in enumerate(roles))
        aliases = {role: mine[0] for mine in roles for role in mine[1:]}
        return names, aliases

    def _outputs(self) -> tuple[tuple[str, ...], list[int]]:
        """A name for each result, and what the epilogue stores: stages, or -1 for the tile."""
        names: list[str] = []
        stored: list[int] = []
        made = iter(self.parts.epilogue.outputs)
        further = {
            value: name
            for name, value in zip(
                self.template.results[1:], list(self.parts.op.results)[1:], strict=True
            )
        }
        for value in self.parts.results:
            if value in further:
                names.append(further[value])
            elif value in self.kept.values():
                names += [f"{operand}_out" for operand, kept in self.kept.items() if kept == value]
            elif value in self.parts.made[1]:
                names.append(column_buffer(self.parts.made[1].index(value)))
            else:
                names.append(f"out{len(stored)}")
                stored.append(-1 if value == self.parts.op.results[0] else next(made))
        if len(set(names)) != len(names) or (self.is_plain and len(stored) > 1):
            raise EmitError(f"{self.name}: a result of keras.{self.kind} is returned twice")
        return tuple(names), stored

    def _unreturned(self, outputs: Sequence[str]) -> dict[str, TensorSpec]:
        """Buffers for results of the template that nobody reads."""
        results = self.template.infer(self.problem)
        named = zip(self.template.results, results, strict=True)
        return {
            name: result
            for name, result in named
            if name not in outputs and not (name == "out0" and not self.is_plain)
        }
