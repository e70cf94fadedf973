"""Products that a loop need not take step by step.

The input of a recurrent cell times its kernel depends on no step before: one product of the inputs of
all steps, before the loop. The gradient by that input is read by no other step: one product of all
its factors, after the loop.
"""

import functools
from collections.abc import Callable, Collection, Container, Mapping
from typing import Any

import torch
from torch.utils._pytree import tree_map_only

from .. import torch_ops
from ..provenance import LAYER
from ..tracing import current_tracer, own_node, proxies_of, traced
from .outline import Outline

aten = torch.ops.aten
Node = torch.fx.Node
_POINTWISE = frozenset(
    {
        aten._to_copy.default,
        aten.add.Tensor,
        aten.clone.default,
        aten.div.Tensor,
        aten.mul.Scalar,
        aten.mul.Tensor,
        aten.neg.default,
        aten.sub.Tensor,
    }
)
_VIEWS = frozenset({aten.view.default, aten._unsafe_view.default, aten.alias.default})
# Ops whose results' first axis is that of one argument, and the number of that argument.
_PRODUCTS = {
    aten.mm.default: 0,
    aten.addmm.default: 1,
    torch_ops.conv2d: 0,
    torch_ops.conv2d_input_grad: 0,
}


def take_ahead(
    outline: Outline, stacks: dict[Node, Node], results: list[Node], length: int
) -> None:
    """Takes products that `results` need of slices before the loop: they become slices.

    stacks: of each slice in the region, the node of all slices; products are added.
    """
    needed = outline.needed(results)
    ahead: dict[Node, Callable[[], Node]] = {
        node: functools.partial(stacks.__getitem__, node) for node in stacks
    }
    for node in list(outline.moved):
        if node in needed and node not in stacks and _can_stack(node, ahead, outline):
            ahead[node] = _once(functools.partial(_stack, node, ahead, length))
            if node.target in _PRODUCTS:
                stacks[node] = ahead[node]()
                outline.cut(node)


def take_after(
    outline: Outline, result: Node, results: Collection[Node], length: int
) -> tuple[Node, Callable[[torch.Tensor], torch.Tensor]]:
    """What a loop may stack instead of `result`, which is one of its `results`: a node of the
    region, and a function from its stack to the stack of `result`."""
    needed, chain, end = outline.needed(results), [], 0
    node, reader = result, None
    while all(user is reader for user in node.users if user in needed):
        inside = [source for source in node.all_input_nodes if source in outline.moved]
        if len(inside) != 1 or not _can_stack(node, inside, outline):
            break
        chain.append(node)
        if node.target in _PRODUCTS:
            end = len(chain)
        reader, node = node, inside[0]
    chain = chain[:end]
    if not chain:
        return result, lambda stack: stack
    (start,) = (source for source in chain[-1].all_input_nodes if source in outline.moved)

    def finish(made: torch.Tensor) -> torch.Tensor:
        below = start
        for link in reversed(chain):
            made, below = _stack(link, {below: functools.partial(own_node, made)}, length), link
        return made

    return start, finish


def _can_stack(node: Node, stacked: Container[Node], outline: Outline) -> bool:
    """Whether `node` can be computed for all steps at once outside of the loop, with stacks of those
    of its inputs that are in `stacked`."""
    sources = node.all_input_nodes
    if any(source in outline.moved and source not in stacked for source in sources):
        return False
    if node.target in _PRODUCTS:
        varying = [i for i, a in enumerate(node.args) if isinstance(a, Node) and a in stacked]
        return varying == [_PRODUCTS[node.target]]
    if node.target in _VIEWS:
        return True
    if node.target not in _POINTWISE or not any(source in stacked for source in sources):
        return False
    rank = node.meta["val"].ndim
    ranks = ((source in stacked, source.meta["val"].ndim) for source in sources)
    return all(found == rank if varies else found <= rank for varies, found in ranks)


def _stack(node: Node, stacks: Mapping[Node, Callable[[], Node]], length: int) -> torch.Tensor:
    """`node` computed outside of the loop, for all steps at once."""
    target, shape = node.target, list(node.meta["val"].shape)
    args = tree_map_only(Node, lambda x: stacks[x]() if x in stacks else x, tuple(node.args))
    if target in _VIEWS:
        return _call(aten.view.default, (args[0], [length, *shape]), node)
    if target in _POINTWISE:
        kwargs = {key: value for key, value in node.kwargs.items() if key != "memory_format"}
        return _call(target, args, node, **kwargs)
    place = _PRODUCTS[target]
    _, batch, *rest = args[place].meta["val"].shape
    rows = own_node(_call(aten.view.default, (args[place], [length * batch, *rest]), node))
    arguments: list[Any] = [*args[:place], rows, *args[place + 1 :]]
    if target is torch_ops.conv2d_input_grad:
        arguments[2] = [length * shape[0], *shape[1:]]
    made = own_node(_call(target, tuple(arguments), node))
    return _call(aten.view.default, (made, [length, *shape]), node)


def _once(make: Callable[[], torch.Tensor]) -> Callable[[], Node]:
    """The node of what `make` makes as soon as it is asked for, once."""
    return functools.cache(lambda: own_node(make()))


def _call(target: Any, args: tuple[Any, ...], like: Node, **kwargs: Any) -> torch.Tensor:
    """The result of a new node at this point of the trace, of the layer of `like`."""
    values = tree_map_only(Node, lambda node: node.meta["val"], args)
    proxy = current_tracer().create_proxy("call_function", target, proxies_of(args), kwargs)
    result, node = traced(proxy, lambda: target(*values, **kwargs))
    node.meta[LAYER] = like.meta[LAYER]
    return result
