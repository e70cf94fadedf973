"""How small and large the numbers of a traced tensor can be, as far as the ops that made it tell."""

import math
from collections.abc import Callable
from typing import Any

import torch

from .known_values import node_value
from .tracing import known_node

aten = torch.ops.aten
# What moves elements, or changes only how they are held.
_MOVES = frozenset(
    {
        aten._to_copy.default,
        aten._unsafe_view.default,
        aten.alias.default,
        aten.clone.default,
        aten.detach.default,
        aten.expand.default,
        aten.permute.default,
        aten.select.int,
        aten.slice.Tensor,
        aten.squeeze.dim,
        aten.unsqueeze.default,
        aten.view.default,
    }
)


Limits = tuple[float, float]
"""Numbers that no element is below or above; infinite where nothing tells."""


def greatest(tensor: torch.Tensor) -> int | None:
    """A number that no element of an integer tensor under capture exceeds; None if nothing tells."""
    high = limits(tensor)[1]
    return int(high) if math.isfinite(high) else None


def limits(tensor: torch.Tensor) -> Limits:
    """Those of an integer tensor under capture."""
    node = known_node(tensor)
    return _UNKNOWN if node is None or not _is_integer(node) else _limits(node)


_UNKNOWN: Limits = (-math.inf, math.inf)


def _limits(node: torch.fx.Node) -> Limits:
    if node.op != "call_function":
        return _UNKNOWN
    if node.target in _MOVES:
        (source,) = node.all_input_nodes
        low, high = _limits(source)
        # A cast to integers rounds towards zero.
        return (_whole(low), _whole(high)) if _is_integer(node) else (low, high)
    rule = _RULES.get(node.target)
    return _UNKNOWN if rule is None else rule(*node.args)


def _whole(number: float) -> float:
    return math.trunc(number) if math.isfinite(number) else number


def _is_integer(node: torch.fx.Node) -> bool:
    dtype = node.meta["val"].dtype
    return not (dtype.is_floating_point or dtype.is_complex)


def _clamped(x: torch.fx.Node, low: Any = None, high: Any = None) -> Limits:
    least, most = _limits(x)
    low, high = _number(low), _number(high)
    if low is not None:
        least, most = max(least, low), max(most, low)
    if high is not None:
        least, most = min(least, high), min(most, high)
    return least, most


def _remainder(x: torch.fx.Node, divisor: Any) -> Limits:
    number = _number(divisor)
    if isinstance(number, int) and number > 0 and _is_integer(x):
        return 0, number - 1
    return _UNKNOWN


def _place(x: torch.fx.Node, dim: int | None = None, keepdim: bool = False) -> Limits:
    shape = x.meta["val"].shape
    return 0, (shape.numel() if dim is None else shape[dim]) - 1


_RULES: dict[Any, Callable[..., Limits]] = {
    aten.clamp.default: _clamped,
    aten.clamp.Tensor: _clamped,
    aten.remainder.Scalar: _remainder,
    aten.remainder.Tensor: _remainder,
    aten.argmax.default: _place,
    aten.argmin.default: _place,
}


def ahead(tensor: torch.Tensor, other: torch.Tensor) -> int | None:
    """By how much a traced scalar is greater than another that it was made from by adding a number."""
    node, start = known_node(tensor), known_node(other)
    if node is None or start is None or node.target is not aten.add.Tensor or node.kwargs:
        return None
    x, number = node.args[:2]
    return number if x is start and isinstance(number, int) else None


def _number(argument: Any) -> float | None:
    """The value of an argument that is a number, or a scalar tensor that the step made from one."""
    if isinstance(argument, torch.fx.Node):
        value = node_value(argument)
        argument = value.item() if value is not None and value.numel() == 1 else None
    return argument if isinstance(argument, int | float) else None
