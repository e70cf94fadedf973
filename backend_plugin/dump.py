"""Writes what the compiler makes of a step, stage by stage, into a directory."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import count
from pathlib import Path

import torch
from mlir import ir

from keras_triton.lowering import mlir
from keras_triton.lowering.pipeline import STAGES
from keras_triton.lowering.plan import Plan

from .page import render
from .report import Record, Report


class Dump:
    """The texts of one compiled step: written to a directory if there is one, and kept for a page.

    Attributes:
        keep: whether reports shall hold them.
        texts: the captured graph and the last module of each stage, by file name.
        kernels: makes the texts of each kernel, by file name.
    """

    def __init__(self, directory: Path | None, *, keep: bool = False) -> None:
        self.directory, self.keep = directory, keep
        self.texts: dict[str, str] = {}
        self.kernels: dict[str, Callable[[], Mapping[str, str]]] = {}

    @property
    def wanted(self) -> bool:
        """Whether anybody wants the texts."""
        return self.keep or self.directory is not None

    @classmethod
    def for_step(cls, root: Path | None, name: str, *, keep: bool = False) -> Dump:
        """A fresh directory `root/<name>-<n>`: a step is compiled once for every signature.

        Raises:
            ValueError: `root` cannot be written.
        """
        if root is None:
            return cls(None, keep=keep)
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
        """Writes a file."""
        if self.directory is not None:
            path = self.directory / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def graph(self, graph: torch.fx.GraphModule) -> None:
        """The captured graph as readable Python."""
        if self.wanted:
            self._stage("0-captured.py", graph.print_readable(print_output=False))

    def module(self, module: ir.Module) -> None:
        """A module under the name of its stage, numbered in the order of the pipeline."""
        if self.wanted:
            stage = mlir.stage_of(module)
            order = 1 + STAGES.index(stage)  # 0 is the captured graph
            self._stage(f"{order}-{stage}.mlir", mlir.text(module))

    def _stage(self, file: str, text: str) -> None:
        self.texts[file] = text
        self.text(file, text)

    def kernel(self, name: str, files: Callable[[], Mapping[str, str]]) -> None:
        """The texts of one kernel, which are made only if there is a place for them; or why they
        could not be made, since a look must not change what runs.
        """
        if self.wanted:
            self.kernels[name] = files = functools.cache(files)
        if self.directory is None:
            return
        try:
            texts = files()
        except Exception as error:  # whatever Triton and ptxas raise
            texts = {f"{name}.error.txt": f"{type(error).__name__}: {error}\n"}
        for file, text in texts.items():
            self.text(f"kernels/{file}", text)

    def report(self, report: Report, plan: Plan) -> Report:
        """The report, with what a page of it shows if that was asked for; with a directory, both are
        written.
        """
        record = Record(report.step, report.rows, plan, self.texts, self.kernels)
        shown = replace(report, records=(record,))
        if self.directory is not None:
            self.text("report.json", report.json())
            self.text("index.html", render(shown))
        return shown if self.keep else report
