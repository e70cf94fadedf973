"""What `keras_triton.jit` cannot capture runs op by op, and one warning says why."""

import warnings

import pytest
import torch
from jit_cases import close, counts, tensor
from keras import ops

import keras_triton
from keras_triton.capture_errors import CaptureError


def test_an_argument_that_is_neither_runs_op_by_op_with_one_warning():
    class Point:
        __hash__ = None
        x = 2.0

    move = keras_triton.jit(lambda x, point: x + point.x)
    with pytest.warns(
        UserWarning, match="an argument of type Point is neither a tensor nor a fixed"
    ):
        close(move(tensor(3), Point()), tensor(3) + 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        move(tensor(3), Point())
    assert counts(move) == (0, 0, 2)
    assert [error.reason for error in move.refused] == [
        "an argument of type Point is neither a tensor nor a fixed value"
    ]


def test_a_branch_on_values_runs_op_by_op_with_one_warning():
    @keras_triton.jit
    def absolute(x):
        return x if ops.sum(x) > 0 else -x

    x = tensor(3).abs()
    with pytest.warns(
        UserWarning, match=r"absolute cannot be captured: .*a tensor needs its value"
    ):
        close(absolute(-x), x)
    close(absolute(x), x)
    assert counts(absolute) == (0, 0, 2)
    (refused,) = absolute.refused
    assert refused.__traceback__ is refused.__cause__ is None
    with pytest.raises(CaptureError, match="absolute cannot be captured"):
        absolute.explain(x)


def test_writing_to_an_argument_is_refused():
    @keras_triton.jit
    def bump(x):
        x += 1
        return x

    x = torch.zeros(2)
    with pytest.warns(UserWarning, match="an argument is written in place"):
        bump(x)
    assert x.tolist() == [1.0, 1.0]


def test_writing_to_a_tensor_from_outside_is_refused():
    total = torch.zeros(2)

    @keras_triton.jit
    def add(x):
        total.add_(x)
        return total * 1

    with pytest.warns(UserWarning, match=r"cannot be captured: in step, "):
        add(torch.ones(2))
    assert total.tolist() == [1.0, 1.0]


def test_a_closed_over_tensor_that_requires_gradients_is_refused():
    loose = tensor(3, grad=True)
    scale = keras_triton.jit(lambda x: x * loose)
    with pytest.warns(UserWarning, match=r"requires gradients is used directly instead of through"):
        scale(tensor(3)).sum().backward()
    close(loose.grad, tensor(3))


def test_errors_of_the_function_itself_surface():
    @keras_triton.jit
    def fail(x):
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        fail(tensor(3))
