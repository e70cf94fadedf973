"""A Keras step that is captured and compiled once per input signature, then only called."""

import warnings
from collections.abc import Callable, Hashable
from typing import Any

import numpy as np
import torch
from keras.src import backend
from keras.src.backend import Variable
from keras.src.backend.common.stateless_scope import in_stateless_scope

from .capture import Captured, ResultTree, capture, flatten
from .capture_errors import CaptureError
from .journal import new_counts, record_refusal

Program = Callable[[list[torch.Tensor]], list[torch.Tensor]]
Compile = Callable[[Captured], Program]

# A step that creates variables is tried again after it ran op by op, at most this often.
ATTEMPTS = 3


def default_compile(captured: Captured) -> Program:
    """Compile for the device the data is on, through every stage of the compiler."""
    from .compile import compile_captured

    return compile_captured(captured)


class CompiledStep:
    """`step(data)`, compiled.

    A new shape, dtype or structure of `data`, another optimizer, or another set of trainable
    variables captures anew. A step that cannot be captured runs op by op, after one warning that
    names the layer and the op.

    Attributes:
        counts: how the calls ran.
        captured: the captured graphs, newest last.
        refused: the errors of the signatures that run op by op.
    """

    def __init__(
        self,
        model: Any,
        step: Callable[[Any], Any],
        name: str,
        compile_fn: Compile | None = None,
    ) -> None:
        self.model, self.step, self.name = model, step, name
        self.counts = new_counts()
        self.captured: list[Captured] = []
        self.refused: list[CaptureError] = []
        self._compile = compile_fn or default_compile
        self._programs: dict[Hashable, BoundProgram | None] = {}
        self._attempts: dict[Hashable, int] = {}

    def __call__(self, data: Any) -> Any:
        # Loaders yield lists or tuples of the same parts; one program serves both.
        leaves, spec = flatten((tuple(data) if type(data) is list else data,))
        signature, tensors = self._signature(leaves)
        if signature is None or in_stateless_scope():
            return self._op_by_op(data)
        key = (spec, *signature)
        program = self._programs.get(key)
        outdated = program is not None and not program.fits(self.model)
        if outdated or key not in self._programs:
            args: Any = spec.unflatten(_with_tensors(leaves, tensors))
            program = self._prepare(key, args)
        if program is None:
            return self._op_by_op(data)
        self.counts.compiled += 1
        return program(tensors)

    def _signature(self, leaves: list[Any]) -> tuple[list[Hashable] | None, list[torch.Tensor]]:
        """What a program depends on, and the tensors it takes. None: not expressible."""
        device_type = str(backend.core.get_device()).partition(":")[0]
        signature: list[Hashable] = []
        tensors: list[torch.Tensor] = []
        for leaf in leaves:
            if isinstance(leaf, np.ndarray | np.generic):
                if leaf.dtype.kind not in "biufc":
                    return None, []
                leaf = backend.convert_to_tensor(leaf)
            if isinstance(leaf, torch.Tensor):
                if leaf.device.type != device_type:
                    leaf = leaf.to(device_type, non_blocking=True)
                tensors.append(leaf if leaf.is_contiguous() else leaf.contiguous())
                signature += (leaf.shape, leaf.dtype)
            elif leaf is None or isinstance(leaf, bool | int | float | str):
                kind: type = type(leaf)
                signature += (kind, leaf)
            else:
                return None, []
        return signature, tensors

    def _prepare(self, key: Hashable, args: tuple[Any, ...]) -> "BoundProgram | None":
        """Capture and compile for a new signature; None and a warning when that is impossible."""
        first = self.counts.op_by_op == 0
        if first and not all(layer.built for layer in self.model._flatten_layers()):
            # This call creates the variables; the next one captures. A layer that is not built
            # then is one that no step calls.
            return None
        try:
            captured = capture(self.step, args, name=self.name)
        except CaptureError as error:
            self._refuse(key, error)
            return None
        self.counts.captures += 1
        self.captured.append(captured)
        program = BoundProgram(captured, self._compile(captured), self.model)
        self._programs[key] = program
        return program

    def _refuse(self, key: Hashable, error: CaptureError) -> None:
        self._attempts[key] = self._attempts.get(key, 0) + 1
        if error.transient and self._attempts[key] < ATTEMPTS:
            return
        self._programs[key] = None
        if not self.refused:
            warnings.warn(f"{error} It runs op by op instead.", stacklevel=4)
        self.refused.append(error)
        record_refusal(error)

    def _op_by_op(self, data: Any) -> Any:
        self.counts.op_by_op += 1
        return self.step(data)


class BoundProgram:
    """A compiled program with the variables it reads and writes. Calling it is the hot path."""

    def __init__(self, captured: Captured, program: Program, model: Any) -> None:
        states = [spec for spec in captured.inputs if spec.kind == "state"]
        position = {id(spec.variable): i for i, spec in enumerate(states)}
        self._program = program
        self._variables: list[Variable] = [spec.variable for spec in states]
        # Layers too: a frozen BatchNormalization computes differently, with or without variables.
        self._flagged = [*self._variables, *model._flatten_layers()]
        self._trainable = [owner._trainable for owner in self._flagged]
        self._optimizer = model.optimizer if model.compiled else None
        self._constants = [spec.tensor for spec in captured.inputs if spec.tensor is not None]
        self._result: ResultTree = captured.result
        new_states = [spec for spec in captured.outputs if spec.kind == "state"]
        self._result_count = len(captured.outputs) - len(new_states)
        self._written = [position[id(spec.variable)] for spec in new_states]

    def fits(self, model: Any) -> bool:
        """Whether the program still is what the model would capture."""
        optimizer = model.optimizer if model.compiled else None
        return optimizer is self._optimizer and self._trainable == [
            owner._trainable for owner in self._flagged
        ]

    def __call__(self, tensors: list[torch.Tensor]) -> Any:
        """Run on the data tensors; new states are in the variables afterwards."""
        storages = [variable._value for variable in self._variables]
        # A program takes contiguous memory; `contiguous` gives the same object where it already is.
        states = [storage.contiguous() for storage in storages]
        constants = [constant.contiguous() for constant in self._constants]
        with torch.no_grad():
            outputs = self._program([*tensors, *states, *constants])
            count = self._result_count
            for position, new in zip(self._written, outputs[count:], strict=True):
                storage = storages[position]
                if new is not storage:
                    storage.copy_(new)
        return self._result.build(outputs[:count])


def _with_tensors(leaves: list[Any], tensors: list[torch.Tensor]) -> list[Any]:
    """`leaves` with arrays and tensors replaced by `tensors`, in order."""
    replacements = iter(tensors)
    kinds = (torch.Tensor, np.ndarray, np.generic)
    return [next(replacements) if isinstance(leaf, kinds) else leaf for leaf in leaves]
