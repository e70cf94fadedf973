"""Linear algebra, as in Keras's torch backend."""

from keras.src.backend.torch.linalg import *  # noqa: F403
