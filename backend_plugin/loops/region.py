"""The part of a trace that becomes the body of a loop.

One step of the loop is traced in place, in the graph of the whole Keras step, on *stand-ins*:
inputs made on the spot for what differs from step to step. The nodes that depend on a stand-in are
the body and move out later (`outline`); all others stay where they are, computed once before the
loop. Autograd ends at the stand-ins too: a tensor from outside that requires gradients is swapped
for a leaf of the region as soon as the step function touches it.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch._subclasses.functional_tensor import FunctionalTensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map_only

from ..capture_errors import LoopError
from ..module_state import State
from ..state import CaptureScope
from ..tracing import current_tracer, known_node, node_of, traced_input, writes

INSIDE = "keras_inside_loop"  # in the meta of the inputs of regions, and of nodes that moved out

WRITTEN = "a tensor made outside of the loop is written to in place"


@dataclasses.dataclass(frozen=True)
class StandIn:
    """An input of the region. The step function computes with `value`; its gradient is that of
    `leaf`."""

    node: torch.fx.Node
    leaf: torch.Tensor
    value: torch.Tensor


@dataclasses.dataclass(frozen=True)
class Part:
    """Something a step computes with, and what stands for it inside the region."""

    inside: StandIn


@dataclasses.dataclass(frozen=True)
class Closure(Part):
    """A tensor from outside the region, or the value of `variable`, and what stands for it inside.

    `outer` is dense in row-major order; `node` computes it, before all that the region traces with
    `inside`.
    """

    outer: torch.Tensor
    node: torch.fx.Node
    variable: State | None = None

    @property
    def written(self) -> bool:
        """Whether the step function changed it."""
        return known_node(self.inside.leaf) is not self.inside.node


class LoopScope(CaptureScope):
    """Variables inside a region: reads give stand-ins, writes stay inside.

    Attributes:
        layer_losses: what layers added by `add_loss`, with the layer.
        cleared: the storages, by identity, that have no gradient as a step begins.
    """

    def __init__(self, lift: Callable[[State], torch.Tensor]) -> None:
        super().__init__(lift)
        self.layer_losses: list[tuple[Any, torch.Tensor]] = []
        self.cleared: set[int] = set()

    def clear_gradient(self, state: State) -> None:
        if self.get_current_value(state).grad is None:
            self.cleared.add(id(state._value))
        super().clear_gradient(state)


class Region:
    """See the module. Everything between its creation and the end of `tracing` belongs to it."""

    def __init__(self, outer: CaptureScope) -> None:
        self.outer = outer
        self.graph: torch.fx.Graph = current_tracer().graph
        self.first_autograd_node = torch.autograd._get_sequence_nr()
        self.scope = LoopScope(self._lift_variable)
        self._start = next(iter(reversed(self.graph.nodes)))
        self._mode = _Swap(self)
        # By the identity of the tensor from outside, which is kept alive beside.
        self._closures: dict[int, tuple[torch.Tensor, Closure]] = {}
        self._variables: list[Closure] = []

    @contextlib.contextmanager
    def tracing(self) -> Iterator[None]:
        """What is traced inside sees stand-ins for closed-over tensors and variables."""
        keep = torch.autograd.graph.saved_tensors_hooks(_same, _same)  # no checkpoint sees a step
        with self._mode, self.scope, keep:
            yield

    @property
    def closures(self) -> list[Closure]:
        """What the step function closes over and takes gradients, and all variables it touched."""
        return [*self._variables, *(closure for _, closure in self._closures.values())]

    def stand_in(
        self, like: torch.Tensor, *, differentiable: bool = False, slice_of: bool = False
    ) -> StandIn:
        """A new input, dense, with the dtype and shape of `like`, or of a slice along its first axis.

        A differentiable one is handed out as a copy: step functions may write to it in place.
        """
        shape = like.shape[1:] if slice_of else like.shape
        dtype, device = like.dtype, like.device
        leaf, node = traced_input("loop", lambda: torch.empty(shape, dtype=dtype, device=device))
        node.meta[INSIDE] = True
        if not differentiable or not (leaf.is_floating_point() or leaf.is_complex()):
            return StandIn(node, leaf, leaf)
        leaf.requires_grad_()
        return StandIn(node, leaf, leaf.clone())

    def nodes(self) -> Iterator[torch.fx.Node]:
        """The nodes traced since the region began."""
        node = self._start.next
        while node.op != "root":
            yield node
            node = node.next

    def contains(self, tensor: torch.Tensor) -> bool:
        """Whether `tensor` was made inside."""
        node = known_node(tensor)
        if node is None or not node > self._start:
            return False
        return node.op != "placeholder" or INSIDE in node.meta

    def inside(self, tensor: torch.Tensor) -> torch.Tensor:
        """What the step function gets when it names `tensor`."""
        if id(tensor) in self._closures:
            return self._closures[id(tensor)][1].inside.value
        with torch._C.DisableTorchFunction():
            wrapped = torch._C._functorch.is_functorch_wrapped_tensor(tensor)
            if not tensor.requires_grad or wrapped or self.contains(tensor):
                return tensor
        closure = self._closure(tensor, None)
        self._closures[id(tensor)] = tensor, closure
        return closure.inside.value

    def _lift_variable(self, variable: State) -> torch.Tensor:
        with self._mode.paused():
            closure = self._closure(self.outer.get_current_value(variable), variable)
        self._variables.append(closure)
        return closure.inside.value

    def _closure(self, tensor: torch.Tensor, variable: State | None) -> Closure:
        with self._mode.paused():
            outer = tensor.contiguous()
            node = node_of(outer)
        stand_in = self.stand_in(outer)
        if tensor.requires_grad:
            stand_in.leaf.requires_grad_()
        return Closure(stand_in, outer, node, variable)


def find_leak(graph: torch.fx.Graph) -> torch.fx.Node | None:
    """Drops what regions leave behind: their inputs, and the nodes that moved into bodies. Gives a
    node from outside that reads one, if there is any."""
    graph.eliminate_dead_code()
    for node in reversed(list(graph.nodes)):
        if INSIDE in node.meta and not node.users:
            graph.erase_node(node)
    left = [user for node in graph.nodes if INSIDE in node.meta for user in node.users]
    return next((user for user in left if INSIDE not in user.meta), None)


class _Swap(TorchFunctionMode):
    """Calls of torch inside a region, with tensors from outside swapped for what stands for them.

    Raises:
        LoopError: a tensor from outside is written to. The loop would start each step from its old
            value.
    """

    def __init__(self, region: Region) -> None:
        super().__init__()
        self._region = region
        self._paused = False

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        before, self._paused = self._paused, True
        try:
            yield
        finally:
            self._paused = before

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if self._paused:
            return func(*args, **kwargs)
        watched: list[tuple[FunctionalTensor, int]] = []

        def swap(tensor: torch.Tensor) -> torch.Tensor:
            inner = self._region.inside(tensor)
            is_same = inner is tensor and not self._region.contains(tensor)
            if is_same and isinstance(tensor, FunctionalTensor):
                watched.append((tensor, writes(tensor)))
            return inner

        args, kwargs = tree_map_only(torch.Tensor, swap, (args, kwargs))
        result = func(*args, **kwargs)
        if any(writes(tensor) != count for tensor, count in watched):
            raise LoopError(WRITTEN, unrolled=False)
        return result


def _same(tensor: torch.Tensor) -> torch.Tensor:
    return tensor
