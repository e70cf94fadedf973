"""Where the sources of generated Triton kernels lie: Triton reads them from disk."""

from __future__ import annotations

from collections.abc import Mapping

from mlir import ir

from keras_triton.kernels.device import Device
from keras_triton.lowering import emit_triton
from keras_triton.lowering.emit_triton import LoadedKernel

from ..settings import settings


def load(function: ir.OpView, config: Mapping | None, device: Device) -> LoadedKernel:
    """A kernel function as a runnable Triton kernel; its source is kept in the cache folder."""
    generated = emit_triton.emit(function, config, device)
    return emit_triton.load(generated, settings().cache / "triton")
