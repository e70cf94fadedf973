"""Which values an optimizer makes: updates of all parameters shall become one kernel."""

from __future__ import annotations

from .graph import Graph, Loop


def update_values(graph: Graph, *, by_optimizer: bool = False) -> frozenset[int]:
    """Loops' values, shaped as a parameter, that lead to new values of donated arguments only.

    Where the optimizer's layer is named (or `by_optimizer` says it must be), only its loops count. One
    such chain alone is no group of updates, and then nothing is kept apart.
    """
    users = graph.users()
    returned = set(graph.results)
    updates: set[int] = set()
    for number in range(len(graph.nodes) - 1, -1, -1):
        node = graph.nodes[number]
        if node.loop is None or node.loop.combiner or not graph.types[node.outputs[0]].rank:
            continue
        (value,) = node.outputs
        leads = value not in returned or value in graph.donated
        inside = all(
            _same_domain(graph, user, node.loop) and graph.nodes[user].outputs[0] in updates
            for user in users[value]
        )
        if leads and inside and (value in graph.donated or users[value]):
            updates.add(value)
    named = {value for value in updates if _is_optimizer(graph, value)}
    ends = [value for value in graph.donated if value in updates and (not named or value in named)]
    found = named if by_optimizer else named or updates
    return frozenset(found) if len(ends) > 1 else frozenset()


def _same_domain(graph: Graph, user: int, loop: Loop) -> bool:
    other = graph.nodes[user].loop
    return other is not None and other.extents == loop.extents


def _is_optimizer(graph: Graph, value: int) -> bool:
    producer = graph.producer[value]
    return producer is not None and graph.nodes[producer].layer.split("/")[0] == "optimizer"
