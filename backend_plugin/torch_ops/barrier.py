"""An identity that the compiler does not see through."""

from typing import Any

from torch import Tensor

from .define import define


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    pass


@define(
    "barrier(Tensor x) -> Tensor",
    lambda x: x.new_empty(x.shape),
    lambda ctx, g: g,
    _save,
)
def barrier(x: Tensor) -> Tensor:
    """x. What is computed from it counts as something else than what is computed from x itself, so
    that the compiler computes it again."""
    return x.clone()
