"""Updates of parameters that are alike, traced once: an optimizer mostly traces what it traced before.

A step of Adam is 26 ops for each parameter, most of a millisecond each to trace. But for the shapes they
are the same for all, so the nodes of the first are copied for the others.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import torch
from keras.src import optimizers
from keras.src.backend.common.stateless_scope import get_stateless_scope
from torch._subclasses.functional_tensor import FunctionalTensor
from torch.fx import Node

from .provenance import current_track
from .state import CaptureScope
from .tracing import assign_node, current_tracer, settled_node, untraced, writes

OWN_LISTS = ("_variables", "_trainable_variables")


def update_each(
    optimizer: Any, gradients: Sequence[Any], variables: Sequence[Any], rate: Any
) -> None:
    """`optimizer.update_step(gradient, variable, rate)` for each variable, in order."""
    scope = get_stateless_scope()
    alike = _Alike(optimizer, rate, scope) if _is_known(optimizer, scope) else None
    for gradient, variable in zip(gradients, variables, strict=True):
        if alike is None:
            optimizer.update_step(gradient, variable, rate)
        else:
            alike.update(gradient, variable)


def _is_known(optimizer: Any, scope: Any) -> bool:
    """Whether a parameter's update depends on nothing of it but its value, its gradient and what the
    optimizer keeps for it: so it is with these of Keras's own, untouched.
    """
    elementwise = (
        optimizers.Adadelta,
        optimizers.Adagrad,
        optimizers.Adam,
        optimizers.Adamax,
        optimizers.AdamW,
        optimizers.Ftrl,
        optimizers.Lion,
        optimizers.Nadam,
        optimizers.RMSprop,
        optimizers.SGD,
    )
    changed = {"update_step", "assign", "assign_add", "assign_sub"} & vars(optimizer).keys()
    return isinstance(scope, CaptureScope) and type(optimizer) in elementwise and not changed


@dataclass(frozen=True)
class _Traced:
    """The nodes of one parameter's update.

    Attributes:
        before, after: of the gradient, the parameter and what is kept for it.
        nodes: those that depend on `before`, in order.
    """

    before: Sequence[Node]
    after: Sequence[Node]
    nodes: Sequence[Node]

    @cached_property
    def serves_all_shapes(self) -> bool:
        """Whether every node computes elements of the parameter's shape from such, or from scalars."""
        shape = self.before[0].meta["val"].shape
        return len(shape) > 0 and all(
            isinstance(value := node.meta["val"], torch.Tensor)
            and value.shape == shape
            and not any(isinstance(argument, list | tuple) for argument in node.args)
            for node in (*self.before, *self.nodes)
        )

    def copied(self, before: Sequence[Node]) -> list[Node]:
        """`after` for a parameter that starts from these nodes."""
        mapping = dict(zip(self.before, before, strict=True))
        shape, made = before[0].meta["val"].shape, dict[torch.dtype, torch.Tensor]()
        for node in self.nodes:
            mapping[node] = copy = node.graph.node_copy(node, lambda n: mapping.get(n, n))
            value = node.meta["val"]
            if isinstance(value, torch.Tensor) and value.shape != shape and self.serves_all_shapes:
                if value.dtype not in made:
                    made[value.dtype] = untraced(partial(value.new_empty, shape))
                copy.meta["val"] = made[value.dtype]
        return [mapping.get(node, node) for node in self.after]


class _Alike:
    """Updates by one optimizer in one call."""

    def __init__(self, optimizer: Any, rate: Any, scope: CaptureScope) -> None:
        self.optimizer, self.rate, self.scope = optimizer, rate, scope
        self._known: dict[Hashable, _Traced] = {}
        self._kept = [
            kept
            for name, kept in vars(optimizer).items()
            if isinstance(kept, list) and name not in OWN_LISTS
        ]

    def update(self, gradient: Any, variable: Any) -> None:
        states = [variable, *self._kept_for(variable)]
        values = [gradient, *map(self.scope.get_current_value, states)]
        before = [node for node in map(settled_node, values) if node is not None]
        # In the branch of a condition, values come from outside of its graph.
        if len(before) < len(values) or any(n.graph is not current_tracer().graph for n in before):
            self.optimizer.update_step(gradient, variable, self.rate)
            return
        shapes = tuple(tuple(value.shape) for value in values)
        kinds = tuple((value.dtype, value.device) for value in values)
        same = tuple(map(before.index, before))
        any_shape = (kinds, same, len(set(shapes)) == 1 and shapes[0] != ())
        traced = self._known.get(any_shape) or self._known.get((any_shape, shapes))
        if traced is None:
            traced = self._trace(values, before, gradient, variable)
            if traced is not None:
                serves = traced.serves_all_shapes
                self._known[any_shape if serves else (any_shape, shapes)] = traced
            return
        for value, old, new in zip(values, before, traced.copied(before), strict=True):
            if new is not old:
                assign_node(value, new)

    def _kept_for(self, variable: Any) -> Iterator[Any]:
        """The optimizer's own variables for a parameter."""
        index = self.optimizer._get_variable_index(variable)
        count = len(self.optimizer._trainable_variables)
        for kept in self._kept:
            if len(kept) == count and hasattr(kept[index], "assign"):
                yield kept[index]

    def _trace(
        self, values: Sequence[torch.Tensor], before: Sequence[Node], gradient: Any, variable: Any
    ) -> _Traced | None:
        """Traces an update; None if it wrote to a state that others have, too."""
        own = set(map(id, values))
        counts = self._writes(own)
        last: Node = current_tracer().graph._root.prev
        self.optimizer.update_step(gradient, variable, self.rate)
        after = [node for node in map(settled_node, values) if node is not None]
        current_track().flush()
        if any(count != counts.get(other, 0) for other, count in self._writes(own).items()):
            return None
        found, depending = [], set(before)
        while (last := last.next).op != "root":
            if not depending.isdisjoint(last.all_input_nodes):
                depending.add(last)
                found.append(last)
        return _Traced(before, after, found)

    def _writes(self, own: set[int]) -> dict[int, int]:
        """How often each state but `own` was written to."""
        return {
            id(state): writes(state)
            for state in self.scope.values()
            if isinstance(state, FunctionalTensor) and id(state) not in own
        }
