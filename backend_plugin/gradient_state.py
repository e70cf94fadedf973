"""What a captured function does to `.grad` of variables and parameters.

A Keras train step clears the gradients it makes before anybody else sees them. A free function need
not: it may add to gradients that are there, read them, clear them, or leave new ones, and all of it
shows outside. So `.grad` is state like the storage itself, with one more value: None.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch._subclasses.functional_tensor import FunctionalTensor

from .module_state import State
from .tracing import writes

Lift = Callable[[torch.Tensor], torch.Tensor]


class GradientState:
    """The gradients of the traced tensors of one capture.

    Attributes:
        present: of each state whose gradient counted, whether it had one before the call. A graph
            holds for that pattern only.
    """

    def __init__(self) -> None:
        self._values: list[tuple[State, torch.Tensor]] = []
        self._before: dict[int, torch.Tensor | None] = {}
        # Of each traced tensor whose gradient Python code touched: whether it looked first.
        self._looked: dict[int, bool] = {}

    def lift(self, state: State, value: torch.Tensor, lift: Lift) -> None:
        """Gives the traced tensor of a state the traced gradient of its storage, if there is one."""
        with torch._C.DisableTorchFunction():  # which would refuse to read it
            gradient = state._value.grad
        if gradient is not None:
            _set(value, lift(gradient))
        self._values.append((state, value))
        self._before[id(value)] = _get(value)

    def lifted(self) -> list[State]:
        """The states whose gradients became graph inputs, in order."""
        return [state for state, value in self._values if self._before[id(value)] is not None]

    def counted(self) -> list[tuple[State, bool]]:
        """The states whose gradient mattered, and whether there was one."""
        found = []
        for state, value in self._values:
            # Autograd adds to what is there without asking Python.
            if self._looked.get(id(value), self._is_changed(value)):
                found.append((state, self._before[id(value)] is not None))
        return found

    def cleared(self) -> list[State]:
        """The states that have no gradient after the call, whatever there was before."""
        return [
            state
            for state, value in self._values
            if _get(value) is None and (self._before[id(value)] is not None or self._wrote(value))
        ]

    def changed(self) -> list[tuple[State, torch.Tensor]]:
        """The states that have a new gradient after the call, and its traced value."""
        found = [(state, value, _get(value)) for state, value in self._values]
        return [(s, now) for s, value, now in found if now is not None and self._is_changed(value)]

    def _is_changed(self, value: torch.Tensor) -> bool:
        before, after = self._before[id(value)], _get(value)
        if after is not before:
            return True
        # Autograd adds in place.
        return isinstance(after, FunctionalTensor) and writes(after) > 0

    def _wrote(self, value: torch.Tensor) -> bool:
        return self._looked.get(id(value)) is False

    @contextlib.contextmanager
    def watch(self) -> Iterator[None]:
        """Notes which gradients Python code reads and writes meanwhile."""

        def read(tensor: torch.Tensor) -> torch.Tensor | None:
            self._looked.setdefault(id(tensor), True)
            return _get(tensor)

        def write(tensor: torch.Tensor, gradient: torch.Tensor | None) -> None:
            self._looked.setdefault(id(tensor), False)
            _set(tensor, gradient)

        setattr(FunctionalTensor, "grad", property(read, write))  # noqa: B010
        try:
            yield
        finally:
            delattr(FunctionalTensor, "grad")


_GRAD: Any = vars(torch._C.TensorBase)["grad"]
_get: Callable[[torch.Tensor], torch.Tensor | None] = _GRAD.__get__
_set: Callable[[torch.Tensor, torch.Tensor | None], None] = _GRAD.__set__
