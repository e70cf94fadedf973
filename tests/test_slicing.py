"""Slices, updates and elements at places that only tensors know, eager and captured."""

import itertools

import numpy as np
import pytest
import torch
from keras import layers, ops

from keras_triton.capture import capture
from keras_triton.capture_errors import CaptureError

X = np.arange(60.0, dtype="float32").reshape(3, 4, 5)


def eager_and_captured(function, *values):
    """The result of `function` on tensors run as it is and as a captured graph; both must agree."""
    tensors = [torch.as_tensor(value) for value in values]
    captured = capture(function, tuple(tensors), name="function")
    constants = [spec.tensor for spec in captured.inputs if spec.kind == "constant"]
    replayed = captured.result.build(captured.graph(*tensors, *constants))
    eager = function(*tensors)
    torch.testing.assert_close(replayed, eager, rtol=0, atol=0)
    return eager.numpy()


@pytest.mark.parametrize("start", [0, 2, 3, -2, 9], ids=lambda start: f"start={start}")
@pytest.mark.parametrize("length", [1, 2, 4])
def test_slice(start, length):
    result = eager_and_captured(
        lambda x, i: ops.slice(x, [1, i, 0], [2, length, 5]), X, np.int32(start)
    )
    first = np.clip(start + 4 if start < 0 else start, 0, 4 - length)
    np.testing.assert_array_equal(result, X[1:3, first : first + length])


def test_slice_at_a_vector():
    result = eager_and_captured(lambda x, at: ops.slice(x, at, [1, 2, 3]), X, np.array([2, 1, 2]))
    np.testing.assert_array_equal(result, X[2:3, 1:3, 2:5])


@pytest.mark.parametrize("start", [0, 2, 3, -2, 9], ids=lambda start: f"start={start}")
@pytest.mark.parametrize("length", [1, 2, 4])
def test_slice_update(start, length):
    updates = -X[:2, :length, :]
    result = eager_and_captured(
        lambda x, i, new: ops.slice_update(x, [1, i, 0], new), X, np.int32(start), updates
    )
    first = np.clip(start + 4 if start < 0 else start, 0, 4 - length)
    expected = X.copy()
    expected[1:3, first : first + length] = updates
    np.testing.assert_array_equal(result, expected)


def test_slice_update_gradients():
    x, new = torch.as_tensor(X).requires_grad_(), torch.ones(3, 2, 5, requires_grad=True)
    ops.slice_update(x, [0, torch.tensor(1), 0], new).sum().backward()
    assert new.grad.eq(1).all()
    np.testing.assert_array_equal(x.grad[0, :, 0], [1, 0, 0, 1])


INDICES = {
    "one": lambda i: i,
    "last": lambda i: (Ellipsis, i),
    "middle": lambda i: (slice(None), i),
    "negative": lambda i: (slice(None), i - 3),
    "several": lambda i: (i, slice(1, 3), i),
    "new axis": lambda i: (None, i, None, slice(None)),
    "beside numbers": lambda i: (0, i, slice(None, None, 2)),
}


@pytest.mark.parametrize("index", INDICES.values(), ids=INDICES)
def test_element_at_a_tensor(index):
    result = eager_and_captured(lambda x, i: x[index(i)], X, np.int64(2))
    np.testing.assert_array_equal(result, X[index(2)])


def test_a_window_that_lies_inside_is_selected():
    def window(x, i):
        top = i.clamp(0, 1)
        left = (3 * i / 4).clamp(0, 2.9).to(torch.int32)
        return x[:, top : top + 3, left : left + 3]

    for start in (-4, 0, 1, 9):
        eager_and_captured(window, X, np.int64(start))


def test_a_window_that_may_lie_outside_is_refused():
    def window(x, i):
        top = i.clamp(0, 2)
        return x[:, top : top + 3]

    with pytest.raises(CaptureError, match="a tensor needs its value"):
        eager_and_captured(window, X, np.int64(1))


def test_a_random_crop_is_captured():
    crop = layers.RandomCrop(5, 4, seed=3)
    images = torch.rand(2, 9, 8, 3)
    found = capture(lambda x: crop(x, training=True), (images,), name="function")
    assert found.result is not None


def test_masks_and_lists_stay_indices():
    keep = np.array([True, False, True])
    for key in itertools.permutations((torch.tensor([0, 2]), slice(None)), 2):
        eager_and_captured(lambda x, key=key: x[key] * 1, X)
    result = eager_and_captured(lambda x, i: x[:, i][torch.tensor([0, 2])], X, np.int64(1))
    np.testing.assert_array_equal(result, X[keep, 1])
