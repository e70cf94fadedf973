"""Recurrent loops, and the LSTM and GRU that multiply all inputs before their loop.

Keras's functions for torch keep the part that hands a layer to cuDNN; what else they do step by step
in Python is a `recurrence` here, which is one loop node in a captured step.
"""

import functools

import torch
from keras.src import tree
from keras.src.backend.torch.ops.core import convert_to_tensor
from keras.src.backend.torch.rnn import (  # noqa: F401
    bidirectional_gru,
    bidirectional_lstm,
    cudnn_ok,
)

# A captured step has one op each in place of these.
from keras.src.backend.torch.rnn import gru as gru_by_cudnn
from keras.src.backend.torch.rnn import lstm as lstm_by_cudnn

from . import recurrence
from .recurrence import recur as recur_step_by_step


def rnn(
    step_function,
    inputs,
    initial_states,
    go_backwards=False,
    mask=None,
    constants=None,
    unroll=False,
    input_length=None,
    time_major=False,
    zero_output_for_mask=False,
    return_all_outputs=True,
):
    """Iterate `step_function(inputs of a step, states + constants) -> (output, new states)`.

    Args:
        inputs: nested tensors [batch, time, ...], or [time, batch, ...] if `time_major`.
        initial_states: list of nested tensors.
        go_backwards: from the last time step to the first; outputs come in the order of the steps.
        mask: bool [batch, time] or [batch, time, 1] (time first if `time_major`). A step that is
            masked for a sequence leaves its states as they are, and gives its last output again, or
            zeros if `zero_output_for_mask`.
        constants: list of tensors for every step.
        unroll: in a captured step, a copy of the graph for each time step.
        input_length: number of time steps to take, or a tensor [batch] of them, which masks the
            rest as `mask` does.
        return_all_outputs: outputs of all time steps, or of the last one.

    Returns:
        The last output, all outputs [batch, time, ...] (time 1 if not `return_all_outputs`; time
        first if `time_major`), the last states.

    Raises:
        ValueError: there is no time step.
    """
    xs = [x if time_major else x.transpose(0, 1) for x in tree.flatten(inputs)]
    length = xs[0].shape[0]
    if mask is not None:
        mask = mask.to(torch.bool)
        mask = mask if time_major else mask.transpose(0, 1)
    elif isinstance(input_length, (torch.Tensor, list, tuple)):
        lengths = convert_to_tensor(input_length)
        mask = torch.arange(length, device=lengths.device).unsqueeze(1) < lengths
    elif input_length is not None and input_length < length:
        xs = [x[length - input_length :] if go_backwards else x[:input_length] for x in xs]
        length = input_length
    if length == 0:
        raise ValueError("A recurrent layer needs at least one time step, but its input has none.")
    structure = {}

    def step(states, slices, previous):
        mask_t = slices.pop() if mask is not None else None
        x = tree.pack_sequence_as(inputs, slices)
        packed = tree.pack_sequence_as(initial_states, states)
        output, new_states = step_function(x, (*packed, *(constants or ())))
        structure["output"] = output
        outputs, new_states = tree.flatten(output), tree.flatten(new_states)
        if mask_t is not None:
            old = (
                torch.zeros_like(y) if zero_output_for_mask else previous(k, y)
                for k, y in enumerate(outputs)
            )
            outputs = [_where(mask_t, y, before) for y, before in zip(outputs, old, strict=True)]
            new_states = [
                _where(mask_t, new, state) for new, state in zip(new_states, states, strict=True)
            ]
        return outputs, new_states

    run = recur_step_by_step if unroll else recurrence.recur
    states, outputs = run(
        step,
        tree.flatten(initial_states),
        xs if mask is None else [*xs, mask],
        length,
        reverse=go_backwards,
        keep_all=return_all_outputs,
    )
    last, outputs = _results(
        outputs, structure["output"], go_backwards, time_major, return_all_outputs
    )
    return last, outputs, tuple(tree.pack_sequence_as(initial_states, states))


def _where(mask, new, old):
    """`new` where the mask [batch] or [batch, 1] holds."""
    return torch.where(mask.reshape(mask.shape[0], *[1] * (new.ndim - 1)), new, old)


def _results(outputs, structure, go_backwards, time_major, return_all_outputs):
    """The last output and all outputs, from those along time or, of the last step only, from it."""
    pack = functools.partial(tree.pack_sequence_as, structure)
    axis = 0 if time_major else 1
    if not return_all_outputs:
        return pack(outputs), pack([y.unsqueeze(axis) for y in outputs])
    last = [y[0] if go_backwards else y[-1] for y in outputs]
    outputs = [y if time_major else y.transpose(0, 1) for y in outputs]
    return pack(last), pack([y.flip(axis) if go_backwards else y for y in outputs])


def lstm(
    inputs,
    initial_state_h,
    initial_state_c,
    mask,
    kernel,
    recurrent_kernel,
    bias,
    activation,
    recurrent_activation,
    return_sequences=False,
    go_backwards=False,
    unroll=False,
    batch_first=True,
):
    """Keras's LSTM layer: by cuDNN where that can, else one product of all inputs and a recurrence.

    Raises:
        NotImplementedError: there is a mask; Keras takes `rnn` then.
    """
    if mask is not None:
        raise NotImplementedError
    states = [_copied(initial_state_h), _copied(initial_state_c)]
    if fits_cudnn(inputs, activation, recurrent_activation, unroll, bias):
        return lstm_by_cudnn(
            inputs,
            *states,
            mask,
            kernel,
            recurrent_kernel,
            bias,
            activation,
            recurrent_activation,
            return_sequences,
            go_backwards,
            unroll,
            batch_first,
        )
    kernel, recurrent_kernel = convert_to_tensor(kernel), convert_to_tensor(recurrent_kernel)
    x = _projected(inputs, kernel, None if bias is None else convert_to_tensor(bias), batch_first)

    def step(x_t, states):
        h, c = states
        i, f, candidate, o = torch.chunk(x_t + torch.matmul(h, recurrent_kernel), 4, dim=1)
        c = recurrent_activation(f) * c + recurrent_activation(i) * activation(candidate)
        h = recurrent_activation(o) * activation(c)
        return h, [h, c]

    states = [state.to(kernel.dtype) for state in states]
    return _recurrent_layer(step, x, states, return_sequences, go_backwards, unroll, batch_first)


def gru(
    inputs,
    initial_state,
    mask,
    kernel,
    recurrent_kernel,
    bias,
    activation,
    recurrent_activation,
    return_sequences=False,
    go_backwards=False,
    unroll=False,
    reset_after=True,
):
    """Keras's GRU layer, as `lstm`.

    Raises:
        NotImplementedError: there is a mask, or gates are reset before the product.
    """
    if mask is not None or not reset_after:
        raise NotImplementedError
    state = _copied(initial_state)
    if fits_cudnn(inputs, activation, recurrent_activation, unroll, bias):
        return gru_by_cudnn(
            inputs,
            state,
            mask,
            kernel,
            recurrent_kernel,
            bias,
            activation,
            recurrent_activation,
            return_sequences,
            go_backwards,
            unroll,
            reset_after,
        )
    kernel, recurrent_kernel = convert_to_tensor(kernel), convert_to_tensor(recurrent_kernel)
    input_bias, recurrent_bias = (None, None) if bias is None else convert_to_tensor(bias).unbind(0)
    x = _projected(inputs, kernel, input_bias, True)

    def step(x_t, states):
        (h,) = states
        product = torch.matmul(h, recurrent_kernel)
        if recurrent_bias is not None:
            product = product + recurrent_bias
        x_z, x_r, x_h = torch.chunk(x_t, 3, dim=1)
        h_z, h_r, h_h = torch.chunk(product, 3, dim=1)
        z, r = recurrent_activation(x_z + h_z), recurrent_activation(x_r + h_r)
        h = z * h + (1.0 - z) * activation(x_h + r * h_h)
        return h, [h]

    states = [state.to(kernel.dtype)]
    return _recurrent_layer(step, x, states, return_sequences, go_backwards, unroll, True)


def fits_cudnn(inputs, activation, recurrent_activation, unroll, bias):
    """Whether cuDNN computes an LSTM or GRU layer, with these activations, on `inputs`."""
    return (
        isinstance(inputs, torch.Tensor)
        and inputs.device.type == "cuda"
        and not torch.jit.is_tracing()
        and not torch.compiler.is_compiling()
        and cudnn_ok(activation, recurrent_activation, unroll, use_bias=bias is not None)
    )


def _copied(state):
    """A stateful layer writes to its variables before autograd has read what it saved of them."""
    return convert_to_tensor(state).clone()


def _projected(inputs, kernel, bias, batch_first):
    """inputs · kernel + bias for every time step, [time, batch, ...]."""
    x = convert_to_tensor(inputs).to(kernel.dtype)
    x = torch.matmul(x.transpose(0, 1) if batch_first else x, kernel)
    return x if bias is None else x + bias


def _recurrent_layer(step, x, states, return_sequences, go_backwards, unroll, batch_first):
    """A layer whose output is its first state, over x [time, batch, ...]."""
    _, outputs, states = rnn(
        step,
        x,
        states,
        go_backwards=go_backwards,
        unroll=unroll,
        time_major=True,
        return_all_outputs=return_sequences,
    )
    return states[0], outputs.transpose(0, 1) if batch_first else outputs, list(states)
