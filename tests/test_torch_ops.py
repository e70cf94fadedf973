"""The backend's torch operators: values, gradients, shapes, and how they look in a trace."""

import importlib
import math

import keras  # noqa: F401  (selects the backend, so that torch is set up as in use)
import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from keras_triton import torch_ops

WORD = 0xFFFFFFFF
CONVOLUTIONS = [
    # kernel, strides, pads, dilations, groups, filters
    ((3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 1, 5),
    ((3, 2), (2, 1), (0, 1, 1, 2), (1, 1), 1, 5),
    ((2, 3), (1, 2), (0, 0, 0, 0), (2, 1), 2, 6),
    ((3, 3), (2, 2), (0, 1, 0, 1), (1, 1), 4, 8),
]
POOLINGS = [
    # window, strides, pads
    ((2, 2), (2, 2), (0, 0, 0, 0)),
    ((3, 2), (2, 2), (1, 1, 1, 1)),
    ((3, 3), (1, 1), (1, 1, 1, 1)),
    ((2, 4), (1, 3), (0, 1, 1, 2)),
]


def leaf(*shape):
    return torch.randn(shape, dtype=torch.float64).requires_grad_()


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def agree(ours, theirs, leaves):
    """Both give the same value, first and (mixed) second derivatives."""
    torch.testing.assert_close(ours, theirs)
    weights = torch.randn_like(ours)
    first = [torch.autograd.grad(y, leaves, weights, create_graph=True) for y in (ours, theirs)]
    torch.testing.assert_close(*first)
    sums = [sum((g * g.sin()).sum() for g in gradients) for gradients in first]
    if not all(total.requires_grad for total in sums):
        return
    torch.testing.assert_close(
        *(torch.autograd.grad(s, leaves, allow_unused=True, materialize_grads=True) for s in sums)
    )


def convolve(x, w, strides, pads, dilations, groups):
    padded = torch.nn.functional.pad(x.permute(0, 3, 1, 2), (*pads[2:], *pads[:2]))
    kernel = w.permute(3, 2, 0, 1).contiguous()
    y = torch.nn.functional.conv2d(padded, kernel, None, strides, 0, dilations, groups)
    return y.permute(0, 2, 3, 1)


@pytest.mark.parametrize(("kernel", "strides", "pads", "dilations", "groups", "f"), CONVOLUTIONS)
def test_conv2d(kernel, strides, pads, dilations, groups, f):
    x, w = leaf(2, 9, 10, 4), leaf(*kernel, 4 // groups, f)
    window = (strides, pads, dilations, groups)
    agree(torch_ops.conv2d(x, w, *window), convolve(x, w, *window), [x, w])


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_conv2d_of_one_filter_has_gradients(batch, dtype):
    # For what its libraries leave to it, torch is particular about the memory order of a kernel.
    x = torch.randn(batch, 8, 8, 3, dtype=dtype, requires_grad=True)
    w = torch.randn(3, 3, 3, 1, dtype=dtype, requires_grad=True)
    window = ((1, 1), (1, 1, 1, 1), (1, 1), 1)
    sums = [f(x, w, *window).sum() for f in (torch_ops.conv2d, convolve)]
    torch.testing.assert_close(*(torch.autograd.grad(total, (x, w)) for total in sums))


def windows(x, window, strides, pads, fill):
    padded = torch.nn.functional.pad(x, (0, 0, *pads[2:], *pads[:2]), value=fill)
    return padded.unfold(1, window[0], strides[0]).unfold(2, window[1], strides[1]).flatten(-2)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_max_pool2d(pooling):
    x = leaf(2, 9, 10, 3)
    y, index = torch_ops.max_pool2d(x, *pooling)
    expected, place = windows(x, *pooling, -math.inf).max(-1)
    agree(y, expected, [x])
    assert index.dtype == torch.int32
    torch.testing.assert_close(index.long(), place)


def test_max_pool2d_names_the_first_maximum_and_keeps_nan():
    x = torch.tensor([[1.0, 7.0, 7.0, 2.0], [7.0, 0.0, math.nan, 9.0]]).reshape(1, 2, 4, 1)
    y, index = torch_ops.max_pool2d(x, (2, 2), (2, 2), (0, 0, 0, 0))
    assert y[0, 0, 0, 0] == 7
    assert y[0, 0, 1, 0].isnan()
    assert index.flatten().tolist() == [1, 2]
    g = torch_ops.max_pool2d_grad(torch.ones_like(y), index, x.shape, (2, 2), (2, 2), (0, 0, 0, 0))
    assert g.flatten().tolist() == [0, 1, 0, 0, 0, 0, 1, 0]


@pytest.mark.parametrize("pooling", POOLINGS)
def test_avg_pool2d_does_not_count_padding(pooling):
    x = leaf(2, 9, 10, 3)
    count = windows(torch.ones_like(x), *pooling, 0.0).sum(-1)
    agree(torch_ops.avg_pool2d(x, *pooling), windows(x, *pooling, 0.0).sum(-1) / count, [x])


@pytest.mark.parametrize("shape", [(1, 1), (5, 7), (3, 130)])
def test_cross_entropy(shape):
    logits, target = leaf(*shape), torch.randint(0, shape[1], shape[:1])
    loss, lse = torch_ops.cross_entropy(logits, target)
    agree(loss, torch.nn.functional.cross_entropy(logits, target, reduction="none"), [logits])
    torch.testing.assert_close(lse, logits.logsumexp(-1).detach())
    assert not lse.requires_grad


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("learnt", [False, True])
@pytest.mark.parametrize("bias_shape", [None, (2, 3, 5, 6), (2, 1, 5, 6), (1, 1, 1, 6), (6,)])
@pytest.mark.parametrize("width", [4, 7])
def test_attention(causal, learnt, bias_shape, width):
    q, k, v = leaf(2, 5, 3, 4), leaf(2, 6, 3, 4), leaf(2, 6, 3, width)
    bias = None if bias_shape is None else leaf(*bias_shape).requires_grad_(learnt)
    o, lse = torch_ops.attention(q, k, v, bias, 0.3, causal)
    scores = torch.einsum("bihd,bjhd->bhij", q, k) * 0.3 + (0 if bias is None else bias)
    if causal:
        scores = scores.masked_fill(~torch.ones(5, 6, dtype=torch.bool).tril(), -math.inf)
    expected = torch.einsum("bhij,bjhd->bihd", scores.softmax(-1), v)
    torch.testing.assert_close(o, expected)
    # lse is float32 whatever the inputs are.
    torch.testing.assert_close(lse, scores.logsumexp(-1).float())
    leaves = [q, k, v, bias] if bias is not None and learnt else [q, k, v]
    g = torch.randn_like(o)
    gradients = [torch.autograd.grad(y, leaves, g) for y in (o, expected)]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("bias_shape", [None, (2, 3, 5, 5), (5,)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attention_on_torchs_kernel_equals_the_composition(causal, bias_shape, dtype, monkeypatch):
    inputs = [leaf(2, 5, 3, 4).detach().to(dtype).requires_grad_() for _ in range(3)]
    bias = None if bias_shape is None else leaf(*bias_shape).detach().to(dtype)
    g = leaf(2, 5, 3, 4).detach().to(dtype)
    results = []
    for fits in (True, False):
        if not fits:
            module = importlib.import_module("keras_triton.torch_ops.attention")
            monkeypatch.setattr(module, "_fits_torch", lambda *_: False)
        o, lse = torch_ops.attention(*inputs, bias, 0.5, causal)
        results.append((o, lse, *torch.autograd.grad(o, inputs, g)))
    # bfloat16 keeps 8 bits, and the two round the probabilities at different places.
    tolerance = {} if dtype == torch.float32 else {"rtol": 3e-2, "atol": 3e-2}
    torch.testing.assert_close(*results, **tolerance)


def test_attention_rows_masked_throughout_are_uniform():
    q, k, v = (torch.randn(1, 3, 1, 4, requires_grad=True) for _ in range(3))
    bias = torch.full((3, 3), -2.3e38, requires_grad=True)
    o, _ = torch_ops.attention(q, k, v, bias, 1.0, False)
    torch.testing.assert_close(o, v.mean(1, keepdim=True).expand_as(v))
    dv = torch.autograd.grad(o.sum(), v)[0]
    torch.testing.assert_close(dv, torch.ones_like(v))


def test_attention_has_no_second_derivative():
    q, k, v = (leaf(1, 3, 1, 4) for _ in range(3))
    o, _ = torch_ops.attention(q, k, v, None, 1.0, False)
    (dq,) = torch.autograd.grad(o.sum(), q, create_graph=True)
    with pytest.raises(NotImplementedError, match="no second derivative"):
        dq.sum().backward()


def test_dropout_and_its_gradient_keep_the_same_elements():
    x, key = leaf(40, 30), torch.tensor([3, 4])
    y = torch_ops.dropout(x, key, 0.25)
    kept = torch_ops.random_uniform(key, x.shape) >= 0.25
    torch.testing.assert_close(y, torch.where(kept, x / 0.75, 0.0))
    torch.testing.assert_close(
        torch.autograd.grad(y.sum(), x)[0], torch.where(kept, 1 / 0.75, 0.0).double()
    )


def pool_case(op):
    return lambda x: getattr(torch_ops, op)(x, (3, 2), (2, 2), (1, 1, 0, 1)), [leaf(2, 9, 10, 3)]


def cases():
    window = ((2, 1), (0, 1, 1, 2), (1, 1), 2)
    return {
        "conv2d": (
            lambda x, w: torch_ops.conv2d(x, w, *window),
            [leaf(2, 9, 10, 4), leaf(3, 2, 2, 6)],
            ["conv2d", "conv2d_input_grad", "conv2d_kernel_grad"],
        ),
        "max_pool2d": (*pool_case("max_pool2d"), ["max_pool2d", "max_pool2d_grad"]),
        "avg_pool2d": (*pool_case("avg_pool2d"), ["avg_pool2d", "avg_pool2d_grad"]),
        "cross_entropy": (
            torch_ops.cross_entropy,
            [leaf(3, 4), torch.tensor([1, 0, 2])],
            ["cross_entropy", "cross_entropy_grad"],
        ),
        "attention": (
            lambda q, k, v, b: torch_ops.attention(q, k, v, b, 0.5, True),
            [leaf(2, 5, 3, 4), leaf(2, 5, 3, 4), leaf(2, 5, 3, 4), leaf(5, 5)],
            ["attention", "attention_grad"],
        ),
        "dropout": (
            lambda x, key: torch_ops.dropout(x, key, 0.5),
            [leaf(4, 5), torch.tensor([1, 2])],
            ["dropout", "dropout"],
        ),
    }


@pytest.mark.parametrize("name", cases())
def test_one_node_forward_and_one_backward(name):
    function, inputs, expected = cases()[name]

    def step(*values):
        values = [value.detach().requires_grad_(value.is_floating_point()) for value in values]
        leaves = [value for value in values if value.requires_grad]
        output = function(*values)
        y = output[0] if isinstance(output, tuple) else output
        return (y, *torch.autograd.grad(y, leaves, torch.ones_like(y)))

    graph = make_fx(step, tracing_mode="fake")(*inputs)
    nodes = [node for node in graph.graph.nodes if "keras_triton" in str(node.target)]
    assert [str(node.target).split(".")[1] for node in nodes] == expected
    torch.testing.assert_close(graph(*inputs), step(*inputs))


@pytest.mark.parametrize("name", cases())
def test_shapes_and_dtypes_are_known_without_data(name):
    function, inputs, _ = cases()[name]
    narrow = [x.detach().float() if x.is_floating_point() else x for x in inputs]
    real, fake = (function(*(x.to(device) for x in narrow)) for device in ("cpu", "meta"))
    real, fake = ([y] if isinstance(y, torch.Tensor) else list(y) for y in (real, fake))
    for expected, found in zip(real, fake, strict=True):
        assert found.device.type == "meta"
        assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
        assert found.stride() == expected.stride()


# Attention keeps its result for the gradient, so torch refuses there, as for its own attention.
@pytest.mark.parametrize("name", sorted(cases().keys() - {"attention"}))
def test_results_may_be_written_to(name):
    """Keras adds biases in place here and there; torch forbids that on views."""
    function, inputs, _ = cases()[name]
    output = function(*inputs)
    y = output[0] if isinstance(output, tuple) else output
    y += 1
    assert y.is_contiguous()
    assert torch.autograd.grad(y.sum(), inputs[0])[0].is_contiguous()
