"""From a kernel function to a Triton kernel that runs, in one call."""

from __future__ import annotations

from collections.abc import Mapping

from mlir import ir

from keras_triton.kernels.device import Device
from keras_triton.lowering import emit_triton
from keras_triton.lowering.emit_triton import LoadedKernel


def load(function: ir.OpView, config: Mapping | None, device: Device) -> LoadedKernel:
    """A kernel function as a runnable Triton kernel."""
    return emit_triton.load(emit_triton.emit(function, config, device))
