"""From a captured step to a program: import, lower, compile for the target, and never lose the run.

A kernel that does not compile is replaced by its meaning on torch; a step that cannot be lowered at
all runs as the captured graph. Either warns once, with a command that reproduces it, and shows in
the report.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from mlir import ir

from keras_triton.lowering import mlir
from keras_triton.lowering.extern import Extern
from keras_triton.lowering.importer import ImportInput, import_graph
from keras_triton.lowering.pipeline import lower
from keras_triton.lowering.plan import Plan, read_plan

from . import vendor
from .capture import Captured
from .dump import Dump
from .journal import record
from .report import Report, describe
from .runtime import Program
from .settings import settings
from .targets import Compiled, Target, choose
from .targets.base import meaning_of


@dataclass(frozen=True)
class CompiledModule:
    """A module made ready to run.

    Attributes:
        program: `program(arguments) -> results`, both flat lists.
        report: what became of each op.
        plan: the module of stage "plan" whose functions the program may still read, or None.
    """

    program: Callable[[Sequence[torch.Tensor]], list[torch.Tensor]]
    report: Report
    plan: ir.Module | None = None

    def __call__(self, arguments: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        return self.program(arguments)


def compile_captured(captured: Captured) -> CompiledModule:
    """`compile_quietly`, recorded: what a training run compiles shows in `stats()` and at exit."""
    compiled = compile_quietly(captured)
    record(compiled.report)
    return compiled


def compile_quietly(captured: Captured) -> CompiledModule:
    """Compiles a captured step for the device of its inputs and the target the settings ask for.

    The result takes the tensors of `captured.inputs` and returns those of `captured.outputs`; a
    state output may be the input's own storage, updated in place. Never raises for a step that
    captured: what does not compile runs on torch, with one warning.
    """
    device = _device(captured)
    target = choose(settings().target, device)
    dump = Dump.for_step(settings().dump, captured.name)
    dump.text("0-captured.py", captured.graph.print_readable(print_output=False))
    try:
        module = import_captured(captured)
    except Exception as error:
        return _graph_itself(captured, target, error)
    try:
        return compile_module(module, target, device, name=captured.name, dump=dump)
    except Exception as error:
        _warn(captured.name, error, _save(module), target)
        return _graph_itself(captured, target, error, warn=False)


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
    return import_graph(
        captured.graph, [ImportInput(spec.name) for spec in captured.inputs], donated
    )


def compile_module(
    module: ir.Module, target: Target, device: torch.device, *, name: str, dump: Dump | None = None
) -> CompiledModule:
    """Lowers a module of any stage to a plan and compiles its kernels.

    Raises:
        LoweringError: a stage refuses the module. A kernel that fails to compile does not raise: it
            runs by its meaning, with a warning that names a saved module reproducing the failure.
    """
    dump = dump or Dump(None)
    planned = lower(
        module, on_stage=dump.module, decompose=target.decompose, epilogues=target.epilogues
    )
    plan = read_plan(planned)
    externs = {kernel: extern for kernel, f in plan.kernels.items() if (extern := Extern.of(f))}
    compiled = target.compile({k: f for k, f in plan.kernels.items() if k not in externs})
    compiled |= {kernel: vendor.compile_extern(extern) for kernel, extern in externs.items()}
    finished: dict[str, Compiled] = {}
    for kernel, made in compiled.items():
        finished[kernel] = (
            made if isinstance(made, Compiled) else _by_meaning(plan, kernel, made, planned, target)
        )
        dump.kernel(finished[kernel].files)
    executors = {kernel: made.executor for kernel, made in finished.items()}
    report = describe(name, target.name, plan, finished)
    dump.text("report.json", report.json())
    return CompiledModule(Program(plan, executors, device), report, planned)


def _by_meaning(
    plan: Plan, kernel: str, error: Exception, planned: ir.Module, target: Target
) -> Compiled:
    _warn(f"kernel {kernel}", error, _save(planned), target)
    return Compiled(
        meaning_of(plan.kernels[kernel]), "torch (meaning of the kernel)", _sentence(error)
    )


def _graph_itself(
    captured: Captured, target: Target, error: Exception, warn: bool = True
) -> CompiledModule:
    """The captured graph, op by op on torch: what is left when lowering fails."""
    if warn:
        warnings.warn(
            f"keras-triton runs {captured.name} op by op on torch, since it did not import: "
            f"{_sentence(error)}",
            RuntimeWarning,
            stacklevel=2,
        )

    def run(arguments: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        with torch.no_grad():
            return list(captured.graph(*arguments))

    return CompiledModule(
        run, Report.whole_step_on_torch(captured.name, target.name, _sentence(error))
    )


def _device(captured: Captured) -> torch.device:
    """Where the step runs: the device of its state, which Keras puts on the GPU if there is one."""
    for spec in captured.inputs:
        if spec.variable is not None:
            return spec.variable.value.device
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _save(module: ir.Module) -> Path:
    """Keeps a failing module in the cache folder; the same module is kept once."""
    text = mlir.text(module)
    path = settings().cache / "failed" / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.mlir"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def _warn(what: str, error: Exception, saved: Path, target: Target) -> None:
    warnings.warn(
        f"keras-triton could not compile {what} and runs it on torch: {_sentence(error)} "
        f"Reproduce with: keras-triton compile {saved} --target {target.name}",
        RuntimeWarning,
        stacklevel=3,
    )


def _sentence(error: Exception) -> str:
    """The first line of an error, as a sentence."""
    line = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
    return f"{line}."
