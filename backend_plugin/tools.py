"""What the commands do: compile a dumped stage, explain a model, compare the targets, list
versions.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mlir import ir
from rich.console import Console
from rich.table import Table

from keras_triton.lowering import interpret, mlir
from keras_triton.lowering.errors import DialectError, LoweringError
from keras_triton.lowering.mlir import TensorType
from keras_triton.lowering.work import floor_of

from . import compile as compiler
from . import compile_cache
from .distance import distance, tolerance
from .dump import Dump
from .report import Report
from .settings import Target as TargetName
from .settings import settings
from .targets.choice import choose
from .verification import Verification


def compile_stage(path: Path, target: str | None, dump: Path | None) -> Report:
    """Goes on from a module of any stage: the kernels that its text gives on a target.

    Raises:
        ValueError: the file holds no module to compile, or the target cannot run here.
    """
    module = read_module(path)
    device = torch.device("cuda" if target == "triton" else "cpu")
    chosen = choose(target or settings().target, device)
    floor = floor_of(module) if mlir.stage_of(module) == "keras" else None
    report = compiler.compile_module(
        module, chosen, device, name=path.stem, dump=Dump.for_step(dump, path.stem, keep=True)
    ).report
    return replace(report, floor=floor)


def read_module(path: Path) -> ir.Module:
    """The module that a file spells.

    Raises:
        ValueError: the file cannot be read, or what it holds is no module with a `@main`.
    """
    try:
        return parse_module(path.read_text(), str(path))
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path} is no text, so it holds no module") from None


def parse_module(text: str, source: str) -> ir.Module:
    """The module that `text` spells; `source` is where it is from.

    Raises:
        ValueError: it is no module with a `@main`.
    """
    try:
        module = mlir.parse(text)
        _main_of(module)
    except LoweringError as error:
        raise ValueError(f"{source}: {error}") from None
    return module


def _main_of(module: ir.Module) -> ir.OpView:
    """`@main`, which a plan holds beside its kernels."""
    where: ir.Module | ir.OpView = module
    if mlir.stage_of(module) == "plan":
        parts = {
            ir.StringAttr(op.attributes["sym_name"]).value: op for op in module.body.operations
        }
        if not {"kernels", "plan"} <= parts.keys():
            raise DialectError("a module of stage plan holds the modules @kernels and @plan")
        where = parts["plan"]
    found = mlir.functions(where)
    if "main" not in found:
        raise DialectError("the module has no function @main")
    return found["main"]


def explain_model(
    name: str, step: str, batch: int, target: TargetName | None, dump: Path | None
) -> Report:
    """The report of a saved model's step, or of a built-in example's, at a batch size.

    Raises:
        ValueError: there is no such model, or no example of its inputs or targets can be made.
    """
    from .explanation import capture_example, explain_captured

    captured = capture_example(*_model_and_data(name, step, batch))
    options = settings()
    options = replace(options, target=target or options.target, dump=dump or options.dump)
    return explain_captured(captured, options)


def verify_model(name: str, step: str, batch: int, target: TargetName | None) -> Verification:
    """How far the step of a saved model or built-in example is from its meaning in float64.

    Raises:
        ValueError: there is no such model, or no example of its inputs or targets can be made.
    """
    from .verification import verify

    return verify(*_model_and_data(name, step, batch), target=target)


def _model_and_data(name: str, step: str, batch: int) -> tuple[Any, ...]:
    """A model and what its step takes: real images for the examples, random numbers otherwise."""
    from . import samples

    data: list[Any]
    if name in ("digits", "mlp"):
        model, *data = samples.example(name, batch)
    elif step == "train":
        raise ValueError(
            "a saved model's train step needs targets: call keras_triton.explain or verify with "
            "(model, x, y)"
        )
    else:
        model, *data = _saved_model(name, batch)
    return model, *(data if step == "train" else data[:1])


def _saved_model(name: str, batch: int) -> tuple[Any, Any]:
    """A model in a file, and a batch of each of its inputs: normal floats, integers 0 and 1."""
    if not Path(name).is_file():
        raise ValueError(f"{name!r} is neither a file nor one of the examples digits and mlp")
    import keras

    model = keras.models.load_model(name)
    inputs = getattr(model, "inputs", None)
    if not inputs:
        raise ValueError(
            f"{name} does not say what its inputs are: call keras_triton.explain or verify"
        )
    generator = np.random.default_rng(0)
    made = []
    for tensor in inputs:
        if None in tensor.shape[1:]:
            raise ValueError(
                f"{name} has an input of shape {tensor.shape}: every extent but the batch is needed"
            )
        shape = (batch, *tensor.shape[1:])
        is_float = "float" in tensor.dtype
        value = generator.normal(size=shape) if is_float else generator.integers(0, 2, shape)
        made.append(keras.ops.convert_to_tensor(value, tensor.dtype))
    return model, made[0] if len(made) == 1 else made


def compare_targets(path: Path, seed: int, as_json: bool) -> int:
    """Runs a module on random inputs through every target of this machine; 1 if one is far from the
    reference.

    "Far" is relative to the largest magnitude of each result: 1e-3 for results in float32, where
    sums of thousands of terms lose that much, and 3e-2 for half precision.
    """
    module = read_module(path)
    inputs = random_inputs(module, seed)
    expected = interpret.run(module, [tensor.clone() for tensor in inputs], exact=True)
    rows, worst = [], 0
    for name in (
        "reference",
        "cpu",
        "interpret",
        *(["triton"] if torch.cuda.is_available() else []),
    ):
        device = torch.device("cuda" if name == "triton" else "cpu")
        program = compiler.compile_module(module, choose(name, device), device, name=path.stem)
        results = program([tensor.clone().to(device) for tensor in inputs])
        far = max(
            distance(got.cpu(), want).relative for got, want in zip(results, expected, strict=True)
        )
        passed = far <= tolerance({want.dtype for want in expected})
        worst |= not passed
        rows.append(
            {
                "target": name,
                "distance": far,
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
    """Inputs for `@main`: normal floats, fair bools, and integers 0 and 1, since an integer may be a
    class or an index, of which there are two at least.

    Weights are scaled by their fan-in, as initializers do: logits in the hundreds would compare
    cancellations. What is named velocity, variance, count or rate is squared, for none is negative.
    """
    generator = torch.Generator().manual_seed(seed)
    function = _main_of(module)
    arguments = list(function.regions[0].blocks[0].arguments)
    named = [(argument, _argument_name(function, i)) for i, argument in enumerate(arguments)]
    if mlir.stage_of(module) == "plan":  # its outputs and its arena are arguments without a name
        named = [(argument, name) for argument, name in named if name]
    made = []
    for argument, name in named:
        kind = TensorType.of(argument)
        if kind.is_float:
            value = torch.randn(kind.shape, generator=generator)
            if any(word in name for word in ("velocity", "variance", "count", "rate")):
                value = value.square()
            elif kind.rank > 1 and not name.startswith("data"):
                value /= prod(kind.shape[:-1]) ** 0.5
            made.append(value.to(kind.torch_dtype))
        else:
            value = torch.randint(0, 2, kind.shape, generator=generator)
            made.append(value.to(kind.torch_dtype))
    return made


def _argument_name(function: ir.OpView, index: int) -> str:
    attributes = function.operation.attributes
    if "arg_attrs" not in attributes:
        return ""
    mine = ir.DictAttr(ir.ArrayAttr(attributes["arg_attrs"])[index])
    return ir.StringAttr(mine["keras.name"]).value if "keras.name" in mine else ""


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
    """Versions of what the compiler stands on, the device, the settings in force, and what is kept."""
    from triton_keras_loader.environment import installed_version

    from . import __version__

    chosen, kept = settings(), compile_cache.look()
    print(f"keras-triton {__version__}, Python {platform.python_version()}")
    for package in ("keras", "torch", "triton", "mlir", "numpy"):
        print(f"{package} {installed_version(package)}")
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no CUDA device"
    print(f"{device}, {torch.get_num_threads()} CPU threads")
    print(chosen)
    print(kept.summary())
