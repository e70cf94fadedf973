"""Images come in uint8, which MLIR's arithmetic has no type for: their bytes are read as int8.

The first cast of such an input becomes a sign extension and a mask, which fuse into its reader.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

Program = Callable[[Sequence[torch.Tensor]], list[torch.Tensor]]
_CAST = torch.ops.aten._to_copy.default
_MASK = torch.ops.aten.bitwise_and.Scalar


def as_signed(graph: torch.fx.GraphModule) -> torch.fx.GraphModule:
    """The graph with uint8 inputs that are only cast taken as the int8 of the same bytes.

    Other uses of uint8, whose arithmetic wraps at 256, stay as they are.
    """
    if not any(map(_is_read_by_casts, graph.graph.nodes)):
        return graph
    nodes = torch.fx.Graph()
    nodes.output(nodes.graph_copy(graph.graph, {}))
    copied = torch.fx.GraphModule(graph, nodes)  # with the bodies of loops, which nodes name
    for node in list(filter(_is_read_by_casts, copied.graph.nodes)):
        _take_as_signed(copied.graph, node)
    return copied


def signed_bytes(graph: torch.fx.GraphModule, program: Program) -> Program:
    """`program`, compiled from `as_signed(graph)`, for the arguments of `graph`."""
    positions = [
        i
        for i, node in enumerate(graph.graph.find_nodes(op="placeholder"))
        if _is_read_by_casts(node)
    ]
    if not positions:
        return program

    def run(arguments: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        given = list(arguments)
        for position in positions:
            given[position] = given[position].view(torch.int8)
        return program(given)

    return run


def _is_read_by_casts(node: torch.fx.Node) -> bool:
    value = node.meta.get("val")
    return (
        node.op == "placeholder"
        and isinstance(value, torch.Tensor)
        and value.dtype == torch.uint8
        and all(user.target is _CAST for user in node.users)
    )


def _take_as_signed(graph: torch.fx.Graph, node: torch.fx.Node) -> None:
    value, casts = node.meta["val"], list(node.users)
    node.meta["val"] = value.to(torch.int8)
    for cast in casts:
        with graph.inserting_before(cast):
            wide = graph.call_function(_CAST, (node,), {"dtype": torch.int16})
            masked = graph.call_function(_MASK, (wide, 255))
        for made in (wide, masked):
            made.meta.update(cast.meta, val=value.to(torch.int16))
        cast.replace_input_with(node, masked)
