"""Indexing tensors by scalar tensors, as in `prompt[:, index]`, while a step is captured."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch


def selecting(original: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """`Tensor.__getitem__`, but a scalar integer tensor selects without telling Python its value.

    torch reads such an index back to make a view of it. What is selected here is a copy.
    """

    @functools.wraps(original)
    def getitem(tensor: torch.Tensor, key: Any) -> torch.Tensor:
        parts = list(key) if isinstance(key, tuple) else [key]
        if any(_is_scalar_index(part) for part in parts):
            tensor = _select(tensor, parts)
            key = tuple(parts)
        return original(tensor, key)

    return getitem


def _select(tensor: torch.Tensor, parts: list[Any]) -> torch.Tensor:
    """`tensor` with one element left where a scalar tensor indexes; `parts` gets 0 there."""
    taken = sum(_extent(part) for part in parts)
    dim = 0
    for place, part in enumerate(parts):
        if _is_scalar_index(part):
            size = tensor.shape[dim]
            index = torch.where(part < 0, part + size, part).reshape(1)
            tensor = tensor.index_select(dim, index)
            parts[place] = 0
        dim += tensor.ndim - taken if part is Ellipsis else _extent(part)
    return tensor


def _extent(part: Any) -> int:
    """How many dimensions an entry of an index covers, all but an ellipsis."""
    if part is None or part is Ellipsis or isinstance(part, bool):
        return 0
    is_mask = isinstance(part, torch.Tensor) and part.dtype == torch.bool
    return part.ndim if is_mask else 1


def _is_scalar_index(part: Any) -> bool:
    return (
        isinstance(part, torch.Tensor)
        and part.ndim == 0
        and not part.is_floating_point()
        and part.dtype not in (torch.bool, torch.uint8)
    )
