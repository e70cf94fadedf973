"""From a captured step to a program: import, lower, compile for the target, and never lose the run.

A kernel that does not compile is replaced by its meaning on torch; a step that cannot be lowered at
all runs as the captured graph. Each such failure warns once a process, with a command that reproduces
it if there is a module to reproduce it from, and shows in every report.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from mlir import ir

from keras_triton.lowering import mlir
from keras_triton.lowering.edits import in_force
from keras_triton.lowering.errors import SizeError
from keras_triton.lowering.importer import ImportInput, import_graph
from keras_triton.lowering.pipeline import lower, pipeline
from keras_triton.lowering.plan import Plan
from keras_triton.lowering.plan_reader import read_plan

from . import compile_cache
from .captured import Captured
from .compile_cache import PLAN, Place
from .dump import Dump
from .journal import record
from .ready import kernels_of, made_ready, sentence, warn, warn_once
from .replay import recording
from .report import Report, describe
from .runtime import Program, Run
from .settings import PREFIX, Settings, settings
from .sized_program import SizedKernels, SizedProgram, planning_of
from .targets.base import Compiled, Target, asked_by, compile_static
from .targets.choice import choose
from .unsigned import as_signed, signed_bytes


def as_it_is(program: Program) -> Run:
    """Nothing in the place of a program."""
    return program


@dataclass(frozen=True)
class CompiledModule:
    """A module made ready to run.

    Attributes:
        program: `program(arguments) -> results`, both flat lists.
        report: what became of each op.
        kept: it was found on disk; nothing was lowered or compiled.
    """

    program: Run
    report: Report
    kept: bool = False

    def __call__(self, arguments: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        return self.program(arguments)


def compile_captured(captured: Captured) -> CompiledModule:
    """`compile_quietly`, recorded: what a training run compiles shows in `stats()` and at exit."""
    replayed = recording(captured, _device(captured)) if settings().cuda_graphs else as_it_is
    compiled = compile_quietly(captured, replayed=replayed)
    record(compiled.report, kept=compiled.kept)
    return compiled


def compile_quietly(
    captured: Captured,
    options: Settings | None = None,
    *,
    keep: bool = False,
    replayed: Callable[[Program], Run] = as_it_is,
) -> CompiledModule:
    """Compiles a captured step for the device of its inputs and the target that `options` (the
    process's settings if None) ask for; with `keep`, its report keeps the stages for a page. `replayed`
    makes of a program what runs in its place.

    The result takes the tensors of `captured.inputs` and returns those of `captured.outputs`; a
    state output may be the input's own storage, updated in place. Never raises for a step that
    captured: what does not compile runs on torch, with one warning.

    Raises:
        SizeError: a step with an open size that has to be compiled for each size on its own.
    """
    options = options or settings()
    device = _device(captured)
    target = choose(options.target, device)
    dump = Dump.for_step(options.dump, captured.name, keep=keep)
    dump.graph(captured.graph)
    module = None
    try:
        module = import_captured(captured)
        if captured.size is None:
            compiled = compile_module(module, target, device, name=captured.name, dump=dump)
            assert isinstance(compiled.program, Program)
            compiled = replace(compiled, program=replayed(compiled.program))
        else:
            compiled = compile_sized(module, captured, target, device, dump, replayed)
    except Exception as error:
        if captured.size is not None:  # it can still be compiled for each size on its own
            raise SizeError(f"{captured.name}: {sentence(error)}") from error
        return _graph_itself(captured, target, error, module)
    return replace(compiled, program=signed_bytes(captured.graph, compiled.program))


def import_captured(captured: Captured) -> ir.Module:
    """The captured step as a module of stage "keras"; states that change are donated."""
    # By identity: Keras variables compare elementwise.
    states = {
        id(spec.variable): index
        for index, spec in enumerate(captured.inputs)
        if spec.kind == "state"
    }
    donated = {
        states[id(spec.variable)]: index
        for index, spec in enumerate(captured.outputs)
        if spec.kind == "state" and id(spec.variable) in states
    }
    inputs = [ImportInput(spec.name) for spec in captured.inputs]
    graph = as_signed(captured.graph)
    return import_graph(graph, inputs, donated, sized=captured.size is not None)


def compile_module(
    module: ir.Module, target: Target, device: torch.device, *, name: str, dump: Dump | None = None
) -> CompiledModule:
    """Lowers a module of any stage to a plan and compiles its kernels, or finds both on disk. (A dump
    shows every stage, so every stage is made for it.)

    Raises:
        LoweringError: a stage refuses the module. A kernel that fails to compile does not raise: it
            runs by its meaning, with a warning that names a saved module reproducing the failure.
    """
    dump = dump or Dump(None)
    # A dump shows every stage, and passes from elsewhere have no text that could name an entry.
    place = None if dump.wanted or in_force() else Place.of(module, target)
    made = _find(place, target) or _make(module, target, dump, place)
    ready = made_ready(made.plan, made.kernels, target)
    report = _reported(name, target, made.plan, ready, dump)
    executors = {kernel: found.executor for kernel, found in ready.items()}
    program = Program(made.plan, executors, device, native=target.native)
    return CompiledModule(program, report, made.kept)


def _reported(
    name: str, target: Target, plan: Plan, kernels: Mapping[str, Compiled], dump: Dump
) -> Report:
    for kernel, ready in kernels.items():
        dump.kernel(kernel, ready.files)
    report = dump.report(describe(name, target, plan, kernels), plan)
    if report.fitted and not report.fitted.is_within:
        warn_once(name, f"keras-triton: {name} takes {report.budget()} ({PREFIX}MEMORY_BUDGET).")
    return report


def compile_sized(
    module: ir.Module,
    captured: Captured,
    target: Target,
    device: torch.device,
    dump: Dump,
    replayed: Callable[[Program], Run] = as_it_is,
) -> CompiledModule:
    """Compiles a module with a symbolic size; its report is of the size that it was captured for.
    `replayed` is what runs in the place of the program for a size.

    Raises:
        LoweringError: a stage refuses the module, or needs to know the size (SizeError).
    """
    assert captured.size is not None
    passes = pipeline(**asked_by(target))
    place = None if dump.wanted or in_force() else Place.of(module, target)
    entry = place.find() if place else None
    if entry is None:
        code: dict[str, bytes] = {}
        regions = lower(module, "regions", dump.module, **asked_by(target))
    else:
        code, regions = entry, mlir.parse_verified(entry.pop(PLAN).decode())
    kernels = SizedKernels(regions, target, code, planning_of(passes))

    program = SizedProgram(
        kernels,
        captured.size,
        device,
        _op_by_op(captured),
        lambda error: warn(captured.name, error, module, target),
        replayed,
    )
    planned = program.plan(captured.size.called)
    if planned is None:
        raise SizeError(f"there is no plan for the size {captured.size.called}")
    if place and entry is None:
        place.keep(regions, code)
    report = _reported(captured.name, target, planned.plan, planned.kernels, dump)
    return CompiledModule(program, report, entry is not None)


@dataclass(frozen=True)
class _Made:
    """A plan and its kernels, without the externs; `kept`: found on disk."""

    plan: Plan
    kernels: dict[str, Compiled | Exception]
    kept: bool


def _find(place: Place | None, target: Target) -> _Made | None:
    """What an earlier compilation kept, if it did."""
    entry = place.find() if place else None
    if entry is None:
        return None
    try:
        plan = read_plan(mlir.parse_verified(entry.pop(PLAN).decode()))
        return _Made(plan, compile_static(target, kernels_of(plan), entry), kept=True)
    except Exception as error:  # whatever it is, the step can be made again
        compile_cache.warn(error)
        return None


def _make(module: ir.Module, target: Target, dump: Dump, place: Place | None) -> _Made:
    """Lowers and compiles, and keeps what comes of it unless a kernel failed."""
    planned = lower(module, on_stage=dump.module, **asked_by(target))
    plan = read_plan(planned)
    code: dict[str, bytes] = {}
    kernels = compile_static(target, kernels_of(plan), code)
    if place and not any(isinstance(kernel, Exception) for kernel in kernels.values()):
        place.keep(planned, code)
    return _Made(plan, kernels, kept=False)


def _graph_itself(
    captured: Captured, target: Target, error: Exception, module: ir.Module | None
) -> CompiledModule:
    """The captured graph, op by op on torch: what is left when lowering fails. `module` is what it
    imported as, None if it did not.
    """
    warn(captured.name, error, module, target)
    report = Report.whole_step_on_torch(captured.name, target.name, sentence(error))
    return CompiledModule(_op_by_op(captured), report)


def _op_by_op(captured: Captured) -> Run:
    def run(arguments: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        with torch.no_grad():
            return list(captured.graph(*arguments))

    return run


def _device(captured: Captured) -> torch.device:
    """Where the step runs: the device of its state, which Keras puts on the GPU if there is one."""
    for spec in captured.inputs:
        if spec.variable is not None:
            return spec.variable._value.device
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
