"""Writes what the compiler makes of a step, stage by stage, into a directory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import count
from pathlib import Path

import torch
from mlir import ir

from keras_triton.lowering import mlir
from keras_triton.lowering.pipeline import STAGES


class Dump:
    """A place for the files of one compiled step; with no directory, nothing is written."""

    def __init__(self, directory: Path | None) -> None:
        self.directory = directory

    @classmethod
    def for_step(cls, root: Path | None, name: str) -> Dump:
        """A fresh directory `root/<name>-<n>`: a step is compiled once for every signature.

        Raises:
            ValueError: `root` cannot be written.
        """
        if root is None:
            return cls(None)
        for number in count():
            # Made rather than looked for: another process may dump there at the same time.
            directory = root / f"{name}-{number}"
            try:
                directory.mkdir(parents=True)
                break
            except FileExistsError:
                continue
            except OSError as error:
                raise ValueError(f"nothing can be dumped to {root}: {error.strerror}") from None
        return cls(directory)

    def text(self, file: str, text: str) -> None:
        if self.directory is not None:
            path = self.directory / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def graph(self, graph: torch.fx.GraphModule) -> None:
        """The captured graph as readable Python."""
        if self.directory is not None:
            self.text("0-captured.py", graph.print_readable(print_output=False))

    def kernel(self, name: str, files: Callable[[], Mapping[str, str]]) -> None:
        """The texts of one kernel, which are made only if there is a place for them; or why they
        could not be made, since a look must not change what runs.
        """
        if self.directory is None:
            return
        try:
            texts = files()
        except Exception as error:  # whatever Triton and ptxas raise
            texts = {f"{name}.error.txt": f"{type(error).__name__}: {error}\n"}
        for file, text in texts.items():
            self.text(f"kernels/{file}", text)

    def module(self, module: ir.Module) -> None:
        """A module under the name of its stage, numbered in the order of the pipeline."""
        if self.directory is not None:
            stage = mlir.stage_of(module)
            order = 1 + STAGES.index(stage)  # 0 is the captured graph
            self.text(f"{order}-{stage}.mlir", mlir.text(module))
