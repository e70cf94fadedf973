"""A step of a Keras model that is captured and compiled once per input signature."""

from collections.abc import Callable
from typing import Any

from .bound_program import Compile
from .compiled_function import CompiledFunction
from .signature import Arguments, sign


class CompiledStep(CompiledFunction):
    """`step(data)` of a model, compiled.

    A new shape, dtype or structure of `data`, another optimizer, or other trainable layers capture
    anew. A step that cannot be captured runs op by op, after one warning that names the layer and
    the op.
    """

    free = False

    def __init__(
        self,
        model: Any,
        step: Callable[[Any], Any],
        name: str,
        compile_fn: Compile | None = None,
    ) -> None:
        super().__init__(step, name, layer=model, compile_fn=compile_fn)
        self.model = model

    def sign(self, data: Any) -> Arguments:
        """The signature of a call with `data`.

        Raises:
            NotExpressible: as `sign` does.
        """
        return sign(((data,), {}), static_objects=self.free, differentiable=self.free)

    def owner(self) -> object:
        return self.model.optimizer if self.model.compiled else None
