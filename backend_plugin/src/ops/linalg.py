"""Linear algebra, as in Keras's torch backend."""

from keras.src.backend.torch.ops.linalg import *  # noqa: F403
