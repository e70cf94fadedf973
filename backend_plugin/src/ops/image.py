"""Image ops: Keras's for torch, with a blur that can be captured and whole batches moved at once."""

from keras.src.backend.torch.ops.image import *  # noqa: F403

from .blur import gaussian_blur  # noqa: F401
from .warp import affine_transform, perspective_transform  # noqa: F401
