"""Whole LSTM and GRU layers by the library behind torch: cuDNN on a GPU.

The gradient runs the layer again: what cuDNN keeps for it has a size only cuDNN knows, and a graph
captured without running anything needs every size.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .define import define

LSTM = "Tensor x, Tensor h, Tensor c, Tensor kernel, Tensor recurrent_kernel, Tensor bias"
GRU = "Tensor x, Tensor h, Tensor kernel, Tensor recurrent_kernel, Tensor bias"


def _run_lstm(
    x: Tensor, h: Tensor, c: Tensor, kernel: Tensor, recurrent_kernel: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    weights = [kernel.T.contiguous(), recurrent_kernel.T.contiguous(), bias, torch.zeros_like(bias)]
    y, h, c = torch._VF.lstm(x, (h[None], c[None]), weights, *_options())
    return y, h[0], c[0]


def _run_gru(
    x: Tensor, h: Tensor, kernel: Tensor, recurrent_kernel: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor]:
    weights = [_reset_gate_first(gates).T.contiguous() for gates in (kernel, recurrent_kernel)]
    weights += _reset_gate_first(bias).unbind(0)
    y, h = torch._VF.gru(x, h[None], weights, *_options())
    return y, h[0]


def _reset_gate_first(weights: Tensor) -> Tensor:
    """Keras has the update gate first; any weights [..., 3 units]."""
    z, r, candidate = weights.chunk(3, -1)
    return torch.cat([r, z, candidate], -1)


def _options() -> tuple[Any, ...]:
    """Biases, layers, dropout, training, bidirectional, batch first."""
    return True, 1, 0.0, torch.is_grad_enabled(), False, True


def _fake(x: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
    *states, _, recurrent_kernel, _ = rest
    y = x.new_empty((*x.shape[:2], recurrent_kernel.shape[0]))
    return y, *(state.new_empty(state.shape) for state in states)


def _save(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*inputs)


def _gradient(run: Callable[..., Sequence[Tensor]], count: int) -> Callable[..., Any]:
    """The gradients by all inputs of `run`, whose `count` outputs have the first gradients."""

    def gradient(*tensors: Tensor) -> tuple[Tensor, ...]:
        with torch.enable_grad():
            inputs = [tensor.detach().requires_grad_() for tensor in tensors[count:]]
            return torch.autograd.grad(run(*inputs), inputs, tensors[:count])

    return gradient


def _fake_gradient(count: int) -> Callable[..., Any]:
    return lambda *tensors: tuple(x.new_empty(x.shape) for x in tensors[count:])


lstm_layer = define(
    f"lstm_layer({LSTM}) -> (Tensor y, Tensor h_n, Tensor c_n)",
    _fake,
    lambda ctx, *gradients: lstm_layer_grad(*gradients, *ctx.saved_tensors),
    _save,
)(_run_lstm)
"""An LSTM with tanh and sigmoid over x [batch, time, features] from the states h, c [batch, units].

kernel [features, 4 units], recurrent_kernel [units, 4 units], bias [4 units]: gates in Keras's
order. y [batch, time, units] holds h after every step; h_n, c_n are the last states.
"""

lstm_layer_grad: Any = define(
    f"lstm_layer_grad(Tensor gy, Tensor gh, Tensor gc, {LSTM}) -> (Tensor dx, Tensor dh, Tensor dc, "
    "Tensor dkernel, Tensor drecurrent_kernel, Tensor dbias)",
    _fake_gradient(3),
)(_gradient(_run_lstm, 3))
"""Gradients by the inputs of `lstm_layer`, from those by its results."""

gru_layer = define(
    f"gru_layer({GRU}) -> (Tensor y, Tensor h_n)",
    _fake,
    lambda ctx, *gradients: gru_layer_grad(*gradients, *ctx.saved_tensors),
    _save,
)(_run_gru)
"""A GRU with tanh and sigmoid that resets after the product; as `lstm_layer`, with 3 gates and a
bias [2, 3 units] for the inputs and the state."""

gru_layer_grad: Any = define(
    f"gru_layer_grad(Tensor gy, Tensor gh, {GRU}) -> (Tensor dx, Tensor dh, Tensor dkernel, "
    "Tensor drecurrent_kernel, Tensor dbias)",
    _fake_gradient(2),
)(_gradient(_run_gru, 2))
"""Gradients by the inputs of `gru_layer`, from those by its results."""
