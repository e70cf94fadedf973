"""Loop nodes in the graph being traced."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from ..torch_ops import loops
from ..tracing import current_tracer, proxies_of, traced

Node = torch.fx.Node


def emit_scan(
    body: torch.fx.GraphModule,
    init: Sequence[Node],
    xs: Sequence[Node],
    constants: Sequence[Node],
    length: int,
    reverse: bool,
) -> tuple[torch.Tensor, ...]:
    """The traced results of a scan at this point of the trace, computed from nodes of its graph."""
    operands = (_body("scan", body), init, xs, constants, length, reverse)
    return _emit(loops.scan, operands, lambda: loops.scan_results(body, len(init), length))


def emit_while(
    cond: torch.fx.GraphModule,
    body: torch.fx.GraphModule,
    carries: Sequence[Node],
    constants: Sequence[Node],
) -> tuple[torch.Tensor, ...]:
    """The traced results of a while loop at this point of the trace."""
    values = [node.meta["val"] for node in carries]
    operands = (_body("cond", cond), _body("body", body), carries, constants)
    return _emit(loops.while_loop, operands, lambda: loops.while_results(values))


def _emit(
    operator: Any, operands: tuple[Any, ...], make: Callable[[], tuple[torch.Tensor, ...]]
) -> tuple[torch.Tensor, ...]:
    # Lists of nodes must be tuples: a list of a list of proxies is no argument that torch takes.
    given = tuple(tuple(x) if isinstance(x, list) else x for x in operands)
    proxy = current_tracer().create_proxy("call_function", operator, proxies_of(given), {})
    return traced(proxy, make)[0]


def _body(kind: str, module: torch.fx.GraphModule) -> torch.fx.Proxy:
    """A node for a new attribute of the graph's module."""
    tracer = current_tracer()
    taken = sum(name.startswith(f"{kind}_") for name, _ in tracer.root.named_children())
    name = f"{kind}_{taken}"
    tracer.root.add_module(name, module)
    return tracer.create_proxy("get_attr", name, (), {})
