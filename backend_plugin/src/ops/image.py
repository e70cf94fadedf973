"""Image ops, as in Keras's torch backend."""

from keras.src.backend.torch.ops.image import *  # noqa: F403
