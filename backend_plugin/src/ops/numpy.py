"""NumPy's functions on torch tensors: Keras's for torch, with sizes that Python knows where it can and
padding that fuses."""

from keras.src.backend.torch.ops.numpy import *  # noqa: F403

from .padding import pad  # noqa: F401
from .sizes import bincount, repeat, size  # noqa: F401
