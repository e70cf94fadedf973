"""Splits one graph of a function and its backward pass into two, and decides what lies between.

The forward graph computes what the results and the new states need, nothing more. The backward graph
computes the rest: all that depends on the tangents, and what only that needs. It reads what the
forward graph has computed anyway; views and constants are made again, since they cost nothing.
"""

import operator
from collections.abc import Iterable

import torch
from torch.fx import Graph, GraphModule, Node


def split(
    module: GraphModule, forward: list[Node], gradients: list[Node], tangents: list[Node]
) -> tuple[GraphModule, list[Node]]:
    """The backward graph, and the nodes of `module` that it reads.

    Args:
        module: the joint graph, functional. It stays as it is; a caller that drops the gradients
            from its outputs has the forward graph.
        forward: what the forward graph must give.
        gradients: what the backward graph must give.
        tangents: placeholders that only the gradients depend on.

    Returns:
        A graph that takes the saved nodes and then the tangents, and gives the gradients. Saved
        nodes are placeholders of `module` or contiguous values that its forward part computes.
    """
    computed = _ancestors(forward)
    inside, saved = _backward_part(gradients, set(tangents), computed)
    order = {node: number for number, node in enumerate(module.graph.nodes)}
    saved.sort(key=order.__getitem__)
    graph = Graph()
    copies = {node: _placeholder(graph, node, f"saved{i}") for i, node in enumerate(saved)}
    for i, node in enumerate(tangents):
        copies[node] = _placeholder(graph, node, f"tangent{i}")
    for node in sorted(inside, key=order.__getitem__):
        copies[node] = graph.node_copy(node, copies.__getitem__)
    graph.output([copies[node] for node in gradients])
    return GraphModule(module, graph), [_contiguous(module.graph, node) for node in saved]


def _ancestors(nodes: Iterable[Node]) -> set[Node]:
    found: set[Node] = set()
    pending = list(nodes)
    while pending:
        node = pending.pop()
        if node not in found:
            found.add(node)
            pending += node.all_input_nodes
    return found


def _backward_part(
    gradients: list[Node], tangents: set[Node], computed: set[Node]
) -> tuple[set[Node], list[Node]]:
    """The nodes to compute in the backward graph, and those to read."""
    inside: set[Node] = set()
    read: set[Node] = set()
    pending = list(gradients)
    while pending:
        node = pending.pop()
        if node in inside or node in read or node in tangents:
            continue
        if _is_read(node, computed):
            read.add(node)
        else:
            inside.add(node)
            pending += node.all_input_nodes
    return inside, list(read)


def _is_read(node: Node, computed: set[Node]) -> bool:
    if node.op == "placeholder":
        return True
    if node.target is operator.getitem:  # a graph's inputs are tensors, so never the whole tuple
        return node.all_input_nodes[0] in computed
    return node in computed and not _is_free(node)


def _is_free(node: Node) -> bool:
    """Whether computing a node again costs nothing, and gives the same."""
    if node.op == "get_attr":  # the body of a loop
        return True
    if not isinstance(node.target, torch._ops.OpOverload):
        return False
    if node.target.is_view:
        return True
    is_random = torch.Tag.nondeterministic_seeded in node.target.tags
    return not node.all_input_nodes and not is_random


def _placeholder(graph: Graph, node: Node, name: str) -> Node:
    made = graph.placeholder(name)
    made.meta.update(node.meta)
    made.meta["val"] = node.meta["val"].contiguous()
    return made


def _contiguous(graph: Graph, node: Node) -> Node:
    """A node with the same values in contiguous memory, which programs hand over."""
    value = node.meta["val"]
    if node.op == "placeholder" or value.is_contiguous():
        return node
    with graph.inserting_after(node):
        made = graph.call_function(
            torch.ops.aten.clone.default, (node,), {"memory_format": torch.contiguous_format}
        )
    made.meta.update(node.meta, val=value.contiguous())
    return made
