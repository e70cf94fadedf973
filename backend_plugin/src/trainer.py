"""`fit`, `evaluate` and `predict`: the torch backend's loops around compiled steps."""

import functools
import itertools
from collections.abc import Callable
from typing import Any

import torch
from keras.src import tree
from keras.src.backend.torch import trainer as torch_trainer
from keras.src.backend.torch.trainer import Trainer as TorchTrainer

from keras_triton.prefetch import StepBatches

from .epoch_iterator import EpochIterator

# The loops of TorchTrainer make their iterators by this name.
torch_trainer.TorchEpochIterator = EpochIterator


class Trainer(TorchTrainer):
    """The training loop of the triton backend.

    `jit_compile="auto"` compiles; with `run_eagerly=True` or `jit_compile=False` steps run op by
    op. `steps_per_execution=k` runs k steps as one program.
    """

    train_function: "StepFunction | None"
    test_function: "StepFunction | None"
    predict_function: "StepFunction | None"

    @property
    def jit_compile(self) -> bool | None:
        """What `compile` was asked for: True, False, or None for "auto"."""
        return self._jit_compile

    @jit_compile.setter
    def jit_compile(self, value: bool | None) -> None:
        self._jit_compile = value

    def _resolve_auto_jit_compile(self) -> None:
        # Keras stores what this gives, and takes a true value for the wish to use torch.compile.
        return None

    @property
    def compiles_steps(self) -> bool:
        """Whether steps are compiled. A layer's `supports_jit` says what XLA can do, so it does not
        count here: a step that cannot be captured runs op by op, with a warning that says why."""
        return self._jit_compile is not False and not self.run_eagerly

    def make_train_function(self, force: bool = False) -> None:
        if self.train_function is None or force:
            self.train_function = self._make_function(self.train_step, "train_step")

    def make_test_function(self, force: bool = False) -> None:
        if self.test_function is None or force:
            step = _without_gradients(self.test_step)
            self.test_function = self._make_function(step, "test_step")

    def make_predict_function(self, force: bool = False) -> None:
        if self.predict_function is None or force:
            step = _without_gradients(self.predict_step)
            self.predict_function = self._make_function(step, "predict_step")

    def _make_function(self, step: Callable[[Any], Any], name: str) -> "StepFunction":
        concatenates = name == "predict_step"
        join = _concatenate if concatenates else _last
        if not self.compiles_steps:
            return StepFunction(
                step, lambda *batches: join([step(batch) for batch in batches]), join
            )
        # Keras imports this module while it is being imported; capturing needs all of Keras.
        from keras_triton.compiled_step import CompiledStep
        from keras_triton.compiled_steps import CompiledSteps

        compiled = CompiledStep(self, step, name)
        return StepFunction(
            compiled, CompiledSteps(compiled, join, concatenates=concatenates), join
        )


class StepFunction:
    """What Keras's loops call: runs a list of batches and joins the results.

    Attributes:
        step: a `CompiledStep`, or the model's method when nothing is compiled.
        steps: the same for several batches; a `CompiledSteps` if steps are compiled.
    """

    def __init__(
        self,
        step: Callable[[Any], Any],
        steps: Callable[..., Any],
        join: Callable[[list[Any]], Any],
    ) -> None:
        self.step, self.steps = step, steps
        self._join = join

    def __call__(self, batches: list[Any]) -> Any:
        if self.step is not self.steps and hasattr(self.step, "batch_varies"):
            self.step.batch_varies = getattr(batches, "varies", False)
        result = self._run(batches)
        if isinstance(batches, StepBatches):
            batches.launched()
        return result

    def _run(self, batches: list[Any]) -> Any:
        if len(batches) == 1:
            return self.step(batches[0])
        # One program takes batches of one shape only: the last of an epoch may be smaller.
        runs = [list(alike) for _, alike in itertools.groupby(batches, _shapes)]
        if len(runs) == 1:
            return self.steps(*batches)
        return self._join([self._run(alike) for alike in runs])


def _shapes(batch: Any) -> list[Any]:
    return [getattr(leaf, "shape", None) for leaf in tree.flatten(batch)]


def _without_gradients(step: Callable[[Any], Any]) -> Callable[[Any], Any]:
    @functools.wraps(step)
    def run(data: Any) -> Any:
        with torch.no_grad():
            return step(data)

    return run


def _last(results: list[Any]) -> Any:
    return results[-1]


def _concatenate(results: list[Any]) -> Any:
    return tree.map_structure(lambda *parts: torch.cat(parts), *results)
