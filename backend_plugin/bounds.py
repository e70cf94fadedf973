"""How large the integers of a traced tensor can be, as far as the ops that made it tell."""

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


def greatest(tensor: torch.Tensor) -> int | None:
    """A number that no element of an integer tensor under capture exceeds; None if nothing tells."""
    node = known_node(tensor)
    while node is not None and node.op == "call_function":
        if not _is_integer(node):
            return None
        if node.target in _MOVES:
            (node,) = node.all_input_nodes
            continue
        rule = _RULES.get(node.target)
        return None if rule is None else rule(*node.args)
    return None


def _is_integer(node: torch.fx.Node) -> bool:
    dtype = node.meta["val"].dtype
    return not (dtype.is_floating_point or dtype.is_complex)


def _clamped(x: Any, low: Any = None, high: Any = None) -> int | None:
    return _number(high)


def _remainder(x: Any, divisor: Any) -> int | None:
    number = _number(divisor)
    return number - 1 if number is not None and number > 0 else None


def _place(x: torch.fx.Node, dim: int | None = None, keepdim: bool = False) -> int:
    shape = x.meta["val"].shape
    return (shape.numel() if dim is None else shape[dim]) - 1


_RULES: dict[Any, Callable[..., int | None]] = {
    aten.clamp.default: _clamped,
    aten.clamp.Tensor: _clamped,
    aten.remainder.Scalar: _remainder,
    aten.remainder.Tensor: _remainder,
    aten.argmax.default: _place,
    aten.argmin.default: _place,
}


def _number(argument: Any) -> int | None:
    """The value of an argument that is a number, or a scalar tensor that the step made from one."""
    if isinstance(argument, torch.fx.Node):
        value = node_value(argument)
        argument = value.item() if value is not None and value.numel() == 1 else None
    return argument if isinstance(argument, int) else None
