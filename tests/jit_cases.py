"""Variables and tensors for jitted functions, and how their results are compared."""

import keras
import numpy as np
import torch


def weight(*shape, trainable=True):
    value = np.random.default_rng(0).normal(size=shape).astype("float32")
    return keras.Variable(value, trainable=trainable, name="w")


def tensor(*shape, seed=0, grad=False):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator).requires_grad_(grad)


def counts(function):
    return tuple(vars(function.counts).values())


def close(got, want):
    # The same roundings in another order.
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-6)
