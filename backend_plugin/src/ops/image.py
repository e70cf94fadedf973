"""Image ops: Keras's for torch, with a blur that can be captured."""

from keras.src.backend.torch.ops.image import *  # noqa: F403

from .blur import gaussian_blur  # noqa: F401
