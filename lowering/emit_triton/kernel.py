"""What the Triton emitter makes: source text and launches, as plain data; and their loading."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.abc import ExecutionLoader
from types import ModuleType
from typing import Any

import torch
import triton.language as tl

from keras_triton.kernels import spec
from keras_triton.kernels.launch import SIZE, STORE, Epilogue, Launch, Program, Prologue, execute
from keras_triton.kernels.problem import Attribute, Problem, TensorSpec, ceil_div

from .. import sizes
from ..errors import EmitError
from .tables import ALIGNMENT, InstanceTable, Tables


@dataclass(frozen=True)
class GeneratedLaunch:
    """A launch of a function of the source, by name; else as kernels.launch.Launch.

    Attributes:
        blocks: along the first axis of the grid a program for each of so many elements, of each of these
            extents; `grid` is its other two axes.
        scalars: integer arguments. Where `open`, the function takes the symbolic size and the type of
            offsets, too.
    """

    function: str
    pointers: Mapping[str, str]
    constexprs: Mapping[str, Any]
    blocks: tuple[tuple[int, ...], int]
    grid: tuple[int, int] = (1, 1)
    num_warps: int = 4
    num_stages: int = 3
    scalars: Mapping[str, int] = field(default_factory=dict)
    open: bool = False

    @property
    def programs(self) -> int:
        """Along the first axis of the grid."""
        extents, block = self.blocks
        return sum(ceil_div(extent, block) for extent in extents)

    def at(self, size: int, wide: bool) -> GeneratedLaunch:
        """The launch for one size; `wide` is whether offsets need 64 bits there."""
        extents, block = self.blocks
        made = replace(self, blocks=(tuple(sizes.at(extent, size) for extent in extents), block))
        if not self.open:
            return made
        constexprs = {"INDEX": tl.int64 if wide else tl.int32, **self.constexprs}
        return replace(made, constexprs=constexprs, scalars={"size": size}, open=False)


@dataclass(frozen=True)
class TemplateUse:
    """A hand-written template under a generated epilogue.

    Attributes:
        template: its name in the registry of kernels.
        problem: its operands and attributes.
        config: its tuning configuration, as a record of its space.
        epilogue: the name of the epilogue function in the source, "" for none.
        outputs, extras, sums: how many tensors the epilogue stores, how many more it reads, and how
            many column sums of its tiles it leaves behind.
        sized: the epilogue takes the symbolic size.
        prologues: operand -> the name of the function that makes it, how many tensors that reads,
            whether it stores what it makes, and whether it takes the symbolic size.
    """

    template: str
    problem: Problem
    config: Mapping[str, Any]
    epilogue: str = ""
    outputs: int = 1
    extras: int = 0
    sums: int = 0
    sized: bool = False
    prologues: Mapping[str, tuple[str, int, bool, bool]] = field(default_factory=dict)

    def at(self, size: int) -> TemplateUse:
        """The use of it where the size is `size`."""
        operands = tuple(spec_at(operand, size) for operand in self.problem.operands)
        attributes = tuple((name, _at(value, size)) for name, value in self.problem.attributes)
        return replace(self, problem=Problem(operands, attributes))


def _at(attribute: Attribute, size: int) -> Attribute:
    if isinstance(attribute, tuple):
        return tuple(sizes.at(number, size) for number in attribute)
    return sizes.at(attribute, size) if type(attribute) is sizes.Extent else attribute


def spec_at(spec: TensorSpec, size: int) -> TensorSpec:
    """A tensor where the size is `size`."""
    return TensorSpec(tuple(sizes.at(extent, size) for extent in spec.shape), spec.dtype)


@dataclass(frozen=True)
class GeneratedKernel:
    """One kernel, before Triton sees it.

    Attributes:
        name: the kernel function's name.
        source: text of the Python module with its @triton.jit functions.
        inputs, outputs: buffer names, in the order of arguments and results.
        tensors: shape and dtype of each of those buffers.
        launches: of functions of the source, in order; those after a template's own.
        scratch: temporary buffers.
        template: for a template, which and how.
        table: for a "multi" kernel, its instances.
        config: the configuration the kernel was made for.
        aliases: further names that launches have for inputs.
        in_place: an output may lie where an input of its shape lies, if every read of that input is
            of the element written; otherwise `LoadedKernel.run` sees to it.
        points: of the domain.
        size: the symbolic size that its numbers are of, where its source is for any; None before `at`
            and where there is none.
    """

    name: str
    source: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    tensors: Mapping[str, TensorSpec]
    config: Mapping[str, Any]
    launches: tuple[GeneratedLaunch, ...] = ()
    scratch: Mapping[str, TensorSpec] = field(default_factory=dict)
    template: TemplateUse | None = None
    table: InstanceTable | None = None
    aliases: Mapping[str, str] = field(default_factory=dict)
    in_place: bool = True
    points: int = 0
    size: int | None = None

    def at(self, size: int) -> GeneratedKernel:
        """A kernel of any size for one: the same source, with the numbers of that size."""
        tensors, scratch = (
            {name: spec_at(spec, size) for name, spec in specs.items()}
            for specs in (self.tensors, self.scratch)
        )
        largest = max(
            sizes.at(self.points, size), *(t.size for t in (*tensors.values(), *scratch.values()))
        )
        return replace(
            self,
            tensors=tensors,
            scratch=scratch,
            launches=tuple(launch.at(size, largest >= 2**31) for launch in self.launches),
            template=self.template and self.template.at(size),
            table=self.table and self.table.at(size),
            points=sizes.at(self.points, size),
            size=size,
        )

    @property
    def digest(self) -> str:
        """Twelve hexadecimal digits that identify the source."""
        return hashlib.sha256(self.source.encode()).hexdigest()[:12]


class LoadedKernel:
    """A generated kernel whose functions exist: it runs, is interpreted, or compiled offline.

    Attributes:
        generated: what it was loaded from.
        program: its launches, as every kernel's.
    """

    def __init__(self, generated: GeneratedKernel, program: Program) -> None:
        self.generated, self.program = generated, program
        self._tables = Tables(generated.table) if generated.table else None

    def run(self, tensors: Sequence[torch.Tensor], *, interpret: bool) -> None:
        """Runs on contiguous `tensors`, inputs then outputs; the outputs are written.

        `interpret` runs in this process on CPU tensors; else they are CUDA tensors and the launches
        go to the current stream.

        Raises:
            EmitError: not as many tensors as the kernel has inputs and outputs.
        """
        names = (*self.generated.inputs, *self.generated.outputs)
        if len(tensors) != len(names):
            raise EmitError(
                f"{self.generated.name} takes {len(self.generated.inputs)} inputs and "
                f"{len(self.generated.outputs)} outputs, not {len(tensors)} tensors"
            )
        written = tensors if self.generated.in_place else self._apart(tensors)
        buffers = self.buffers(written)
        execute(self._program_now(), buffers, interpret=interpret)
        for target, source in zip(tensors, written, strict=True):
            if target is not source:
                target.copy_(source)

    def _apart(self, tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """The tensors, with new ones for outputs that lie where an input does."""
        count = len(self.generated.inputs)
        read = {tensor.data_ptr() for tensor in tensors[:count]}
        outputs = (
            torch.empty_like(tensor) if tensor.data_ptr() in read else tensor
            for tensor in tensors[count:]
        )
        return [*tensors[:count], *outputs]

    def _program_now(self) -> Program:
        """The launches for the tensors last seen: those of a table for its alignment."""
        if self._tables is None or self._tables.alignment == ALIGNMENT:
            return self.program
        (launch,) = self.program.launches
        constexprs = {**launch.constexprs, "ALIGN": self._tables.alignment}
        return replace(self.program, launches=(replace(launch, constexprs=constexprs),))

    def buffers(self, tensors: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
        """The buffers that the launches name: the tensors, or for "multi" the tables of them.

        The tables of the last tensors are kept, so unchanged addresses cost no copy to the device.
        """
        if self._tables is not None:
            return self._tables.buffers(tensors)
        names = (*self.generated.inputs, *self.generated.outputs)
        found = dict(zip(names, tensors, strict=True))
        return found | {alias: found[name] for alias, name in self.generated.aliases.items()}

    def dtypes(self) -> dict[str, str]:
        """Buffer name -> dtype name of everything the launches name, for an offline compilation."""
        if self.generated.table is not None:
            return self.generated.table.dtypes()
        tensors = {**self.generated.tensors, **self.program.scratch}
        return {name: tensor.dtype for name, tensor in tensors.items()}


def load(generated: GeneratedKernel) -> LoadedKernel:
    """Makes a kernel runnable."""
    module = _import(generated) if generated.source else None
    launches = tuple(_launch(module, launch) for launch in generated.launches)
    if generated.template is None:
        return LoadedKernel(generated, Program(launches, generated.scratch))
    program = _template_program(generated.template, module)
    if generated.size is not None and launches:
        # Behind a template of any size stands what adds its column sums.
        tiles = program.scratch["sum0"].shape[0]
        launches = tuple(
            replace(launch, scalars={**launch.scalars, "tiles": tiles}) for launch in launches
        )
    scratch = {**program.scratch, **generated.scratch}
    program = Program((*program.launches, *launches), scratch)
    if generated.size is not None:
        numbers = {SIZE: generated.size}
        launches = tuple(replace(launch, numbers=numbers) for launch in program.launches)
        program = replace(program, launches=launches)
    return LoadedKernel(generated, program)


def _template_program(use: TemplateUse, module: ModuleType | None) -> Program:
    """The launches of a template, with what is generated around it."""
    epilogue = STORE
    if use.epilogue:
        function = getattr(module, use.epilogue)
        epilogue = Epilogue(function, use.outputs, use.extras, use.sums, use.sized)
    template = spec.get(use.template)
    prologues = {
        operand: Prologue(getattr(module, function), reads, keeps, sized)
        for operand, (function, reads, keeps, sized) in use.prologues.items()
    }
    return template.program(use.problem, template.space.parse(use.config), epilogue, prologues)


def _launch(module: ModuleType | None, launch: GeneratedLaunch) -> Launch:
    return Launch(
        kernel=getattr(module, launch.function),
        pointers=launch.pointers,
        constexprs=launch.constexprs,
        grid=(launch.programs, *launch.grid),
        num_warps=launch.num_warps,
        num_stages=launch.num_stages,
        scalars=launch.scalars,
    )


class _Source(ExecutionLoader):
    """Generated source as a module that lies on no disk; `inspect`, and so Triton, asks here for it."""

    def __init__(self, text: str, file: str) -> None:
        self.text, self.file = text, file

    def get_source(self, fullname: str) -> str:
        return self.text

    def get_filename(self, fullname: str) -> str:
        return self.file


def _import(generated: GeneratedKernel) -> ModuleType:
    """The source as a module; the same source is the same module."""
    name = f"keras_triton_generated_{generated.name}_{generated.digest}"
    if name in sys.modules:
        return sys.modules[name]
    loader = _Source(
        generated.source, f"keras_triton_generated/{generated.name}_{generated.digest}.py"
    )
    found = importlib.util.spec_from_loader(name, loader)
    assert found is not None  # there is a loader
    module = importlib.util.module_from_spec(found)
    sys.modules[name] = module
    loader.exec_module(module)
    return module
