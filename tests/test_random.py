"""keras.random: seeds, ranges and distributions."""

import keras
import numpy as np
import pytest
import torch
from keras import random
from random_draws import DRAWS, FLOATS
from scipy import stats
from torch.fx.experimental.proxy_tensor import make_fx

COUNT = 1 << 15
# A sound generator fails one of about 60 comparisons at this level once in 1,600 choices of seed.
LEVEL = 1e-5


@pytest.mark.parametrize("name", DRAWS)
def test_seeds(name):
    draw = DRAWS[name]
    assert torch.equal(draw(3), draw(3))
    assert not torch.equal(draw(3), draw(4))
    assert not torch.equal(draw(None), draw(None))
    generator = random.SeedGenerator(3)
    first, second = draw(generator), draw(generator)
    assert torch.equal(first, draw(3))
    assert not torch.equal(first, second)
    assert generator.state.numpy().tolist() == [3, 2]


@pytest.mark.parametrize("name", DRAWS)
def test_draws_can_be_captured(name):
    graph = make_fx(lambda: DRAWS[name](3), tracing_mode="fake")()
    assert torch.equal(graph(), DRAWS[name](3))


def test_symbolic_calls_leave_seeds_alone():
    generator = random.SeedGenerator(7)
    for name, draw in DRAWS.items():
        expected = draw(1)
        spec = keras.src.backend.compute_output_spec(lambda: draw(generator))  # noqa: B023
        assert (spec.shape, spec.dtype) == (
            expected.shape,
            keras.backend.standardize_dtype(expected.dtype),
        ), name
    assert generator.state.numpy().tolist() == [7, 0]


def fits(sample, distribution):
    """Kolmogorov's and Smirnov's test."""
    sample = sample.double().numpy().ravel()
    assert stats.kstest(sample, distribution.cdf).pvalue > LEVEL


def occurs(sample, distribution):
    """Pearson's test over the values that should occur five times or more, and the rest."""
    values, counts = np.unique(sample.numpy(), return_counts=True)
    support = np.arange(int(values.min()), int(values.max()) + 1)
    expected = distribution.pmf(support) * COUNT
    observed = np.zeros(len(support))
    observed[np.searchsorted(support, values)] = counts
    common = expected >= 5
    expected = np.append(expected[common], max(COUNT - expected[common].sum(), 1e-9))
    observed = np.append(observed[common], COUNT - observed[common].sum())
    chi_square = ((observed - expected) ** 2 / np.maximum(expected, 1)).sum()
    assert stats.chi2.sf(chi_square, max(len(expected) - 1, 1)) > LEVEL


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_normal(dtype):
    draw = random.normal((COUNT,), 3.0, 2.0, dtype=dtype, seed=5)
    fits(draw, stats.norm(3, 2))
    fits(
        random.truncated_normal((COUNT,), 3.0, 2.0, dtype=dtype, seed=6),
        stats.truncnorm(-2, 2, 3, 2),
    )
    # Neighbours, and numbers of successive keys, are not related.
    assert abs(np.corrcoef(draw[1:], draw[:-1])[0, 1]) < 5 / np.sqrt(COUNT)
    generator = random.SeedGenerator(5)
    pair = [random.normal((COUNT,), dtype=dtype, seed=generator) for _ in range(2)]
    assert abs(np.corrcoef(*pair)[0, 1]) < 5 / np.sqrt(COUNT)


@pytest.mark.parametrize("dtype", FLOATS)
def test_uniform_stays_below_the_upper_bound(dtype):
    # Between 1 and 2 a number has one bit less than its uniform number below 1.
    for bounds in ((0.0, 1.0), (1.0, 2.0), (-3.0, 0.1)):
        draw = random.uniform((COUNT,), *bounds, dtype=dtype, seed=1)
        assert keras.backend.standardize_dtype(draw.dtype) == dtype
        assert float(draw.min()) >= bounds[0]
        assert float(draw.max()) < bounds[1]
    assert torch.equal(
        random.uniform((3,), 2, 2, dtype=dtype, seed=1), torch.full((3,), 2).to(draw)
    )


def test_uniform():
    fits(random.uniform((COUNT,), -3, 5, seed=1), stats.uniform(-3, 8))
    bounds = torch.tensor([[0.0], [5.0]]), torch.tensor([[1.0], [7.0]])
    draw = random.uniform((2, COUNT), *bounds, seed=1)
    fits(draw[1], stats.uniform(5, 2))


@pytest.mark.parametrize("alpha", [0.05, 0.5, 1.0, 2.5, 40.0, 1e6])
def test_gamma(alpha):
    draw = random.gamma((COUNT,), alpha, dtype="float64", seed=3)
    fits(draw, stats.gamma(alpha))
    assert float(draw.min()) > 0


@pytest.mark.parametrize(("alpha", "beta"), [(0.1, 0.3), (0.5, 0.5), (1, 1), (2, 7), (500, 0.9)])
def test_beta(alpha, beta):
    fits(random.beta((COUNT,), alpha, beta, dtype="float64", seed=3), stats.beta(alpha, beta))


@pytest.mark.parametrize(
    ("counts", "probability"),
    [
        (1, 0.3),
        (19, 0.5),
        (20, 0.5),
        (30, 0.9),
        (1000, 0.009),
        (1000, 0.011),
        (9.9, 0.2),
        (400, 0.4),
    ],
)
def test_binomial(counts, probability):
    draw = random.binomial((COUNT,), counts, probability, dtype="float64", seed=5)
    occurs(draw, stats.binom(int(counts), probability))


@pytest.mark.parametrize(("counts", "probability"), [(6e5, 0.6), (1e12, 0.25)])
def test_binomial_of_many_trials(counts, probability):
    """Nearly normal, once what the integers leave out is put back."""
    draw = random.binomial((COUNT,), counts, probability, dtype="float64", seed=5)
    spread = np.sqrt(counts * probability * (1 - probability))
    jitter = random.uniform((COUNT,), -0.5, 0.5, dtype="float64", seed=1)
    fits(draw + jitter, stats.norm(counts * probability, spread))


def test_parameters_that_are_none():
    nan = torch.nan
    assert random.gamma((3,), [-1.0, 0.0, nan], seed=1).isnan().all()
    assert random.beta((2,), [-1.0, 1.0], [1.0, 0.0], seed=1).isnan().all()
    draw = random.binomial((5,), [-1, 5, 5, nan, torch.inf], [0.5, 1.5, -0.1, 0.5, 0.5], seed=1)
    assert draw.isnan().all()
    assert random.binomial((2,), [7, 0], [1.0, 0.3], seed=1).tolist() == [7, 0]
    with pytest.raises(ValueError, match=r"minval < maxval. Received: minval=3, maxval=3"):
        random.randint((2,), 3, 3)


def test_parameters_get_no_gradients():
    alpha = torch.ones(3, requires_grad=True)
    assert not random.gamma((3,), alpha, seed=1).requires_grad
    mean = torch.ones((), requires_grad=True)
    random.normal((3,), mean, seed=1).sum().backward()
    assert mean.grad == 3


def test_randint_and_categorical():
    occurs(random.randint((COUNT,), 3, 11, seed=2), stats.randint(3, 11))
    wide = random.randint((COUNT,), 0, 2**40, dtype="int64", seed=2)
    fits(wide, stats.uniform(0, 2**40))
    shares = np.array([0.1, 0.2, 0.7])
    draw = random.categorical(np.log(shares)[None], COUNT, seed=2)[0]
    occurs(draw, stats.rv_discrete(values=(range(3), shares)))
    sure = random.categorical(torch.tensor([[0.0, -torch.inf], [-torch.inf, 0.0]]), 9, seed=2)
    assert sure.tolist() == [[0] * 9, [1] * 9]


def test_shuffle_permutes_slices():
    x = torch.arange(12).reshape(3, 4)
    shuffled = random.shuffle(x, axis=1, seed=1)
    assert not torch.equal(shuffled, x)
    assert torch.equal(shuffled.sort(1).values, x)
    assert torch.equal(shuffled - shuffled[:1], (x - x[:1]))
