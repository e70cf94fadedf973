"""Mathematical ops, as in Keras's torch backend."""

from keras.src.backend.torch.math import *  # noqa: F403

# keras.ops.polar asks for this one by its private name.
from keras.src.backend.torch.math import _get_complex_tensor_from_tuple  # noqa: F401
