"""Recurrent loops, as in Keras's torch backend."""

from keras.src.backend.torch.rnn import *  # noqa: F403
