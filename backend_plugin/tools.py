"""What the commands do: compile a dumped stage, explain a model, compare the targets, list
versions.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from math import prod
from pathlib import Path

import torch
from mlir import ir
from rich.console import Console
from rich.table import Table

from keras_triton.lowering import interpret, mlir
from keras_triton.lowering.mlir import TensorType

from . import compile as compiler
from .dump import Dump
from .report import Report
from .settings import settings
from .targets import choose


def compile_stage(path: Path, target: str | None, dump: Path | None) -> Report:
    """Goes on from a module of any stage: the kernels that its text gives on a target."""
    module = mlir.parse(path.read_text())
    device = torch.device("cuda" if target == "triton" else "cpu")
    chosen = choose(target or settings().target, device)
    return compiler.compile_module(
        module, chosen, device, name=path.stem, dump=Dump.for_step(dump, path.stem)
    ).report


def explain_model(
    name: str, step: str, batch: int, target: str | None, dump: Path | None
) -> Report:
    """The report of a saved model's step, or of a built-in example's, at a batch size.

    Raises:
        ValueError: the model has no single input of known shape to make an example for.
    """
    import os

    import numpy as np

    from . import samples
    from .explanation import explain

    if target or dump:
        os.environ.update(
            {f"KERAS_TRITON_{k}": str(v) for k, v in (("TARGET", target), ("DUMP", dump)) if v}
        )
        settings.cache_clear()
    if name in ("digits", "mlp"):
        model, *data = samples.example(name, batch)
    else:
        import keras

        model = keras.models.load_model(name)
        if any(extent is None for extent in model.input_shape[1:]):
            raise ValueError(
                f"{name} has inputs {model.input_shape}: explain needs every extent but the batch"
            )
        data = [np.zeros((batch, *model.input_shape[1:]), "float32")]
        if step == "train":
            raise ValueError(
                "a saved model's train step needs targets: call keras_triton.explain(model, x, y)"
            )
    return explain(model, *(data if step == "train" else data[:1]))


def compare_targets(path: Path, seed: int, as_json: bool) -> int:
    """Runs a module on random inputs through every target of this machine; 1 if one is far from the
    reference.

    "Far" is relative to the largest magnitude of each result: 1e-3 for results in float32, where
    sums of thousands of terms lose that much, and 3e-2 for half precision.
    """
    text = path.read_text()
    inputs = random_inputs(mlir.parse(text), seed)
    expected = interpret.run(mlir.parse(text), [tensor.clone() for tensor in inputs], exact=True)
    rows, worst = [], 0
    for name in (
        "reference",
        "cpu",
        "interpret",
        *(["triton"] if torch.cuda.is_available() else []),
    ):
        device = torch.device("cuda" if name == "triton" else "cpu")
        program = compiler.compile_module(
            mlir.parse(text), choose(name, device), device, name=path.stem
        )
        results = program([tensor.clone().to(device) for tensor in inputs])
        distance = max(
            _distance(got.cpu(), want) for got, want in zip(results, expected, strict=True)
        )
        half = any(want.dtype in (torch.float16, torch.bfloat16) for want in expected)
        passed = distance <= (3e-2 if half else 1e-3)
        worst |= not passed
        rows.append(
            {
                "target": name,
                "distance": distance,
                "fallbacks": len(program.report.fallbacks),
                "ok": passed,
            }
        )
    if as_json:
        print(json.dumps(rows, indent=1))
    else:
        _print_rows(f"{path.name} against its meaning in float64", rows)
    return int(worst)


def random_inputs(module: ir.Module, seed: int) -> list[torch.Tensor]:
    """Inputs for `@main`: normal floats, small non-negative integers, fair bools.

    Weights are scaled by their fan-in, as initializers do: logits in the hundreds would compare
    cancellations. What is named velocity, variance, count or rate is squared, for none is negative.
    """
    generator = torch.Generator().manual_seed(seed)
    function = mlir.functions(module)["main"]
    arguments = function.regions[0].blocks[0].arguments
    names = [_argument_name(function, i) for i in range(len(arguments))]
    made = []
    for argument, name in zip(arguments, names, strict=True):
        kind = TensorType.of(argument)
        if kind.is_float:
            value = torch.randn(kind.shape, generator=generator)
            if any(word in name for word in ("velocity", "variance", "count", "rate")):
                value = value.square()
            elif kind.rank > 1 and not name.startswith("data"):
                value /= prod(kind.shape[:-1]) ** 0.5
            made.append(value.to(kind.torch_dtype))
        else:
            high = 2 if kind.dtype == "i1" else 8
            made.append(
                torch.randint(0, high, kind.shape, generator=generator).to(kind.torch_dtype)
            )
    return made


def _argument_name(function: ir.OpView, index: int) -> str:
    attributes = function.operation.attributes
    if "arg_attrs" not in attributes:
        return ""
    mine = ir.DictAttr(ir.ArrayAttr(attributes["arg_attrs"])[index])
    return ir.StringAttr(mine["keras.name"]).value if "keras.name" in mine else ""


def _distance(got: torch.Tensor, want: torch.Tensor) -> float:
    """The largest difference, relative to the largest magnitude of what is wanted; NaN must meet
    NaN.
    """
    got, want = got.double(), want.double()
    if got.shape != want.shape or not torch.equal(got.isnan(), want.isnan()):
        return float("inf")
    if not want.numel():
        return 0.0
    difference = torch.where(got == want, torch.zeros_like(got), (got - want).abs()).nan_to_num(0.0)
    finite = want.isfinite()
    scale = want[finite].abs().max().item() if finite.any() else 1.0
    return difference.max().item() / max(scale, 1e-12)


def _print_rows(title: str, rows: Sequence[dict]) -> None:
    table = Table(title=title, title_justify="left")
    for column in rows[0]:
        table.add_column(column)
    for row in rows:
        table.add_row(
            *(f"{value:.2e}" if isinstance(value, float) else str(value) for value in row.values())
        )
    Console().print(table)


def print_info() -> None:
    """Versions of what the compiler stands on, the device, and the settings in force."""
    from importlib import metadata

    from . import __version__

    print(f"keras-triton {__version__}, Python {platform.python_version()}")
    for package in ("keras", "torch", "triton", "xtc-mlir-python-bindings", "numpy"):
        try:
            print(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            print(f"{package}: not known to pip")
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no CUDA device"
    print(f"{device}, {torch.get_num_threads()} CPU threads")
    print(settings())
