"""How a captured loop is read: the node of a higher-order operator whose bodies are nested graphs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from .errors import ImportGraphError
from .loops import Scan, While

KINDS = {"keras_triton_scan": "scan", "keras_triton_while": "while"}
"""The operators that are loops, by name."""

PARAMETERS = {
    "scan": ("body", "init", "xs", "constants", "length", "reverse"),
    "while": ("condition", "body", "carries", "constants"),
}


@dataclass(frozen=True)
class LoopNode:
    """A loop in a graph.

    Attributes:
        kind: "scan" or "while".
        graphs: what it runs, "body" and maybe "condition", by the attribute of the graph module.
        operands: the nodes of carries, scanned tensors and constants, in this order.
        arguments: all of the operator's arguments by name.
    """

    kind: str
    graphs: Mapping[str, str]
    operands: Sequence[torch.fx.Node]
    arguments: Mapping[str, Any]

    def loop(self, functions: Mapping[str, str], number: Callable[[Any], int]) -> Scan | While:
        """What its declaration says when its graphs are these functions; `number` gives the number
        that an argument is.

        Raises:
            ImportGraphError: a scan over nothing, whose results nothing computes.
        """
        if self.kind == "while":
            return While(functions["condition"], functions["body"])
        given = self.arguments
        length = number(given["length"])
        if length < 1:
            raise ImportGraphError(f"a scan over {length} places has nothing to compute")
        carries, scanned = len(given["init"]), len(given["xs"])
        return Scan(functions["body"], carries, scanned, length, bool(given["reverse"]))


def is_loop(node: torch.fx.Node) -> bool:
    """Whether a node calls one of the operators in `KINDS`."""
    return _name(node) in KINDS


def loop_of_node(node: torch.fx.Node) -> LoopNode:
    """The parts of a loop's node."""
    kind = KINDS[_name(node)]
    names = PARAMETERS[kind]
    arguments: dict[str, Any] = dict(zip(names, node.args, strict=True))
    roles = [name for name in names if name in ("condition", "body")]
    lists = [name for name in names if name in ("init", "xs", "carries", "constants")]
    operands = [operand for name in lists for operand in arguments[name]]
    graphs = {role: arguments[role].target for role in roles}
    return LoopNode(kind, graphs, operands, arguments)


def _name(node: torch.fx.Node) -> str:
    target = node.target
    return target.name() if isinstance(target, torch._ops.HigherOrderOperator) else ""
