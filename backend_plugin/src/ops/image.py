"""Image ops, as in Keras's torch backend."""

from keras.src.backend.torch.image import *  # noqa: F403
