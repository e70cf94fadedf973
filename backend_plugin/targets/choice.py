"""Which target runs a step: the one that is forced, else the one that its data calls for."""

from __future__ import annotations

import torch

from .base import Target
from .cpu import CpuTarget
from .reference import ReferenceTarget


def choose(setting: str, device: torch.device) -> Target:
    """The target for data on `device`: what KERAS_TRITON_TARGET forces, else the device's own."""
    name = setting if setting != "auto" else ("triton" if device.type == "cuda" else "cpu")
    if name == "triton" and not (device.type == "cuda" and torch.cuda.is_available()):
        raise ValueError(
            "target triton needs data on a CUDA device, and "
            + (f"this is on {device}" if device.type != "cuda" else "torch finds none")
            + "; interpret runs the same kernels without a GPU, in Triton's interpreter."
        )
    if name in ("triton", "interpret"):
        # All of the kernels and their tuning comes with it, which a step on a CPU need not wait for.
        from .triton import TritonTarget

        return TritonTarget(interpret=name == "interpret")
    return CpuTarget() if name == "cpu" else ReferenceTarget()
