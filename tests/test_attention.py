"""Attention as Triton templates: masked rows, what stands behind it, training, code for a GPU."""

import keras
import numpy as np
import pytest
import torch
from keras import layers
from kernel_cases import check
from test_triton_template import template
from triton_cases import Generic
from triton_cases import check as check_kernel

from keras_triton import stats
from keras_triton.check import PRODUCTS
from keras_triton.kernels import CAPABILITIES, Problem, compile_offline, get, of_capability
from keras_triton.kernels.attention_tiles import AttentionConfig

NEGATIVE, INF = -2.1e38, float("inf")


def test_rows_without_a_key_are_uniform_or_nan():
    """Of one large negative bias all keys count alike; of -inf none counts."""
    q, k, v = (
        torch.randn(1, n, 1, 4, generator=torch.Generator().manual_seed(n)) for n in (3, 40, 40)
    )
    bias = torch.zeros(1, 1, 3, 40)
    bias[..., 0, :], bias[..., 1, :], bias[..., 2, :20] = NEGATIVE, -INF, -INF
    problem = Problem.of(
        [(tuple(x.shape), "float32") for x in (q, k, v, bias)], scale=0.5, causal=False
    )
    spec, config = get("attention"), AttentionConfig(16, 16, 16, 4, 1)
    found = spec.run(problem, config, (q, k, v, bias), interpret=True)
    expected = spec.reference(q, k, v, bias, scale=0.5)
    torch.testing.assert_close(found, expected, equal_nan=True)
    torch.testing.assert_close(found[0][0, 0, 0], v[0, :, 0].mean(0))
    assert found[0][0, 1].isnan().all()
    assert found[1][0, 0, 1] == -INF


@pytest.mark.parametrize("name", ["attention", "attention_grad"])
@pytest.mark.parametrize("block_k", [16, 64])
def test_tiles_smaller_than_heads_and_lengths(name, block_k):
    """Rows held on chip, and multiplied in parts; several blocks of either length before the diagonal."""
    heads, other = ((1, 50, 1, 40), "float32"), ((1, 70, 1, 40), "float32")
    operands = [heads, other, other, ((1,), "float32")]
    if name == "attention_grad":
        operands = [heads, *operands, heads, ((1, 1, 50), "float32")]
    problem = Problem.of(operands, scale=0.2, causal=True)
    check(get(name), problem, AttentionConfig(16, 32, block_k, 4, 1))
    check(get(name), problem, AttentionConfig(32, 16, block_k, 4, 1))


def test_what_stands_behind_it_joins_its_kernel():
    q, lse = "tensor<2x5x3x8xf32>", "tensor<2x3x5xf32>"
    double = Generic("y", (("op#0", (0, 1, 2, 3)),), q, "%r = arith.addf %x0, %x0 : f32")
    given = {"q": q, "k": q, "v": q, "bias": "tensor<1xf32>"}
    text = template(
        "attention",
        given,
        list(given),
        [q, lse],
        "{scale = 0.5 : f64, causal = true}",
        [double],
        ["y"],
    )
    check_kernel(text)


def trained(eagerly):
    keras.utils.set_random_seed(0)
    x = np.random.default_rng(0).normal(size=(2, 6, 8)).astype("float32")
    inputs = keras.Input((6, 8))
    h = layers.MultiHeadAttention(2, 4)(inputs, inputs, use_causal_mask=True)
    model = keras.Model(inputs, layers.MultiHeadAttention(1, 8)(h, inputs))
    model.compile(keras.optimizers.SGD(0.5), "mse", run_eagerly=eagerly)
    return [float(model.train_on_batch(x, x)) for _ in range(3)]


def test_training_in_the_interpreter(forced):
    wanted = trained(eagerly=True)
    forced("interpret")
    before = len(stats().reports)
    found = trained(eagerly=False)
    (report,) = stats().reports[before:]
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    assert report.fallbacks == ()
    ran = {row.how for row in report.rows}
    assert {f"Triton template attention{part}" for part in ("", "_grad")} <= ran


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_code_for_a_gpu_multiplies_on_tensor_cores(capability):
    for name in ("attention", "attention_grad"):
        spec, problem = get(name), PRODUCTS[name]
        program = spec.program(problem, spec.space.guess(problem, of_capability(capability)))
        dtypes = spec.dtypes(problem) | {n: s.dtype for n, s in program.scratch.items()}
        for launch in program.launches:
            report = compile_offline(launch, dtypes, capability)
            assert report.tensor_core
            assert report.spills == 0


def test_heads_too_wide_are_refused():
    heads = ((1, 4, 1, 320), "float32")
    problem = Problem.of([heads, heads, heads, ((1,), "float32")], scale=1.0, causal=False)
    assert get("attention").supports(problem) == "heads are 320 wide; at most 256"
