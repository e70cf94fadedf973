"""A compiled step or function with the state it reads and writes. Calling it is the hot path."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch

from keras_triton.lowering.edits import in_force, under

from .captured import Backward, Captured

Program = Callable[[list[torch.Tensor]], list[torch.Tensor]]
Compile = Callable[[Captured], Program]


# What a program depends on of each storage; shapes never change, and all are on one device.
_KIND = operator.attrgetter("_value.requires_grad", "_value.dtype")


class BoundProgram:
    """A compiled program with its variables, parameters and buffers.

    Attributes:
        captured: what it was compiled from.
        number, used: when it was made and when it last ran, in captures and calls of its function.
    """

    def __init__(self, captured: Captured, compile_fn: Compile, owner: object = None) -> None:
        self.captured, self._owner = captured, owner
        self.number = self.used = 0
        self._program = compile_fn(captured)
        self._states = captured.states_of("state")
        self._gradients = captured.states_of("gradient")
        self._constants = [spec.tensor for spec in captured.inputs if spec.tensor is not None]
        kinds = [spec.kind for spec in captured.outputs]
        self._results = kinds.count("result")
        self._first_gradient = self._results + kinds.count("saved")
        self._first_state = len(kinds) - kinds.count("state")
        self._new_gradients = captured.new_states_of("gradient")
        position = {id(state): i for i, state in enumerate(self._states)}
        self._written = [position[id(state)] for state in captured.new_states_of("state")]
        self._backward: BackwardProgram | None = None
        if captured.backward is not None:
            count = len(captured.inputs)
            self._backward = BackwardProgram(captured.backward, count, compile_fn)
        self._remember_surroundings()

    def _remember_surroundings(self) -> None:
        around = self.captured.surroundings
        self._layers = [layer for layer, _ in around.trainable]
        self._trainable = [flag for _, flag in around.trainable]
        self._modules = [module for module, _ in around.modes]
        self._modes = [mode for _, mode in around.modes]
        self._graded = [state for state, _ in around.gradients]
        self._had_gradient = [flag for _, flag in around.gradients]
        self._kinds = list(map(_KIND, self._states))
        self._device = self._states[0]._value.device if self._states else None

    def fits(self, owner: object = None) -> bool:
        """Whether a capture of now would give this program again."""
        return (
            owner is self._owner
            and [layer._trainable for layer in self._layers] == self._trainable
            and [module.training for module in self._modules] == self._modes
            and [state._value.grad is not None for state in self._graded] == self._had_gradient
            and list(map(_KIND, self._states)) == self._kinds
            and (not self._states or self._states[0]._value.device == self._device)
        )

    def serves(self, size: int | None) -> bool:
        """Whether it is for any size, this one among them."""
        left_open = self.captured.size
        return left_open is not None and size is not None and left_open.holds(size)

    def __call__(self, tensors: list[torch.Tensor]) -> Any:
        """Run on the data tensors; new states are in the variables afterwards."""
        inputs: list[Any] = [
            *tensors,
            *(state._value for state in self._states),
            *(state._value.grad for state in self._gradients),
            *self._constants,
        ]
        if self._backward is None:
            results = self.run(inputs)[: self._results]
        else:
            results = list(_Differentiable.apply(self, *inputs))
        return self.captured.result.build(results)

    def run(self, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
        """Results and saved tensors, from the tensors of all inputs; commits the new state."""
        # A program takes contiguous memory; `contiguous` gives the same object where it already is.
        with torch.no_grad():
            outputs = self._program([tensor.contiguous() for tensor in inputs])
            for i, new in zip(self._written, outputs[self._first_state :], strict=True):
                storage = self._states[i]._value
                if new is not storage:
                    storage.copy_(new)
            for state in self.captured.cleared:
                state._value.grad = None
            new_gradients = outputs[self._first_gradient : self._first_state]
            for state, gradient in zip(self._new_gradients, new_gradients, strict=True):
                state._value.grad = gradient
        return outputs[: self._first_gradient]


class BackwardProgram:
    """The backward pass of a bound program; compiled when it is first asked for."""

    def __init__(self, backward: Backward, inputs: int, compile_fn: Compile) -> None:
        self.backward, self._inputs, self._compile = backward, inputs, compile_fn
        # Both passes of a program are compiled by the same passes, whenever that is.
        self._edits = in_force()
        self._program: Program | None = None

    def save(self, inputs: list[torch.Tensor], outputs: list[torch.Tensor]) -> list[torch.Tensor]:
        """What the backward pass reads, from the inputs and outputs of the forward one."""
        places = {"input": inputs, "output": outputs}
        return [places[kind][position] for kind, position in self.backward.saved]

    def __call__(
        self, saved: list[torch.Tensor], tangents: list[torch.Tensor]
    ) -> list[torch.Tensor | None]:
        """A gradient for each input of the forward graph, None where it has none."""
        if self._program is None:
            with under(self._edits):
                self._program = self._compile(self.backward.captured)
        found = self._program([tensor.contiguous() for tensor in (*saved, *tangents)])
        gradients: list[torch.Tensor | None] = [None] * self._inputs
        for position, gradient in zip(self.backward.inputs, found, strict=True):
            gradients[position] = gradient
        return gradients


class _Differentiable(torch.autograd.Function):
    """A bound program in torch's autograd graph."""

    @staticmethod
    def forward(ctx: Any, bound: BoundProgram, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        program = bound._backward
        assert program is not None, "nothing to differentiate"
        outputs = bound.run(list(inputs))
        results = outputs[: bound._results]
        ctx.program = program
        ctx.save_for_backward(*program.save(list(inputs), outputs))
        differentiable = set(program.backward.results)
        ctx.mark_non_differentiable(
            *(result for i, result in enumerate(results) if i not in differentiable)
        )
        return tuple(results)

    @staticmethod
    def backward(ctx: Any, *tangents: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        program: BackwardProgram = ctx.program
        if torch.is_grad_enabled():
            name = program.backward.captured.name
            raise RuntimeError(
                f"{name} cannot be differentiated again (create_graph=True): take gradients of "
                "gradients inside of the compiled function"
            )
        wanted = [tangents[i] for i in program.backward.results]
        return None, *program(list(ctx.saved_tensors), wanted)
