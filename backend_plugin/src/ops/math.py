"""Mathematical ops, as in Keras's torch backend."""

from keras.src.backend.torch.math import *  # noqa: F403
