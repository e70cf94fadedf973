"""The base of every Keras layer: a ``torch.nn.Module`` too."""

from keras.src.backend.common.stateless_scope import in_stateless_scope
from keras.src.backend.torch.layer import TorchLayer


class BackendLayer(TorchLayer):
    """Lets layers be used in torch code, and steps be captured.

    While a step is captured, variables hold traced tensors: those must not become parameters.
    """

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget gradients; captured steps compute them as values and keep none."""
        if not in_stateless_scope():
            super().zero_grad(set_to_none)
