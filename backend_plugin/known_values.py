"""Values that a step under capture knows: made from literals and shapes alone, whatever the data are."""

from typing import Any

import torch
from torch._subclasses.functional_tensor import FunctionalTensor
from torch.fx import Node
from torch.fx.node import map_arg
from torch.utils._python_dispatch import _disable_current_modes

from .tracing import current_tracer, known_node, plain

aten = torch.ops.aten
# What a literal goes through when the step makes a tensor of it; a tensor from outside does not.
LIFTS = frozenset({aten.lift_fresh.default, aten.lift_fresh_copy.default})


def known_value(tensor: torch.Tensor) -> torch.Tensor | None:
    """What a traced tensor holds, as a tensor on the CPU, if no input of the graph has a part in it."""
    if not isinstance(tensor, FunctionalTensor):
        return None
    plain(tensor)  # applies writes that are still to be made
    node = known_node(tensor)
    return None if node is None else node_value(node)


def node_value(node: Node) -> torch.Tensor | None:
    """The same of a node of the graph being traced."""
    needed = _made_of(node)
    if needed is None:
        return None
    literals, values = current_tracer().root, dict[Node, Any]()
    with _disable_current_modes(), torch.no_grad(), torch._C.DisableTorchFunction():
        for each in needed:
            if each.op == "get_attr":
                values[each] = getattr(literals, str(each.target))
            else:
                args, kwargs = map_arg((each.args, each.kwargs), values.__getitem__)
                assert callable(each.target)
                values[each] = each.target(*args, **kwargs)
        return values[node].cpu()


def _made_of(node: Node) -> list[Node] | None:
    """A node and all it is computed from, in order; None if an input or chance has a part in it."""
    found = {node: None}
    pending = [node]
    while pending:
        each = pending.pop()
        if not _is_known(each):
            return None
        for source in each.all_input_nodes:
            if source not in found:
                found[source] = None
                pending.append(source)
    return [each for each in node.graph.nodes if each in found]


def _is_known(node: Node) -> bool:
    if node.op == "get_attr":
        # What a tensor from outside holds may be something else next time.
        return all(user.target in LIFTS for user in node.users)
    op = node.target
    return (
        node.op == "call_function"
        and isinstance(op, torch._ops.OpOverload)
        and op.namespace == "aten"
        and not op._schema.is_mutable
        and torch.Tag.nondeterministic_seeded not in op.tags
    )
