"""`keras-triton opt`: passes by name on a module, as mlir-opt runs them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from keras_triton.lowering import mlir
from keras_triton.lowering.edits import find

from . import pipeline
from .tools import parse_module, read_module


def run(stage: str, names: Sequence[str], target: str | None) -> str:
    """The text of the module in the file `stage` (or in stdin, for "-") after the passes `names`.

    Raises:
        ValueError: there is no module to read, or the target cannot run here.
        LoweringError: no such pass, or one refuses the module: it is of another stage, say.
    """
    known = pipeline.passes(target)
    steps = [find(known, name) for name in names]
    piped = stage == "-"
    module = parse_module(sys.stdin.read(), "stdin") if piped else read_module(Path(stage))
    for step in steps:
        module = step.run(module)
    return mlir.text(module)


def print_passes(target: str | None) -> None:
    """The passes in order: name, stages, options and what each is for."""
    table = Table("pass", "takes", "gives", "what it does", box=None)
    for step in pipeline.passes(target):
        options = str(step).removeprefix(step.name)
        table.add_row(step.name, step.takes, step.gives, f"{step.summary} {options}".rstrip())
    Console(markup=False).print(table)
