"""Loops as single nodes of a graph: ``torch.ops.higher_order.keras_triton_scan`` and ``..._while``.

Their bodies are graph modules of pure ops on plain tensors. What stands here is their meaning, a
Python loop around the body; autograd passes through it op by op.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._C import DispatchKey
from torch._ops import HigherOrderOperator, _higher_order_ops
from torch._subclasses.fake_tensor import FakeTensorMode

Body = Callable[..., Sequence[Tensor]]
Tensors = Sequence[Tensor]


class _Loop(HigherOrderOperator):
    """A loop operator; torch takes its meaning from what is registered below."""

    def __call__(self, *args: Any) -> tuple[Tensor, ...]:
        return super().__call__(*args)


def _define(name: str, meaning: Callable[..., Any], fake: Callable[..., Any]) -> Any:
    """The operator `name`, made at the first import: Keras reloads this package in ``set_backend``,
    and graphs captured before hold the operator by identity."""
    if name in _higher_order_ops:
        return _higher_order_ops[name]
    operator = _Loop(name)
    for key in (DispatchKey.AutogradCPU, DispatchKey.AutogradCUDA):
        operator.fallthrough(key)
    operator.py_impl(DispatchKey.CompositeExplicitAutograd)(meaning)
    operator.py_impl(FakeTensorMode)(fake)
    return operator


def _scan(
    body: Body, init: Tensors, xs: Tensors, constants: Tensors, length: int, reverse: bool
) -> tuple[Tensor, ...]:
    carries: Tensors = init
    steps: list[Tensors] = []
    for t in reversed(range(length)) if reverse else range(length):
        results = tuple(body(*carries, *(x[t] for x in xs), *constants))
        carries, ys = results[: len(init)], results[len(init) :]
        steps.append(ys)
    if reverse:
        steps.reverse()
    stacked = (torch.stack(ys) for ys in zip(*steps, strict=True))
    return (*(carry.contiguous() for carry in carries), *stacked)


def _while(cond: Body, body: Body, carries: Tensors, constants: Tensors) -> tuple[Tensor, ...]:
    while cond(*carries, *constants)[0]:
        carries = tuple(body(*carries, *constants))
    return tuple(carry.contiguous() for carry in carries)


def scan_results(body: torch.fx.GraphModule, carries: int, length: int) -> tuple[Tensor, ...]:
    """Empty tensors like the results of a scan of `length` steps whose body has `carries`."""
    (output,) = body.graph.find_nodes(op="output")
    values = [node.meta["val"] for node in output.args[0]]
    leading = [()] * carries + [(length,)] * (len(values) - carries)
    return tuple(
        torch.empty((*extent, *value.shape), dtype=value.dtype, device=value.device)
        for extent, value in zip(leading, values, strict=True)
    )


def while_results(carries: Tensors) -> tuple[Tensor, ...]:
    """Empty tensors like the results of a while loop over `carries`."""
    return tuple(torch.empty(x.shape, dtype=x.dtype, device=x.device) for x in carries)


def _fake_scan(
    mode: FakeTensorMode,
    body: torch.fx.GraphModule,
    init: Tensors,
    xs: Tensors,
    constants: Tensors,
    length: int,
    reverse: bool,
) -> tuple[Tensor, ...]:
    with mode:
        return scan_results(body, len(init), length)


def _fake_while(
    mode: FakeTensorMode, cond: Body, body: Body, carries: Tensors, constants: Tensors
) -> tuple[Tensor, ...]:
    with mode:
        return while_results(carries)


scan = _define("keras_triton_scan", _scan, _fake_scan)
"""``scan(body, init, xs, constants, length, reverse) -> (*carries, *ys)``.

``body(*carries, *x_t, *constants) -> (*new_carries, *ys)`` runs `length` times, from the last step
to the first if `reverse`. Each of `xs` has a leading axis of `length`, of which step t gets the
slice t. Carries keep their shape and dtype. Results: the last carries, then each y stacked on a new
leading axis, at position t, also when `reverse`.
"""

while_loop = _define("keras_triton_while", _while, _fake_while)
"""``while_loop(cond, body, carries, constants) -> carries``.

``cond(*carries, *constants) -> (bool scalar,)``; while it holds, ``body(*carries, *constants) ->
new carries``, which keep their shapes and dtypes.
"""
