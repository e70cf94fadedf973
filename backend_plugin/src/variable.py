"""Variables: torch parameters, or traced tensors that a ``StatelessScope`` puts in their place."""

from keras.src.backend.torch.ops.core import Variable

__all__ = ["Variable"]
