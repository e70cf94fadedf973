"""Several steps of a Keras model in one call, as one compiled program."""

from collections.abc import Callable
from typing import Any

import torch

from .capture_errors import CaptureError
from .captured import Captured
from .compiled_function import CompiledFunction
from .compiled_step import CompiledStep
from .repeated import repeated
from .signature import Arguments
from .symbolic_size import Axes


class CompiledSteps(CompiledFunction):
    """`steps(batch, batch, ...)`: `step` on each batch in turn, and the results joined.

    Batches that are alike run as one program, which waits for the device once. Others, and a step
    that cannot be captured, run by a call of `step` each, which says why.

    Args:
        join: the result of a list of results: the last one, or all concatenated.
        concatenates: which of the two.
    """

    free = False
    opens_sizes = False

    def __init__(
        self, step: CompiledStep, join: Callable[[list[Any]], Any], *, concatenates: bool
    ) -> None:
        super().__init__(
            lambda *batches: join([step(batch) for batch in batches]),
            f"several {step.name}s",
            layer=step.model,
            compile_fn=step.compile_fn,
        )
        self.step, self.concatenates = step, concatenates

    def owner(self) -> object:
        return self.step.owner()

    def capture(self, arguments: Arguments, axes: Axes | None = None) -> Captured:
        (batches, _) = arguments.structure()
        first, *others = map(self.step.sign, batches)
        if any(other.key != first.key for other in others):
            raise CaptureError(self.name, self.step.name, "the batches differ in shape or dtype")
        return repeated(self.step.capture(first), len(batches), concatenate=self.concatenates)

    def data(self, arguments: Arguments) -> list[torch.Tensor]:
        """Each tensor of the batches with those at its place in the other batches, stacked."""
        count = len(arguments.structure()[0])
        places = len(arguments.tensors) // count
        return [torch.stack(arguments.tensors[place::places]) for place in range(places)]

    def _is_built(self) -> bool:
        return self.step._is_built()

    def _refuse(self, error: CaptureError) -> None:
        self.refused.append(error)

    def _op_by_op(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return self.fn(*args, **kwargs)
