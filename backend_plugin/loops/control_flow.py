"""Keras's loops while a step is captured: scan, while_loop, fori_loop, and recurrent layers.

What cannot be a loop is unrolled, with a warning; its graph then grows with the number of steps.
"""

import contextlib
import functools
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from keras.src import tree
from keras.src.backend.common.stateless_scope import get_stateless_scope
from keras.src.backend.torch.ops.core import convert_to_tensor, get_device
from keras.src.layers.layer import Layer
from keras.src.layers.rnn.dropout_rnn_cell import DropoutRNNCell

from ..capture_errors import LoopError, first_cause, reason_for
from ..provenance import current_track, patched, patched_op
from ..src import recurrence
from ..state import CaptureScope
from .cudnn import traced_cudnn
from .region import LoopScope
from .scan import recur
from .step import Previous
from .while_loop import repeat

DROPOUT_MASKS = ("_dropout_mask", "_recurrent_dropout_mask")
SHORTEST = 2  # steps; a shorter loop is its body


@contextlib.contextmanager
def traced_loops() -> Iterator[None]:
    """Loops inside become nodes of the graph under trace."""
    with (
        patched(recurrence, "recur", functools.partial(_in_capture, traced_recur)),
        patched_op("scan", functools.partial(_in_capture, traced_scan)),
        patched_op("while_loop", functools.partial(_in_capture, traced_while)),
        patched_op("fori_loop", functools.partial(_in_capture, traced_fori)),
        patched(Layer, "add_loss", _deferred_loss),
        _own_dropout_masks(),
        traced_cudnn(),
    ):
        yield


def _in_capture(traced: Callable, original: Callable) -> Callable:
    """`traced(scope, original, ...)` while a step is captured, except for inferring shapes."""

    @functools.wraps(original)
    def choose(*args: Any, **kwargs: Any) -> Any:
        scope = get_stateless_scope()
        if isinstance(scope, CaptureScope) and str(get_device()) != "meta":
            return traced(scope, original, *args, **kwargs)
        return original(*args, **kwargs)

    return choose


def _deferred_loss(original: Callable) -> Callable:
    """A loss that a layer adds in each step of a loop is added up after the loop."""

    @functools.wraps(original)
    def add_loss(layer: Layer, loss: Any) -> None:
        scope = get_stateless_scope()
        if isinstance(scope, LoopScope):
            scope.layer_losses += [(layer, part) for part in tree.flatten(loss)]
        else:
            original(layer, loss)

    return add_loss


@contextlib.contextmanager
def _own_dropout_masks() -> Iterator[None]:
    """Recurrent cells keep masks for the steps of a batch; none that is traced stays behind when the
    trace ends, or fails before the layer forgets it."""
    cells: list[tuple[DropoutRNNCell, dict[str, Any]]] = []

    def noting(original: Callable) -> Callable:
        @functools.wraps(original)
        def create(cell: DropoutRNNCell, *args: Any, **kwargs: Any) -> Any:
            cells.append((cell, {name: getattr(cell, name, None) for name in DROPOUT_MASKS}))
            return original(cell, *args, **kwargs)

        return create

    with patched(DropoutRNNCell, "_create_dropout_mask", noting):
        try:
            yield
        finally:
            for cell, masks in reversed(cells):
                for name, mask in masks.items():
                    setattr(cell, name, mask)


def traced_recur(
    scope: CaptureScope,
    original: Callable,
    step: Callable,
    states: Sequence[torch.Tensor],
    xs: Sequence[torch.Tensor],
    length: int,
    *,
    reverse: bool = False,
    keep_all: bool = True,
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """`src.recurrence.recur` as a scan."""
    options = {"reverse": reverse, "keep_all": keep_all}
    unrolled = functools.partial(original, step, states, xs, length, **options)
    if length < SHORTEST:
        return unrolled()
    return _or_unrolled(lambda: recur(scope, step, states, xs, length, **options), unrolled)


def traced_scan(
    scope: CaptureScope,
    original: Callable,
    f: Callable,
    init: Any,
    xs: Any = None,
    length: int | None = None,
    reverse: bool = False,
    unroll: int | bool = 1,
) -> tuple[Any, Any]:
    """`ops.scan` as a scan."""
    unrolled = functools.partial(original, f, init, xs, length, reverse, unroll)
    stacked = [] if xs is None else [convert_to_tensor(x) for x in tree.flatten(xs)]
    if not callable(f) or unroll is True or (length is None and not stacked):
        return unrolled()
    count = stacked[0].shape[0] if length is None else int(length)
    if count < SHORTEST:
        return unrolled()
    shapes: dict[str, Any] = {}

    def step(states: list, slices: list, previous: Previous) -> tuple[list, list]:
        x = None if xs is None else tree.pack_sequence_as(xs, slices)
        carry, y = f(tree.pack_sequence_as(init, states), x)
        y = [torch.zeros_like(state) for state in states] if y is None else y
        shapes["y"] = y
        tree.assert_same_structure(init, carry)
        return _tensors(y), _tensors(carry)

    def looped() -> tuple[Any, Any]:
        states, ys = recur(
            scope, step, _tensors(init), stacked, count, reverse=reverse, keep_all=True
        )
        return tree.pack_sequence_as(init, states), tree.pack_sequence_as(shapes["y"], ys)

    return _or_unrolled(looped, unrolled)


def traced_fori(
    scope: CaptureScope,
    original: Callable,
    lower: Any,
    upper: Any,
    body_fun: Callable,
    init_val: Any,
) -> Any:
    """`ops.fori_loop`: a scan between numbers, a while loop between tensors."""
    bounds = (lower, upper)
    if any(isinstance(bound, torch.Tensor) for bound in bounds):
        first, last = (convert_to_tensor(bound) for bound in bounds)
        _, *result = traced_while(
            scope,
            original,
            lambda i, value: i < last,
            lambda i, value: (i + 1, body_fun(i, value)),
            (first, init_val),
        )
        return result[0]
    unrolled = functools.partial(original, lower, upper, body_fun, init_val)
    if upper - lower < SHORTEST:
        return unrolled()

    def step(states: list, slices: list, previous: Previous) -> tuple[list, list]:
        value = body_fun(slices[0], tree.pack_sequence_as(init_val, states))
        tree.assert_same_structure(init_val, value)
        return [], _tensors(value)

    def looped() -> Any:
        numbers = torch.arange(lower, upper, dtype=torch.int32, device=get_device())
        states, _ = recur(
            scope,
            step,
            _tensors(init_val),
            [numbers],
            upper - lower,
            reverse=False,
            keep_all=False,
        )
        return tree.pack_sequence_as(init_val, states)

    return _or_unrolled(looped, unrolled)


def traced_while(
    scope: CaptureScope,
    original: Callable,
    cond: Callable,
    body: Callable,
    loop_vars: Any,
    maximum_iterations: int | None = None,
) -> Any:
    """`ops.while_loop` as a while loop, which has no gradient."""
    is_tuple = isinstance(loop_vars, tuple | list)
    structure = tuple(loop_vars) if is_tuple else (loop_vars,)
    states = _tensors(structure)
    if maximum_iterations is not None:
        states.append(torch.zeros((), dtype=torch.int64, device=get_device()))
    count = len(tree.flatten(structure))

    def goes_on(values: list[torch.Tensor]) -> torch.Tensor:
        again = cond(*tree.pack_sequence_as(structure, values[:count]))
        again = convert_to_tensor(again).to(torch.bool).reshape(())
        return again if maximum_iterations is None else again & (values[count] < maximum_iterations)

    def advance(values: list[torch.Tensor]) -> list[torch.Tensor]:
        new = body(*tree.pack_sequence_as(structure, values[:count]))
        new = tuple(new) if isinstance(new, list | tuple) else (new,)
        tree.assert_same_structure(structure, new)
        return [*_tensors(new), *(number + 1 for number in values[count:])]

    result = tree.pack_sequence_as(structure, repeat(scope, goes_on, advance, states)[:count])
    return result if is_tuple else result[0]


def _tensors(structure: Any) -> list[torch.Tensor]:
    return [convert_to_tensor(leaf) for leaf in tree.flatten(structure)]


def _or_unrolled(looped: Callable[[], Any], unrolled: Callable[[], Any]) -> Any:
    """The loop, or what it does step by step if it cannot be one."""
    try:
        return looped()
    except Exception as error:  # whatever a step function raises on tensors it cannot look into
        cause = first_cause(error)
        if isinstance(cause, LoopError) and not cause.unrolled:
            raise
    result = unrolled()
    warnings.warn(
        f"The loop in {current_track().path} is unrolled, so its graph grows with the number of its "
        f"steps: {reason_for(cause)}.",
        stacklevel=2,
    )
    return result
