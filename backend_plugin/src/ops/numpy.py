"""NumPy's functions on torch tensors: Keras's for torch, with sizes that Python knows where it can."""

from keras.src.backend.torch.ops.numpy import *  # noqa: F403

from .sizes import bincount, repeat, size  # noqa: F401
