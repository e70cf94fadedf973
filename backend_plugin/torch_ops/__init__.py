"""Operators that the backend adds to torch: ``torch.ops.keras_triton.*``.

They are what Keras's ops call where plain torch would hide the meaning from the compiler: one node
in a traced graph stands for one convolution, pooling, loss, attention or random draw. The eager
implementations here are composed of torch ops for any device; the compiler replaces them.
"""

from .attention import attention, attention_grad
from .barrier import barrier
from .binomial import random_binomial
from .conv import conv2d, conv2d_input_grad, conv2d_kernel_grad
from .ctc import ctc_loss, ctc_loss_grad
from .loss import cross_entropy, cross_entropy_grad
from .pool import avg_pool2d, avg_pool2d_grad, max_pool2d, max_pool2d_grad
from .random import dropout, random_bits, random_uniform
from .recurrent import gru_layer, gru_layer_grad, lstm_layer, lstm_layer_grad

__all__ = [
    "attention",
    "attention_grad",
    "avg_pool2d",
    "avg_pool2d_grad",
    "barrier",
    "conv2d",
    "conv2d_input_grad",
    "conv2d_kernel_grad",
    "cross_entropy",
    "cross_entropy_grad",
    "ctc_loss",
    "ctc_loss_grad",
    "dropout",
    "gru_layer",
    "gru_layer_grad",
    "lstm_layer",
    "lstm_layer_grad",
    "max_pool2d",
    "max_pool2d_grad",
    "random_binomial",
    "random_bits",
    "random_uniform",
]
