"""Which Keras layer each node of a captured graph comes from.

Forward nodes are labelled exactly: while a step is traced, `Operation.__call__`, losses, metrics
and optimizers push their path, and every node created meanwhile gets that path. Backward nodes are
labelled through autograd: the sequence number of an autograd node tells when it was created, so
under which path; a hook on each autograd node switches the path before its backward runs.
"""

import bisect
import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from keras.src.backend.common.name_scope import current_path
from keras.src.layers.layer import Layer
from keras.src.losses.loss import Loss
from keras.src.metrics.metric import Metric
from keras.src.ops.operation import Operation
from keras.src.optimizers.base_optimizer import BaseOptimizer
from keras.src.trainers.trainer import BaseTrainer

from .src import ops

LAYER = "keras_layer"
GRADIENT = "/grad"
ACCUMULATION = "struct torch::autograd::AccumulateGrad"  # ends at a leaf; has no number of its own


class LayerTrack:
    """The path in force at each moment of one capture, written into `node.meta["keras_layer"]`.

    Attributes:
        failed_at: the innermost path that was in force when an exception left a layer, or "".
        called: the layers that were called, in order.
    """

    def __init__(self, root: str) -> None:
        self.failed_at = ""
        self.called: list[Layer] = []
        self._graph: torch.fx.Graph | None = None
        self._stack = [root]
        # Sequence numbers at which the path changed, ascending, and the path from there on.
        self._since: list[int] = [0]
        self._paths: list[str] = [root]

    @property
    def path(self) -> str:
        return self._stack[-1]

    def note_call(self, operation: Operation) -> None:
        """Keep `operation` in `called` if it is a layer that is not there yet."""
        if isinstance(operation, Layer) and all(operation is not layer for layer in self.called):
            self.called.append(operation)

    def watch(self, graph: torch.fx.Graph) -> None:
        """Label the nodes of `graph` from now on."""
        self._graph = graph

    def flush(self) -> None:
        """Label the nodes created since the last change of path."""
        if self._graph is None:
            return
        for node in reversed(self._graph.nodes):
            if LAYER in node.meta:
                return
            node.meta[LAYER] = self.path

    @contextlib.contextmanager
    def within(self, path: str) -> Iterator[None]:
        """Everything traced inside belongs to `path`."""
        self._change([*self._stack, path])
        try:
            yield
        except Exception:
            self.failed_at = self.failed_at or path
            raise
        finally:
            self._change(self._stack[:-1])

    @contextlib.contextmanager
    def gradients(self, roots: list[torch.Tensor]) -> Iterator[None]:
        """Everything traced inside is the backward pass of `roots`."""
        handles = []
        for grad_fn in autograd_nodes(roots):
            if grad_fn.name() == ACCUMULATION:
                continue
            at = bisect.bisect_right(self._since, grad_fn._sequence_nr()) - 1
            path = self._paths[at]
            path = path if path.endswith(GRADIENT) else path + GRADIENT
            handles.append(grad_fn.register_prehook(functools.partial(self._switch, path)))
        try:
            with self.within(self.path + GRADIENT):
                yield
        finally:
            for handle in handles:
                handle.remove()

    def _switch(self, path: str, _: Any) -> None:
        self._change([*self._stack[:-1], path])

    def _change(self, stack: list[str]) -> None:
        self.flush()
        self._stack = stack
        self._since.append(torch.autograd._get_sequence_nr())
        self._paths.append(stack[-1])


def autograd_nodes(roots: Iterable[torch.Tensor]) -> Iterator[Any]:
    """The autograd nodes that a backward pass from `roots` runs."""
    pending = [root.grad_fn for root in roots if root.grad_fn is not None]
    seen = set(pending)
    while pending:
        grad_fn = pending.pop()
        yield grad_fn
        for successor, _ in grad_fn.next_functions:
            if successor is not None and successor not in seen:
                seen.add(successor)
                pending.append(successor)


def operation_path(operation: Operation) -> str:
    """The path Keras gives a layer, or the scope it is called in and its name for a bare op."""
    path = getattr(operation, "path", None)
    if path:
        return path
    scope = current_path()
    if scope.rpartition("/")[2] == operation.name:  # a layer without variables, in its own scope
        return scope
    return f"{scope}/{operation.name}" if scope else operation.name


_tracks: list[LayerTrack] = []


def current_track() -> LayerTrack:
    """The track of the capture under way."""
    return _tracks[-1]


@contextlib.contextmanager
def track_layers(root: str) -> Iterator[LayerTrack]:
    """A `LayerTrack` fed by every Keras object called inside; patches classes meanwhile."""
    track = LayerTrack(root)

    def labelled(label: Callable[[Any], str]) -> Callable[[Callable], Callable]:
        def wrap(method: Callable) -> Callable:
            @functools.wraps(method)
            def call(self: Any, *args: Any, **kwargs: Any) -> Any:
                with track.within(label(self)):
                    return method(self, *args, **kwargs)

            return call

        return wrap

    def backward(function: Callable) -> Callable:
        @functools.wraps(function)
        def call(tensors: Any, *args: Any, **kwargs: Any) -> Any:
            roots = [tensors] if isinstance(tensors, torch.Tensor) else list(tensors)
            with track.gradients(roots):
                return function(tensors, *args, **kwargs)

        return call

    def operation(method: Callable) -> Callable:
        labelled_method = labelled(operation_path)(method)

        @functools.wraps(method)
        def call(self: Operation, *args: Any, **kwargs: Any) -> Any:
            track.note_call(self)
            return labelled_method(self, *args, **kwargs)

        return call

    with contextlib.ExitStack() as patches:
        _tracks.append(track)
        patches.callback(_tracks.pop)
        patches.enter_context(patched(Operation, "__call__", operation))
        patches.enter_context(patched(BaseTrainer, "compute_loss", labelled(lambda _: "loss")))
        patches.enter_context(patched(Loss, "__call__", labelled(lambda _: "loss")))
        patches.enter_context(patched(BaseOptimizer, "apply", labelled(lambda _: "optimizer")))
        for metric in _subclasses(Metric):
            for name in ("update_state", "result"):
                if name in vars(metric):
                    patches.enter_context(patched(metric, name, labelled(lambda _: "metrics")))
        patches.enter_context(patched(torch.autograd, "backward", backward))
        patches.enter_context(patched(torch.autograd, "grad", backward))
        yield track


@contextlib.contextmanager
def patched(owner: Any, name: str, wrap: Callable[[Callable], Callable]) -> Iterator[None]:
    """`owner.name`, its own or inherited, replaced by `wrap(owner.name)` inside."""
    inherited = name not in vars(owner)
    original = getattr(owner, name) if inherited else vars(owner)[name]
    setattr(owner, name, wrap(original))
    try:
        yield
    finally:
        if inherited:
            delattr(owner, name)
        else:
            setattr(owner, name, original)


@contextlib.contextmanager
def patched_op(name: str, wrap: Callable[[Callable], Callable]) -> Iterator[None]:
    """The op `keras.ops.<name>`, wrapped inside, where Keras's layers and its optimizers find it."""
    with patched(ops, name, wrap), patched(ops.core, name, wrap):
        yield


def _subclasses(cls: type) -> Iterator[type]:
    yield cls
    subclass: type
    for subclass in cls.__subclasses__():
        yield from _subclasses(subclass)
