"""Indexing tensors by scalar tensors, as in `prompt[:, index]` and `image[top : top + 8]`, while a step
is captured."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch

from .bounds import ahead, limits


def selecting(original: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """`Tensor.__getitem__`, but a scalar integer tensor selects without telling Python its value, and so
    does a slice from one, of a length that Python knows, that is sure to lie inside.

    torch reads such an index back to make a view of it. What is selected here is a copy.
    """

    @functools.wraps(original)
    def getitem(tensor: torch.Tensor, key: Any) -> torch.Tensor:
        parts = list(key) if isinstance(key, tuple) else [key]
        if any(_is_scalar_index(part) or _length(part) is not None for part in parts):
            tensor = _select(tensor, parts)
            key = tuple(parts)
        return original(tensor, key)

    return getitem


def _select(tensor: torch.Tensor, parts: list[Any]) -> torch.Tensor:
    """`tensor` with one element left where a scalar tensor indexes, and `parts` gets 0 there; with what
    is in the slice where it begins at one, and `parts` gets all there."""
    taken = sum(_extent(part) for part in parts)
    dim = 0
    for place, part in enumerate(parts):
        if _is_scalar_index(part):
            size = tensor.shape[dim]
            index = torch.where(part < 0, part + size, part).reshape(1)
            tensor = tensor.index_select(dim, index)
            parts[place] = 0
        elif (length := _length(part)) is not None and _is_inside(part.start, length, tensor, dim):
            places = part.start + torch.arange(length, device=tensor.device)
            tensor = tensor.index_select(dim, places)
            parts[place] = slice(None)
        dim += tensor.ndim - taken if part is Ellipsis else _extent(part)
    return tensor


def _length(part: Any) -> int | None:
    """That of a slice between two scalar tensors, if Python knows it."""
    if not isinstance(part, slice) or part.step not in (None, 1):
        return None
    if not (_is_scalar_index(part.start) and _is_scalar_index(part.stop)):
        return None
    return ahead(part.stop, part.start)


def _is_inside(start: torch.Tensor, length: int, tensor: torch.Tensor, dim: int) -> bool:
    low, high = limits(start)
    return length >= 0 and low >= 0 and high + length <= tensor.shape[dim]


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
