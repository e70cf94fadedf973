"""set-precision: float32 products are computed as precisely as was asked for.

By tensor cores in tf32 (10 bits of each factor's fraction), by three such products in their place, or,
where nothing was asked for, in full float32 without them. Sums are float32 in any case.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from mlir import ir

from keras_triton.kernels.gemm import PRECISIONS

from .. import dialect
from ..emit_triton.template import PRECISION
from ..mlir import TensorType, context, parse_verified, text
from ..ops.linear_loss import HEADS
from .base import Pass, PassError

PRODUCTS = tuple(
    f"keras.{name}"
    for name in (
        *("matmul", "batch_matmul", "conv2d", "conv2d_input_grad", "conv2d_kernel_grad"),
        *("attention", "attention_grad"),
        *HEADS,
    )
)


@dataclass(frozen=True)
class SetPrecision(Pass):
    """Option `precision`: "ieee", "tf32" or "tf32x3"."""

    name: ClassVar[str] = "set-precision"
    takes: ClassVar[str] = "regions"
    gives: ClassVar[str] = "regions"

    precision: str = "ieee"

    def run(self, module: ir.Module) -> ir.Module:
        self.check_stage(module)
        if self.precision not in PRECISIONS:
            allowed = ", ".join(PRECISIONS)
            raise PassError(f"{self.name}: precision {self.precision!r}; allowed: {allowed}")
        if self.precision == PRECISIONS[0]:
            return module
        with context(), ir.Location.unknown():
            copied = parse_verified(text(module))
            for op in dialect.walk(copied.operation):
                if op.name in PRODUCTS and TensorType.of(op.operands[0]).dtype == "f32":
                    op.attributes[PRECISION] = ir.StringAttr.get(self.precision)
        return copied
