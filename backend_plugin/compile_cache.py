"""Compiled steps on disk, for the next process: the plan that a module became, and its machine code.

An entry is found by all that it follows from: the module's text, the passes with their options, the
sources of the compiler, the versions of what it stands on, the processor or GPU. So nothing has to be
thrown away when one of them changes; what is not used any more goes when room is needed.

Whatever is wrong with the folder costs a compilation and one warning a process, never a training run.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import torch
import triton
from mlir import ir

from keras_triton.lowering import mlir
from keras_triton.lowering.emit_llvm import jit
from keras_triton.lowering.errors import EmitError
from keras_triton.lowering.pipeline import pipeline

from .private_files import ENTRY, FORMAT, PrivateFiles, Untrusted
from .settings import PREFIX, settings
from .targets.base import Target, asked_by

PLAN = "plan.mlir"
MEGABYTE = 1_000_000
# Warned already: a full disk stays full.
_warned: list[str] = []


def files() -> PrivateFiles:
    """Where compiled steps lie."""
    chosen = settings()
    return PrivateFiles(chosen.cache / "compiled", chosen.cache_size * MEGABYTE)


@dataclass(frozen=True)
class Place:
    """Where one compiled module lies, or is to lie."""

    files: PrivateFiles
    name: str

    @classmethod
    def of(cls, module: ir.Module, target: Target) -> Place | None:
        """The place for a module of any stage, compiled for a target; None with the cache off, or
        where nobody can say what code for this host depends on.
        """
        if not settings().cache_size:
            return None
        passes = map(str, pipeline(**asked_by(target)))  # with their options
        try:
            parts = [mlir.text(module), target.name, *passes, target.host, _compiler()]
        except (EmitError, OSError) as error:
            warn(error)
            return None
        return cls(files(), hashlib.sha256("\0".join(parts).encode()).hexdigest())

    def find(self) -> dict[str, bytes] | None:
        """The plan's text as `PLAN` and what the target kept; None if it has to be made."""
        try:
            return self.files.read(self.name)
        except (Untrusted, OSError) as error:
            warn(error)
            return None

    def keep(self, plan: ir.Module, code: Mapping[str, bytes]) -> None:
        """Keeps a plan and what the target made of its kernels."""
        try:
            self.files.write(self.name, {PLAN: mlir.text(plan).encode(), **code})
        except (Untrusted, OSError) as error:
            warn(error)


@dataclass(frozen=True)
class Contents:
    """What the cache holds.

    Attributes:
        folder: where it lies.
        entries: compiled steps.
        bytes: of them and of what is being written.
        limit: in bytes; beyond it the least recently used go.
        removed: entries that were just removed.
    """

    folder: str
    entries: int
    bytes: int
    limit: int
    removed: int = 0

    def json(self) -> str:
        return json.dumps(asdict(self), indent=1)

    def summary(self) -> str:
        """One line."""
        removed = f", {self.removed} just removed" if self.removed else ""
        size = f"{self.bytes / MEGABYTE:.1f} of at most {self.limit / MEGABYTE:.0f} MB"
        return f"{self.folder}: {self.entries} compiled steps, {size}{removed}"

    def print(self) -> None:
        print(self.summary())


def look() -> Contents:
    """What the cache holds now.

    Raises:
        ValueError: the folder is not to be trusted; the sentence says why.
        OSError: it cannot be read.
    """
    found = files()
    try:
        stored = found.stored()
    except Untrusted as error:
        raise ValueError(str(error)) from None
    entries = sum(file.name.endswith(ENTRY) for file in stored)
    return Contents(str(found.folder), entries, sum(file.bytes for file in stored), found.limit)


def clear() -> Contents:
    """Removes all compiled steps; raises as `look` does."""
    try:
        removed = files().clear()
    except Untrusted as error:
        raise ValueError(str(error)) from None
    return replace(look(), removed=removed)


def warn(error: Exception) -> None:
    """Says once a process why something is compiled that might have been found."""
    folder = settings().cache
    reason = f"{error.strerror} in {folder}" if isinstance(error, OSError) else str(error)
    reason = reason.rstrip(".")
    if not _warned:
        warnings.warn(
            f"keras-triton compiles anew what it could keep between runs: {reason}. "
            f"{PREFIX}CACHE names another folder; `keras-triton cache --clear` empties this one.",
            RuntimeWarning,
            stacklevel=4,
        )
    _warned.append(reason)


@cache
def _compiler() -> str:
    """What makes plans and code: our sources and the versions of what they stand on."""
    digest = hashlib.sha256()
    for part in ("kernels", "lowering", "targets"):
        package = find_spec(f"keras_triton.{part}")  # found, not imported
        assert package is not None
        assert package.origin is not None
        for path in sorted(Path(package.origin).parent.rglob("*.py")):
            digest.update(path.read_bytes() + b"\0")
    versions = [torch.__version__, triton.__version__, jit.build(), FORMAT.decode()]
    return "\n".join([digest.hexdigest(), *versions])
