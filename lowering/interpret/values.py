"""How the interpreter holds values: torch tensors, floats in one precision."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from mlir import ir

from ..errors import DialectError
from ..mlir import FLOATS, OPAQUE, TORCH_DTYPES


@dataclass(frozen=True)
class Number:
    """The precision of floats: float64 throughout if `exact`, else each op's declared dtype."""

    exact: bool

    def settle(self, value: torch.Tensor, dtype: str | None = None) -> torch.Tensor:
        """`value` as an op of element type `dtype` (its own if None) hands it on."""
        if self.exact and value.is_floating_point():
            return value.double()
        return value if dtype is None else value.to(self.of(dtype))

    def of(self, dtype: str) -> torch.dtype:
        """The torch dtype in which values of an MLIR element type are held."""
        if dtype == "index":
            return torch.int64
        if dtype in OPAQUE:
            return OPAQUE[dtype]
        if dtype not in TORCH_DTYPES:
            raise DialectError(f"{dtype} is no element type of the dialect")
        return torch.float64 if self.exact and dtype in FLOATS else TORCH_DTYPES[dtype]


class Environment(dict[ir.Value, torch.Tensor]):
    """The tensors that SSA values stand for; a nested region also sees those around it."""

    def __init__(self, number: Number, around: Environment | None = None) -> None:
        super().__init__()
        self.number, self.around = number, around

    def __missing__(self, value: ir.Value) -> torch.Tensor:
        if self.around is None:
            raise DialectError(f"{value} is used before anything defines it")
        return self.around[value]
