"""Mathematical ops: Keras's for torch, with reductions of segments that can be captured."""

from keras.src.backend.torch.ops.math import *  # noqa: F403

# keras.ops.polar asks for this one by its private name.
from keras.src.backend.torch.ops.math import _get_complex_tensor_from_tuple  # noqa: F401

from .segments import segment_max, segment_min, segment_prod, segment_sum  # noqa: F401
