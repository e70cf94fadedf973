"""The final form of a traced graph: inputs first, closed-over tensors lifted, no copies."""

import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch.fx.experimental.symbolic_shapes import statically_known_true

from .known_values import LIFTS

aten = torch.ops.aten

# Identities once nothing mutates.
_ALIASES = frozenset(
    {
        aten.alias.default,
        aten.detach.default,
        aten.lift.default,
        aten.lift_fresh.default,
        aten.lift_fresh_copy.default,
    }
)
LITERAL_SIZE = 64  # elements; keeps folding negligible beside tracing
# Identities when shape, dtype, device and strides stay the same.
_COPIES = frozenset(
    {aten._to_copy.default, aten.clone.default, aten.expand.default, aten.view.default}
)


def hoist_inputs(graph: torch.fx.Graph) -> None:
    """Move every placeholder to the front, in order of creation."""
    anchor = graph._root
    for node in list(graph.nodes):
        if node.op == "placeholder":
            anchor.append(node)
            anchor = node


def move_to_inputs_end(graph: torch.fx.Graph, node: torch.fx.Node) -> None:
    """Make a placeholder the last one."""
    last = _last_input(graph)
    if node is not last:
        last.append(node)


def fold_literals(module: torch.fx.GraphModule) -> None:
    """Compute what depends on literals only; scalar results become `aten.full`.

    A literal is a small tensor the step itself makes from Python numbers. Keras counts elements and
    raises decay rates to powers with such tensors, hundreds of them in a training step.
    """
    graph = module.graph
    known: dict[torch.fx.Node, torch.Tensor] = {}
    for node in list(graph.nodes):
        value = _literal_value(module, node, known)
        if value is None:
            continue
        known[node] = value
        is_full = node.target in (aten.full.default, aten.scalar_tensor.default)
        if node.op == "call_function" and value.ndim == 0 and not is_full:
            known[_replace_by_full(graph, node, value)] = value
    graph.eliminate_dead_code()


def _literal_value(
    module: torch.fx.GraphModule, node: torch.fx.Node, known: dict[torch.fx.Node, torch.Tensor]
) -> torch.Tensor | None:
    """The CPU tensor that `node` stands for, if only literals decide it and it is small."""
    if node.op == "get_attr":
        tensor = getattr(module, str(node.target))
        if not isinstance(tensor, torch.Tensor):
            return None
        is_literal = all(user.target in LIFTS for user in node.users)
        return tensor.cpu() if is_literal and tensor.numel() <= LITERAL_SIZE else None
    if node.op != "call_function" or not isinstance(node.target, torch._ops.OpOverload):
        return None
    value, inputs = node.meta.get("val"), node.all_input_nodes
    # First, since to ask an open size how large it is would restrict it.
    if not all(source in known for source in inputs):
        return None
    if not isinstance(value, torch.Tensor) or value.numel() > LITERAL_SIZE:
        return None
    if not inputs and node.target not in (aten.full.default, aten.scalar_tensor.default):
        return None
    arguments = torch.fx.map_arg(node.args, known.__getitem__)
    options = torch.fx.map_arg(node.kwargs, known.__getitem__)
    if "device" in options:
        options = {**options, "device": torch.device("cpu")}
    return node.target(*arguments, **options)


def lift_constants(module: torch.fx.GraphModule) -> list[tuple[torch.fx.Node, torch.Tensor]]:
    """Make each closed-over tensor an input. Returns the new placeholders and their tensors."""
    graph = module.graph
    lifted: dict[str, tuple[torch.fx.Node, torch.Tensor]] = {}
    last_input = _last_input(graph)
    for node in graph.find_nodes(op="get_attr"):
        tensor = getattr(module, node.target)
        if not isinstance(tensor, torch.Tensor):  # the body of a loop
            continue
        if node.target not in lifted:
            with graph.inserting_after(last_input):
                placeholder = graph.placeholder(f"constant{len(lifted)}")
            placeholder.meta.update(node.meta)
            placeholder.meta["val"] = tensor
            lifted[node.target] = (placeholder, tensor)
            last_input = placeholder
        node.replace_all_uses_with(lifted[node.target][0])
        graph.erase_node(node)
    return list(lifted.values())


def clean_bodies(module: torch.fx.GraphModule) -> None:
    """`remove_copies` in the bodies of loops; bodies that no loop runs any more go."""
    module.delete_all_unused_submodules()
    for body in module.children():
        if isinstance(body, torch.fx.GraphModule):
            remove_copies(body.graph)
            clean_bodies(body)
            body.recompile()


def remove_copies(graph: torch.fx.Graph) -> None:
    """Drop aliases, copies that change nothing and parts of no elements, then dead code."""
    for node in list(graph.nodes):
        if node.target is aten._linalg_check_errors.default:
            graph.erase_node(node)
        elif node.target is aten.cat.default:
            _drop_empty_parts(node)
        elif node.op == "call_function" and _is_identity(node):
            node.replace_all_uses_with(node.all_input_nodes[0])
            graph.erase_node(node)
    graph.eliminate_dead_code()


def detach_outputs(graph: torch.fx.Graph) -> None:
    """Copy each output that is an input, or a view of one: states are overwritten after a call."""
    (output,) = graph.find_nodes(op="output")
    outputs = []
    for node in output.args[0]:
        if _root(node).op == "placeholder":
            with graph.inserting_before(output):
                copy = graph.call_function(aten.clone.default, (node,))
            copy.meta.update(node.meta)
            node = copy
        outputs.append(node)
    output.args = (outputs,)


def _root(node: torch.fx.Node) -> torch.fx.Node:
    """The node whose memory `node` is a view of; itself when it is none."""
    while node.op == "call_function":
        is_view = node.target is operator.getitem or getattr(node.target, "is_view", False)
        if not is_view:
            break
        node = node.all_input_nodes[0]
    return node


def _drop_empty_parts(cat: torch.fx.Node) -> None:
    """What is joined without its parts of no elements, as an associative scan makes them."""
    full = [part for part in _node_list(cat.args[0]) if part.meta["val"].numel()]
    if any(part.meta["val"].dtype == cat.meta["val"].dtype for part in full):
        cat.args = (full, *cat.args[1:])


def _node_list(argument: Any) -> list[torch.fx.Node]:
    return list(argument)


def _is_identity(node: torch.fx.Node) -> bool:
    if node.target in _ALIASES:
        return True
    if node.target not in _COPIES and not _writes_nothing(node):
        return False
    before, after = node.all_input_nodes[0].meta["val"], node.meta["val"]
    return (
        _surely_equal(before.shape, after.shape)
        and before.dtype == after.dtype
        and before.device == after.device
        and _surely_equal(before.stride(), after.stride())
    )


def _surely_equal(some: Sequence[Any], others: Sequence[Any]) -> bool:
    """Whether they are the same numbers whatever an open size is; a plain comparison would fix it."""
    return len(some) == len(others) and all(
        statically_known_true(a == b) for a, b in zip(some, others, strict=True)
    )


def _writes_nothing(node: torch.fx.Node) -> bool:
    if node.target is not aten.slice_scatter.default:
        return False
    _, source, *_ = node.args
    return isinstance(source, torch.fx.Node) and not source.meta["val"].numel()


def _last_input(graph: torch.fx.Graph) -> torch.fx.Node:
    last = graph._root
    for node in graph.nodes:
        if node.op != "placeholder":
            break
        last = node
    return last


def _replace_by_full(
    graph: torch.fx.Graph, node: torch.fx.Node, value: torch.Tensor
) -> torch.fx.Node:
    options = {"dtype": value.dtype, "device": node.meta["val"].device, "pin_memory": False}
    with graph.inserting_before(node):
        full = graph.call_function(aten.full.default, ([], value.item()), options)
    full.meta.update(node.meta)
    node.replace_all_uses_with(full)
    graph.erase_node(node)
    return full
