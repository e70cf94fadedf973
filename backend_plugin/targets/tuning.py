"""Hands kernels to the tuner: what can be configured, how a configuration is built and checked."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import torch
import triton
from mlir import ir

from keras_triton.autotune import tuner
from keras_triton.autotune.protocol import Candidate, Config, Key
from keras_triton.autotune.store import Store
from keras_triton.kernels.device import Device
from keras_triton.lowering import emit_triton
from keras_triton.lowering.dialect import attributes_of
from keras_triton.lowering.mlir import TensorType
from keras_triton.lowering.region import kernel_kind, read_region

from ..settings import settings
from .base import evaluate
from .sources import load


def tuned(function: ir.OpView, device: Device) -> Config:
    """The configuration to use for a kernel on the current CUDA device.

    Raises:
        EmitError: the kernel has no Triton form at all.
    """
    place = torch.device("cuda")
    store = Store(settings().cache / "tuning.db")
    return tuner.choose(candidate(function, device, place), settings().autotune, store, place)


def candidate(
    function: ir.OpView, device: Device, place: torch.device, *, interpret: bool = False
) -> Candidate:
    """A kernel as the tuner takes it, run on `place`; `interpret` tries it with no GPU."""
    space, problem = emit_triton.space(function)
    guess = space.record(space.guess(problem, device))

    def allows(config: Config) -> bool:
        try:
            return space.refuse(space.parse(config), problem, device) is None
        except ValueError:  # a record of another version of the space
            return False

    def configs() -> list[Config]:
        allowed = (space.record(config) for config in space.configs(problem, device))
        return [guess, *(config for config in allowed if config != guess)]

    build, check = _trial(function, device, place, interpret)
    return Candidate(_key(function, device), guess, allows, configs, build, check)


def _key(function: ir.OpView, device: Device) -> Key:
    """The kernel's text without locations stands for both its source and its problem."""
    text = function.operation.get_asm(enable_debug_info=False)
    digest = hashlib.sha256(text.split("\n", 1)[1].encode()).hexdigest()
    types = [TensorType.of(argument) for argument in function.regions[0].blocks[0].arguments]
    shown = ", ".join(map(str, types))
    return Key(kernel_kind(function), digest, shown, device.name, triton.__version__)


def _trial(
    function: ir.OpView, device: Device, place: torch.device, interpret: bool
) -> tuple[Callable[[Config], Callable[[], None]], Callable[[], bool]]:
    """How to build a configuration on random inputs, and how to check what it computed."""
    block = function.regions[0].blocks[0]
    results = [TensorType.of(value) for value in list(block.operations)[-1].operands]
    made: dict[str, list[torch.Tensor]] = {}
    kind = kernel_kind(function)
    updated = read_region(function).updates if kind == "loop" else {}
    # Updates of two rows only would take as long as no table's do.
    numbers = attributes_of(block.operations[0].operation)["rows"] if kind == "scatter" else 2

    def tensors() -> dict[str, list[torch.Tensor]]:
        # Made at the first trial: most kernels are never tuned.
        if not made:
            made["inputs"] = [
                _random(kind, numbers) for kind in map(TensorType.of, block.arguments)
            ]
            made["expected"] = evaluate(function, made["inputs"], exact=True)
            made["inputs"] = [tensor.to(place) for tensor in made["inputs"]]
            made["outputs"] = [
                made["inputs"][updated[i]]
                if i in updated
                else torch.empty(kind.shape, dtype=kind.torch_dtype, device=place)
                for i, kind in enumerate(results)
            ]
        return made

    def build(config: Config) -> Callable[[], None]:
        loaded = load(function, config, device)
        used = tensors()
        operands = [*used["inputs"], *used["outputs"]]
        return lambda: loaded.run(operands, interpret=interpret)

    def check() -> bool:
        pairs = zip(made["outputs"], made["expected"], strict=True)
        return all(_close(got.cpu(), want) for got, want in pairs)

    return build, check


def _random(kind: TensorType, numbers: int) -> torch.Tensor:
    """Floats below 1, or integers below `numbers`."""
    if kind.is_float:
        return torch.rand(kind.shape).to(kind.torch_dtype)
    return torch.randint(0, numbers, kind.shape).to(kind.torch_dtype)


def _close(got: torch.Tensor, want: torch.Tensor) -> bool:
    # Relative to the largest value: sums of thousands of terms differ by their order.
    tolerance = 3e-2 if got.dtype in (torch.float16, torch.bfloat16) else 1e-3
    scale = want.double().abs().max().item() if want.numel() else 0.0
    return torch.allclose(
        got.double(), want.double(), rtol=tolerance, atol=tolerance * scale, equal_nan=True
    )
