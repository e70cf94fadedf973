"""Defining an operator of the ``keras_triton`` namespace with torch, in one place."""

import functools
from collections.abc import Callable
from typing import Any

import torch

NAMESPACE = "keras_triton"


def _owned(result: Any) -> Any:
    """The same memory, contiguous, in tensors that torch does not count as views.

    Permuting a fresh NCHW tensor makes a view of it, and torch refuses ``+=`` on such a result.
    """
    if isinstance(result, tuple):
        return tuple(map(_owned, result))
    return torch.ops.aten._unsafe_view(result.contiguous(), result.shape)


def define(
    schema: str,
    fake: Callable[..., Any],
    backward: Callable[..., Any] | None = None,
    save: Callable[..., Any] | None = None,
) -> Callable[[Callable[..., Any]], Any]:
    """Decorator that turns an eager implementation into ``torch.ops.keras_triton.<name>``.

    schema: ``name(arguments) -> results``. fake: the same call on shapes and dtypes only.
    backward(ctx, *output_gradients) and save(ctx, inputs, output): the gradient; it calls other
    ops of this namespace, so that a traced step shows one node forward and one backward.
    Operators must not write to their arguments nor return them or views of them; what they return
    is made contiguous here.

    Keras forgets and reloads this package in ``set_backend``; torch keeps its operators, and
    refuses to define one twice, so the first definition stays.
    """
    name, signature = schema.split("(", 1)
    qualified = f"{NAMESPACE}::{name}"

    def register(eager: Callable[..., Any]) -> Any:
        @functools.wraps(eager)
        def run(*args: Any) -> Any:
            return _owned(eager(*args))

        if not hasattr(getattr(torch.ops, NAMESPACE), name):
            torch.library.define(qualified, f"({signature}", tags=torch.Tag.pt2_compliant_tag)
            torch.library.impl(qualified, "default", run)
            torch.library.register_fake(qualified, fake)
            if backward is not None:
                torch.library.register_autograd(qualified, backward, setup_context=save)
        return getattr(getattr(torch.ops, NAMESPACE), name).default

    return register
