"""keras-hub's `generate`, compiled: the loop over tokens is one captured step with the rest.

keras-hub compiles it under TensorFlow and JAX only; for torch tensors it wraps the step in
``no_grad``. The loader calls `compile_generation` on its classes that generate.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import torch


class GenerateFunction:
    """What a task calls in place of its `generate_step`, with the same arguments.

    Attributes:
        step: a `CompiledStep`, captured once for each shape of the inputs.
    """

    def __init__(self, task: Any) -> None:
        from keras_triton.compiled_step import CompiledStep

        @torch.no_grad()
        def generate_step(arguments: tuple[Any, ...]) -> Any:
            return task.generate_step(*arguments)

        self._signature = inspect.signature(task.generate_step)
        self.step = CompiledStep(task, generate_step, "generate_step")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        arguments = self._signature.bind(*args, **kwargs).args
        return self.step(tuple(_without_counts(argument) for argument in arguments))


def _without_counts(argument: Any) -> Any:
    """A number of diffusion steps as Python's number again: their schedule, of that length, is kept
    in an attribute of a layer, so another number is another program.
    """
    is_count = isinstance(argument, torch.Tensor) and not (
        argument.ndim or argument.is_floating_point()
    )
    return int(argument) if is_count else argument


def compile_generation(task_class: Any) -> None:
    """Have tasks of this class generate compiled, under the conditions for compiling their steps."""

    def with_compiled_step(original: Callable[[Any], Callable]) -> Callable[[Any], Callable]:
        @functools.wraps(original)
        def make_generate_function(task: Any) -> Callable:
            if task.generate_function is None and task.compiles_steps:
                task.generate_function = GenerateFunction(task)
            return original(task)

        return make_generate_function

    task_class.make_generate_function = with_compiled_step(task_class.make_generate_function)
