"""NumPy's functions on torch tensors, as in Keras's torch backend."""

from keras.src.backend.torch.ops.numpy import *  # noqa: F403
