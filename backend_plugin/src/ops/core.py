"""Tensors, variables, control flow and shape inference, as in Keras's torch backend."""

from keras.src.backend.torch.core import *  # noqa: F403
