"""The base of every Keras layer: a ``torch.nn.Module`` too, as in Keras's torch backend."""

from keras.src.backend.torch.layer import TorchLayer as BackendLayer

__all__ = ["BackendLayer"]
