"""LSTM and GRU layers that cuDNN computes, in a captured step: one op each.

Torch's own functions for them look into the memory of weights, which a trace does not have.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from keras.src import backend
from keras.src.backend.torch.ops.core import convert_to_tensor

from .. import torch_ops
from ..provenance import patched
from ..src import rnn

# Keras 3.15 takes recurrent layers from the backend, 3.16 from its module.
LAYERS_COME_FROM = backend if hasattr(backend, "bidirectional_lstm") else rnn
# Last output, outputs, last states: what Keras's functions for whole layers give.
Layer = tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]


@contextlib.contextmanager
def traced_cudnn() -> Iterator[None]:
    """Layers that fit cuDNN become ops of this package; bidirectional ones two of them."""
    with (
        patched(rnn, "lstm_by_cudnn", lambda original: lstm),
        patched(rnn, "gru_by_cudnn", lambda original: gru),
        patched(LAYERS_COME_FROM, "bidirectional_lstm", _one_by_one),
        patched(LAYERS_COME_FROM, "bidirectional_gru", _one_by_one),
    ):
        yield


def _one_by_one(original: Callable) -> Callable:
    @functools.wraps(original)
    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError  # which makes Keras run a layer for each direction

    return refuse


def lstm(
    inputs: torch.Tensor,
    initial_state_h: Any,
    initial_state_c: Any,
    mask: None,
    kernel: Any,
    recurrent_kernel: Any,
    bias: Any,
    activation: Callable,
    recurrent_activation: Callable,
    return_sequences: bool,
    go_backwards: bool,
    unroll: bool,
    batch_first: bool,
) -> Layer:
    """`keras.src.backend.torch.rnn.lstm` on what `rnn.fits_cudnn` accepts."""
    x = inputs if batch_first else inputs.transpose(0, 1)
    states = [initial_state_h, initial_state_c]
    last, outputs, states = _layer(
        torch_ops.lstm_layer,
        x,
        states,
        [kernel, recurrent_kernel, bias],
        return_sequences,
        go_backwards,
    )
    return last, outputs if batch_first else outputs.transpose(0, 1), states


def gru(
    inputs: torch.Tensor,
    initial_state: Any,
    mask: None,
    kernel: Any,
    recurrent_kernel: Any,
    bias: Any,
    activation: Callable,
    recurrent_activation: Callable,
    return_sequences: bool,
    go_backwards: bool,
    unroll: bool,
    reset_after: bool,
) -> Layer:
    """`keras.src.backend.torch.rnn.gru` on what `rnn.fits_cudnn` accepts."""
    weights = [kernel, recurrent_kernel, bias]
    return _layer(
        torch_ops.gru_layer, inputs, [initial_state], weights, return_sequences, go_backwards
    )


def _layer(
    op: Callable[..., tuple[torch.Tensor, ...]],
    inputs: torch.Tensor,
    states: Sequence[Any],
    weights: Sequence[Any],
    return_sequences: bool,
    go_backwards: bool,
) -> Layer:
    weights = [convert_to_tensor(weight) for weight in weights]
    dtype = weights[0].dtype
    x = inputs.to(dtype)
    x = x.flip(1) if go_backwards else x
    y, *states = op(x, *(convert_to_tensor(state).to(dtype) for state in states), *weights)
    return states[0], y if return_sequences else states[0].unsqueeze(1), states
