"""Which target runs a step: the one that is forced, else the one that its data calls for."""

from __future__ import annotations

from collections.abc import Callable

import torch

from .base import Target
from .cpu import CpuTarget
from .reference import ReferenceTarget
from .triton import TritonTarget


def choose(setting: str, device: torch.device) -> Target:
    """The target for data on `device`: what KERAS_TRITON_TARGET forces, else the device's own."""
    name = setting if setting != "auto" else ("triton" if device.type == "cuda" else "cpu")
    if name == "triton" and not (device.type == "cuda" and torch.cuda.is_available()):
        raise ValueError(
            "target triton needs data on a CUDA device, and "
            + (f"this is on {device}" if device.type != "cuda" else "torch finds none")
            + "; interpret runs the same kernels without a GPU, in Triton's interpreter."
        )
    makers: dict[str, Callable[[], Target]] = {
        "cpu": CpuTarget,
        "triton": lambda: TritonTarget(interpret=False),
        "interpret": lambda: TritonTarget(interpret=True),
        "reference": ReferenceTarget,
    }
    return makers[name]()
