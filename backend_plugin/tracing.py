"""The graph being traced: its tracer, the nodes behind tensors, inputs made on the way.

A tensor of a step under capture is a `FunctionalTensor` around a fake tensor; the tracer knows the
node that computes the fake one.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch._subclasses.functional_tensor import FunctionalTensor, disable_functional_mode
from torch.fx.experimental.proxy_tensor import (
    disable_proxy_modes_tracing,
    fetch_sym_proxy,
    get_proxy_mode,
    get_proxy_slot,
    track_tensor_tree,
)
from torch.utils._pytree import tree_map_only

Made = TypeVar("Made")


def current_tracer() -> Any:
    """The tracer of the capture under way."""
    mode = get_proxy_mode()
    assert mode is not None, "called outside of make_fx"
    return mode.tracer


def empty_like(tensor: torch.Tensor) -> torch.Tensor:
    """A fresh tensor rather than a fake view of the given one: it carries no autograd history, and is
    contiguous, as everything a program takes is."""
    return torch.empty(tensor.shape, dtype=tensor.dtype, device=tensor.device)


def untraced(make: Callable[[], Made]) -> Made:
    """What `make()` gives, without a trace in the graph."""
    no_modes = torch._C.DisableTorchFunction()  # that of a loop's body asks for nodes
    with disable_proxy_modes_tracing(), disable_functional_mode(), no_modes:
        return make()


def traced_input(name: str, make: Callable[[], torch.Tensor]) -> tuple[torch.Tensor, torch.fx.Node]:
    """A new input of the graph at this point of the trace, like the tensor that `make()` gives.

    Graphs want inputs first: whoever makes one here moves or removes its node in the end.
    """
    return traced(current_tracer().create_proxy("placeholder", name, (), {}), make)


def traced(proxy: torch.fx.Proxy, make: Callable[[], Any]) -> tuple[Any, torch.fx.Node]:
    """The tensor, or tuple of tensors, that `proxy` computes, and its node. `make()` gives tensors
    of the same shapes, dtypes and devices, and is not traced."""
    fakes = untraced(make)
    tracer: Any = proxy.tracer
    track_tensor_tree(fakes, proxy, constant=None, tracer=tracer)
    if isinstance(fakes, torch.Tensor):
        return FunctionalTensor.to_functional(fakes), proxy.node
    return tuple(map(FunctionalTensor.to_functional, fakes)), proxy.node


def proxies_of(arguments: Any) -> Any:
    """The arguments of a new node: nodes and numbers of open sizes, at any depth, as proxies."""
    tracer = current_tracer()
    arguments = tree_map_only(torch.fx.Node, lambda node: torch.fx.Proxy(node, tracer), arguments)
    return tree_map_only(torch.SymInt, fetch_sym_proxy(tracer), arguments)


def writes(tensor: FunctionalTensor) -> int:
    """How often the memory of a traced tensor was written to."""
    with torch._C.DisableTorchFunction():
        return torch._functionalize_mutation_counter(tensor.elem)


def plain(tensor: torch.Tensor) -> torch.Tensor:
    """The fake tensor behind a traced one, pending mutations applied."""
    if not isinstance(tensor, FunctionalTensor):
        return tensor
    with torch._C.DisableTorchFunction():
        torch._sync(tensor)
        return torch._from_functional_tensor(tensor.elem)


def known_node(tensor: torch.Tensor) -> torch.fx.Node | None:
    """The node of a traced tensor as it stands, mutations through views left out; None for others."""
    if not isinstance(tensor, FunctionalTensor):
        return None
    with torch._C.DisableTorchFunction():
        fake = torch._from_functional_tensor(tensor.elem)
    slot = get_proxy_slot(fake, current_tracer(), None)
    return None if slot is None else slot.proxy.node


def settled_node(tensor: torch.Tensor) -> torch.fx.Node | None:
    """`known_node` with pending mutations applied."""
    if not isinstance(tensor, FunctionalTensor):
        return None
    slot = get_proxy_slot(plain(tensor), current_tracer(), None)
    return None if slot is None else slot.proxy.node


def assign_node(tensor: FunctionalTensor, node: torch.fx.Node) -> None:
    """Writes what a node computes, of the same shape and dtype, to a traced tensor."""
    tracer = current_tracer()
    fake = untraced(lambda: empty_like(tensor))
    track_tensor_tree(fake, torch.fx.Proxy(node, tracer), constant=None, tracer=tracer)
    with torch._C.DisableTorchFunction():
        tensor.replace_(fake)
        tensor.commit_update()
        tensor.sync()


def own_node(tensor: torch.Tensor) -> torch.fx.Node:
    """`known_node` of a tensor that is sure to have one."""
    node = known_node(tensor)
    assert node is not None
    return node


def node_of(tensor: torch.Tensor) -> torch.fx.Node:
    """The node that computes `tensor`, dense in row-major order; a closed-over tensor gets one."""
    if not isinstance(tensor, FunctionalTensor):
        tensor = torch.ops.aten.alias.default(tensor)
    dense = plain(tensor.detach().contiguous())
    return get_proxy_slot(dense, current_tracer()).proxy.node
