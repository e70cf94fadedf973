"""The base of every optimizer: Keras's own update, a pure function for each variable.

Keras's torch backend groups variables into ``torch._foreach_*`` calls, which write in place. Here
the compiler merges the updates of all variables instead.
"""

from typing import Any

import torch
from keras.src.optimizers.base_optimizer import BaseOptimizer


class BackendOptimizer(BaseOptimizer):
    """Updates variables outside of torch's gradient tape."""

    @torch.no_grad()
    def apply(self, grads: Any, trainable_variables: Any = None) -> Any:
        """Update the variables by their gradients (Keras's ``Optimizer.apply``)."""
        return super().apply(grads, trainable_variables)

    def _backend_update_step(
        self, grads: Any, trainable_variables: Any, learning_rate: Any
    ) -> None:
        # Keras defines its optimizers upon this class.
        from keras_triton.alike_updates import update_each

        update_each(self, grads, trainable_variables, learning_rate)
