"""Kernels of a plan made ready to run, whatever became of their compilation; and its failures told once.

A kernel that does not compile is replaced by its meaning on torch.
"""

from __future__ import annotations

import hashlib
import textwrap
import warnings
from collections.abc import Mapping

from mlir import ir

from keras_triton.lowering import mlir
from keras_triton.lowering.extern import Extern
from keras_triton.lowering.plan import Plan

from . import vendor
from .settings import settings
from .targets.base import Compiled, Target, meaning_of

# What was warned of already: a failure comes back with every signature and every step.
_warned: set[tuple[str, str]] = set()


def kernels_of(plan: Plan) -> dict[str, ir.OpView]:
    """The kernels that a target compiles: all but calls of torch."""
    return {name: f for name, f in plan.kernels.items() if Extern.of(f) is None}


def made_ready(
    plan: Plan, compiled: Mapping[str, Compiled | Exception], target: Target
) -> dict[str, Compiled]:
    """Every kernel of a plan: what the target compiled, calls of torch, and meanings where compiling
    failed, with a warning that names a saved module reproducing the failure."""
    ready = {}
    for name, function in plan.kernels.items():
        extern = Extern.of(function)
        made = vendor.compile_extern(extern, function) if extern else compiled[name]
        ready[name] = made if isinstance(made, Compiled) else _by_meaning(plan, name, made, target)
    return ready


def _by_meaning(plan: Plan, kernel: str, error: Exception, target: Target) -> Compiled:
    warn(f"kernel {kernel}", error, plan.module, target)
    return Compiled(
        meaning_of(plan.kernels[kernel]), "torch (meaning of the kernel)", sentence(error)
    )


def warn(what: str, error: Exception, module: ir.Module | None, target: Target) -> None:
    """Says once in a process what runs on torch and why, and how to see it fail alone."""
    reason = sentence(error)
    if not _is_news(what, reason):
        return
    message = f"keras-triton could not compile {what} and runs it on torch: {reason}"
    if module is not None:
        message += f" {_reproduction(module, target)}"
    warnings.warn(message, RuntimeWarning, stacklevel=3)


def warn_once(what: str, message: str) -> None:
    """Says once in a process what a user ought to know of a step or kernel."""
    if _is_news(what, message):
        warnings.warn(message, RuntimeWarning, stacklevel=3)


def _is_news(what: str, reason: str) -> bool:
    """Whether nobody was told yet."""
    known = (what, reason) in _warned
    _warned.add((what, reason))
    return not known


def _reproduction(module: ir.Module, target: Target) -> str:
    """Keeps a failing module in the cache folder; the sentence that says how to compile it."""
    text = mlir.text(module)
    folder = settings().cache / "failed"
    path = folder / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.mlir"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    except OSError as error:  # a full or read-only disk must not end a training run either
        return f"The module could not be kept in {folder} ({error.strerror})."
    return f"Reproduce with: keras-triton compile {path} --target {target.name}"


def sentence(error: Exception) -> str:
    """An error as one sentence of at most 300 characters: MLIR spreads its own over lines."""
    text = str(error).strip() or type(error).__name__
    return f"{textwrap.shorten(text, 300).rstrip('.')}."
