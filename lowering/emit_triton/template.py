"""Template kernels: the hand-written kernel's problem, and the epilogue generated for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mlir import ir

from keras_triton.kernels import spec
from keras_triton.kernels.device import Device
from keras_triton.kernels.problem import Problem, TensorSpec

from ..dialect import attributes_of
from ..errors import EmitError
from ..mlir import TensorType, layer_of
from ..region import Region, read_stages
from .function import FunctionBuilder, Tiling
from .index import Coordinate
from .kernel import GeneratedKernel, TemplateUse
from .source import DTYPE_NAMES, Value

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


@dataclass(frozen=True)
class Parts:
    """A template's kernel function taken apart: its op, the region after it, what it returns."""

    op: ir.Operation
    arguments: tuple[ir.Value, ...]
    extras: tuple[ir.Value, ...]
    region: Region | None
    results: tuple[ir.Value, ...]


def spec_of(tensor: TensorType) -> TensorSpec:
    return TensorSpec(tensor.shape, DTYPE_NAMES[tensor.dtype])


def emit_template(
    name: str, kind: str, function: ir.OpView, config: Mapping[str, Any] | None, device: Device
) -> GeneratedKernel:
    """The kernel of a function with one template op and an optional epilogue.

    Raises:
        EmitError: no template of that name, or none for these operands; the sentence says why.
    """
    parts = _parts(name, kind, function)
    problem = problem_of(parts.op, kind)
    if kind not in spec.all_specs():
        raise EmitError(f"keras.{kind} has no template (layer {layer_of(parts.op) or '?'})")
    template = spec.get(kind)
    if reason := template.supports(problem):
        raise EmitError(f"keras.{kind} (layer {layer_of(parts.op) or '?'}): {reason}")
    if config is None:
        config = template.space.record(template.space.guess(problem, device))
    if parts.region is not None and not template.epilogues:
        raise EmitError(f"keras.{kind} takes no epilogue (layer {layer_of(parts.op) or '?'})")
    return _Assembly(name, kind, parts, problem, config).kernel()


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


def _parts(name: str, kind: str, function: ir.OpView) -> Parts:
    block = function.regions[0].blocks[0]
    ops = [op.operation for op in block.operations if op.operation.name.startswith("keras.")]
    if len(ops) != 1 or ops[0].name != f"keras.{kind}":
        raise EmitError(
            f"{name}: a {kind} kernel holds one keras.{kind}, not {[op.name for op in ops]}"
        )
    op, arguments = ops[0], tuple(block.arguments)
    stages = [stage for stage in block.operations if stage.operation.name == "linalg.generic"]
    used = [value for stage in stages for value in list(stage.operation.operands)[:-1]]
    extras = tuple(argument for argument in arguments if argument in used)
    made = [stage.operation.results[0] for stage in stages]
    results = tuple(list(block.operations)[-1].operands)
    region = None
    if stages:
        kept = [value for value in results if value in made]
        region = read_stages(name, [op.results[0], *extras], stages, kept)
        if region.reduction or region.parallel != TensorType.of(op.results[0]).shape:
            raise EmitError(f"{name}: an epilogue computes at the points of the template's result")
    return Parts(op, arguments, extras, region, results)


class _Assembly:
    """Names the buffers of a template's kernel, and generates its epilogue."""

    def __init__(
        self, name: str, kind: str, parts: Parts, problem: Problem, config: Mapping[str, Any]
    ) -> None:
        self.name, self.kind, self.parts, self.problem = name, kind, parts, problem
        self.config = config
        self.template = spec.get(kind)
        self.operands = self.template.names(problem)

    def kernel(self) -> GeneratedKernel:
        inputs, aliases = self._inputs()
        outputs, stored = self._outputs()
        text = ""
        use = TemplateUse(self.kind, self.problem, dict(self.config))
        if self.parts.region is not None:
            builder = EpilogueBuilder(f"{self.name}_epilogue", self.parts.region, len(stored))
            text = builder.epilogue(stored)
            use = replace(
                use,
                epilogue=builder.name,
                outputs=len(stored),
                extras=len(self.parts.extras),
            )
        tensors = {
            buffer: spec_of(TensorType.of(value))
            for names, values in ((inputs, self.parts.arguments), (outputs, self.parts.results))
            for buffer, value in zip(names, values, strict=True)
        }
        tensors |= {alias: tensors[buffer] for alias, buffer in aliases.items()}
        return GeneratedKernel(
            name=self.name,
            source=text,
            inputs=inputs,
            outputs=outputs,
            tensors=tensors,
            config=dict(self.config),
            scratch=self._unreturned(outputs),
            template=use,
            aliases=aliases,
        )

    def _inputs(self) -> tuple[tuple[str, ...], dict[str, str]]:
        """A name for each argument, and the further names it goes by."""
        roles: list[list[str]] = [[] for _ in self.parts.arguments]
        for role, value in (
            *zip(self.operands, self.parts.op.operands, strict=False),
            *((f"extra{i}", value) for i, value in enumerate(self.parts.extras)),
        ):
            if value not in self.parts.arguments:
                raise EmitError(f"{self.name}: operand {role} is not an argument of the kernel")
            roles[self.parts.arguments.index(value)].append(role)
        names = tuple(mine[0] if mine else f"unused{i}" for i, mine in enumerate(roles))
        aliases = {role: mine[0] for mine in roles for role in mine[1:]}
        return names, aliases

    def _outputs(self) -> tuple[tuple[str, ...], list[int]]:
        """A name for each result, and what the epilogue stores: stages, or -1 for the tile."""
        names: list[str] = []
        stored: list[int] = []
        made = iter(self.parts.region.outputs if self.parts.region else ())
        further = {
            value: name
            for name, value in zip(
                self.template.results[1:], list(self.parts.op.results)[1:], strict=True
            )
        }
        for value in self.parts.results:
            if value in further:
                names.append(further[value])
                continue
            names.append(f"out{len(stored)}")
            stored.append(-1 if value == self.parts.op.results[0] else next(made))
        if len(set(names)) != len(names) or (self.parts.region is None and len(stored) > 1):
            raise EmitError(f"{self.name}: a result of keras.{self.kind} is returned twice")
        return tuple(names), stored

    def _unreturned(self, outputs: Sequence[str]) -> dict[str, TensorSpec]:
        """Buffers for results of the template that nobody reads."""
        results = self.template.infer(self.problem)
        named = zip(self.template.results, results, strict=True)
        return {
            name: result
            for name, result in named
            if name not in outputs and not (name == "out0" and self.parts.region is not None)
        }


class EpilogueBuilder(FunctionBuilder):
    """Writes `function(acc, rows, cols, offset, mask, outs, extras)` for a region of the result."""

    def __init__(self, name: str, region: Region, outputs: int) -> None:
        arguments = ["acc", *(f"extras[{i}]" for i in range(len(region.arguments) - 1))]
        super().__init__(name, region, Tiling(1, 0, 1, False), arguments)
        self.columns = region.parallel[-1] if len(region.parallel) > 1 else 1
        self.result = region.arguments[0]

    def _open_rows(self) -> None:
        self.row_mask, self.column_mask, self.row_name = "mask", "", "offset"
        for taken in ("acc", "rows", "cols", "offset", "outs", "extras"):
            self.names.fresh(taken)

    def read(self, read: Any) -> Value:
        if read.source == "argument" and read.index == 0:
            if read.dims != tuple(range(len(self.region.parallel))):
                raise EmitError(f"{self.name}: an epilogue reads the template's result where it is")
            # Not yet rounded to the type the result would have in memory.
            wide = "f32" if self.result.dtype in ("f16", "bf16") else self.result.dtype
            return Value("acc", wide, frozenset("p"))
        return super().read(read)

    def pointer(self, buffer: str) -> str:
        return buffer

    def coordinate(self, coordinate: Coordinate) -> str:
        subscript, inner = _subscript(coordinate, self.columns)
        text = replace(coordinate, inner=inner).text(subscript)
        if subscript == "cols" and coordinate.size == self.columns and inner == 1:
            text = "cols"
        if text == subscript:
            return text
        dims = range(coordinate.first, coordinate.last + 1)
        stem = "d" + "_".join(str(dim) for dim in dims if self.domain.extents[dim] != 1)
        return self.once(coordinate, False, lambda: self.assign(stem, text, False))

    def load(
        self,
        buffer: str,
        dtype: str,
        coordinates: Sequence[Coordinate],
        stem: str,
        start: int = 0,
    ) -> Value:
        def make() -> Value:
            address = buffer + "".join(f" + {self.offset([c])}" for c in coordinates)
            if start:
                address += f" + {start}"
            mask = self._mask_of(coordinates)
            text = f"tl.load({address}{f', mask={mask}' if mask else ''})"
            return Value(
                self.assign(stem, text, False), dtype, frozenset("p" if coordinates else "")
            )

        return self.once((buffer, tuple(coordinates), start), False, make)

    def _mask_of(self, coordinates: Sequence[Coordinate]) -> str:
        """A mask as small as the address: that of the columns, of the rows, or of the tile."""
        subscripts = {_subscript(coordinate, self.columns)[0] for coordinate in coordinates}
        if not subscripts:
            return ""
        if subscripts == {"cols"}:
            return f"cols < {self.columns}"
        if subscripts == {"rows"}:
            return f"rows < {self.domain.rows // max(self.columns, 1)}"
        return "mask"

    def epilogue(self, stored: Sequence[int]) -> str:
        for place, index in enumerate(stored):
            value = Value("acc", self.result.dtype) if index < 0 else self.value(index)
            self.write(f"tl.store(outs[{place}] + offset, {value.tensor()}, mask=mask)")
        head = f"def {self.name}(acc, rows, cols, offset, mask, outs, extras):"
        return f"@triton.jit\n{head}\n{self.lines()}"


def _subscript(coordinate: Coordinate, columns: int) -> tuple[str, int]:
    """Which of "offset", "rows" and "cols" a coordinate needs, and its divisor of it."""
    if columns > 1 and coordinate.inner * coordinate.size <= columns and not coordinate.outermost:
        return "cols", coordinate.inner
    if columns > 1 and coordinate.inner % columns == 0:
        return "rows", coordinate.inner // columns
    return "offset", coordinate.inner
