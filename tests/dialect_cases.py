"""One case for each op of the keras dialect: operands, attributes, and what the result must be."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

Tensors = Sequence[torch.Tensor]


@dataclass(frozen=True)
class Case:
    """`check(xs, ys)` asserts that ys are the op's results on xs (float64)."""

    inputs: Tensors
    attributes: dict[str, Any]
    check: Callable[[Tensors, Tensors], None]


def close(made: torch.Tensor, expected: torch.Tensor) -> None:
    assert made.shape == expected.shape
    torch.testing.assert_close(made.double(), expected.double(), rtol=1e-10, atol=1e-12)


def equals(function: Callable[..., Any]) -> Callable[[Tensors, Tensors], None]:
    """The check that the results are those of `function`."""

    def check(xs: Tensors, ys: Tensors) -> None:
        expected = function(*xs)
        expected = expected if isinstance(expected, tuple) else (expected,)
        for made, wanted in zip(ys, expected, strict=True):
            close(made, wanted)

    return check


def numpy(function: Callable[..., Any]) -> Callable[[Tensors, Tensors], None]:
    return equals(lambda *xs: torch.as_tensor(np.asarray(function(*(x.numpy() for x in xs)))))


def floats(*shape: int, seed: int = 0) -> torch.Tensor:
    """In (0.1, 0.9): inside the domain of every function here."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=generator, dtype=torch.float64) * 0.8 + 0.1


def normals(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def ints(*shape: int, low: int = 1, high: int = 7, seed: int = 0) -> torch.Tensor:
    return torch.randint(low, high, shape, generator=torch.Generator().manual_seed(seed))


def bools(*shape: int, seed: int = 0) -> torch.Tensor:
    return normals(*shape, seed=seed) > 0


FLOAT_FUNCTIONS: dict[str, Callable] = {
    "exp": np.exp,
    "exp2": np.exp2,
    "expm1": np.expm1,
    "log": np.log,
    "log1p": np.log1p,
    "sqrt": np.sqrt,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "reciprocal": lambda x: 1 / x,
    "sin": np.sin,
    "cos": np.cos,
    "tan": np.tan,
    "asin": np.arcsin,
    "acos": np.arccos,
    "atan": np.arctan,
    "sinh": np.sinh,
    "cosh": np.cosh,
    "tanh": np.tanh,
    "erf": np.vectorize(math.erf),
    "erfinv": np.vectorize(lambda x: NormalDist().inv_cdf((1 + x) / 2) / math.sqrt(2)),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
}
SIGNED_FUNCTIONS: dict[str, Callable] = {
    "floor": np.floor,
    "ceil": np.ceil,
    "round": np.round,
    "neg": np.negative,
    "abs": np.abs,
    "sign": np.sign,
    "relu": lambda x: np.maximum(x, 0),
    "isnan": np.isnan,
    "isinf": np.isinf,
}
PAIR_FUNCTIONS: dict[str, Callable] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "remainder": np.remainder,
    "div": np.divide,
    "atan2": np.arctan2,
    "fmod": np.fmod,
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
}
INT_FUNCTIONS: dict[str, Callable] = {
    "floor_divide": np.floor_divide,
    "bitwise_and": np.bitwise_and,
    "bitwise_or": np.bitwise_or,
    "bitwise_xor": np.bitwise_xor,
    "shift_left": np.left_shift,
    "shift_right": np.right_shift,
}
BOOL_FUNCTIONS: dict[str, Callable] = {
    "logical_and": np.logical_and,
    "logical_or": np.logical_or,
    "logical_xor": np.logical_xor,
}
REDUCTIONS: dict[str, Callable] = {"sum": np.sum, "max": np.max, "min": np.min, "prod": np.prod}


def pointwise() -> dict[str, Case]:
    special = torch.tensor([[-1.5, 0.5], [float("inf"), float("nan")]], dtype=torch.float64)
    cases = {name: Case([floats(3, 4)], {}, numpy(f)) for name, f in FLOAT_FUNCTIONS.items()}
    cases |= {name: Case([normals(3, 4)], {}, numpy(f)) for name, f in SIGNED_FUNCTIONS.items()}
    cases["isnan"] = Case([special], {}, numpy(np.isnan))
    cases["isinf"] = Case([special], {}, numpy(np.isinf))
    pair = [normals(3, 4), normals(4, seed=1)]
    cases |= {name: Case(pair, {}, numpy(f)) for name, f in PAIR_FUNCTIONS.items()}
    cases["pow"] = Case([floats(3, 4), normals(3, 1)], {}, numpy(np.power))
    whole = [ints(3, 4, low=-7), ints(1, 4, seed=1)]
    cases |= {name: Case(whole, {}, numpy(f)) for name, f in INT_FUNCTIONS.items()}
    truth = [bools(3, 4), bools(4, seed=1)]
    cases |= {name: Case(truth, {}, numpy(f)) for name, f in BOOL_FUNCTIONS.items()}
    cases["logical_not"] = Case([bools(5)], {}, numpy(np.logical_not))
    cases["bitwise_not"] = Case([ints(5)], {}, numpy(np.invert))
    cases["select"] = Case([bools(3, 1), normals(4), normals(3, 4)], {}, numpy(np.where))
    cases["cast"] = Case([normals(5) * 9], {"dtype": "i32"}, numpy(lambda x: x.astype("int32")))
    return cases


def reductions() -> dict[str, Case]:
    axes = {"axes": (0, 2)}
    cases = {
        name: Case([normals(2, 3, 4)], axes, numpy(lambda x, f=f: f(x, axis=(0, 2))))
        for name, f in REDUCTIONS.items()
    }
    cases["any"] = Case([bools(2, 3, 4)], axes, numpy(lambda x: x.any((0, 2))))
    cases["all"] = Case([bools(2, 3, 4)], axes, numpy(lambda x: x.all((0, 2))))
    cases["argmax"] = Case([normals(3, 5)], {"axis": 1}, numpy(lambda x: x.argmax(1)))
    cases["argmin"] = Case([normals(3, 5)], {"axis": 0}, numpy(lambda x: x.argmin(0)))
    return cases


def shapes() -> dict[str, Case]:
    x = normals(2, 3, 4)
    bounds = {"starts": (0, 1, 0), "limits": (2, 3, 4), "strides": (1, 1, 3)}
    pads = {"low": (1, 0, 2), "high": (0, 0, 1), "value": 7.0}
    widths = ((1, 0), (0, 0), (2, 1))
    return {
        "full": Case(
            [],
            {"value": 2.5, "shape": (2, 3), "dtype": "f64"},
            equals(lambda: torch.full((2, 3), 2.5)),
        ),
        "iota": Case(
            [],
            {"shape": (2, 3), "axis": 1, "dtype": "i32"},
            equals(lambda: torch.tensor([[0, 1, 2]] * 2)),
        ),
        "broadcast_to": Case(
            [normals(3, 1)],
            {"shape": (2, 3, 4)},
            numpy(lambda x: np.broadcast_to(x, (2, 3, 4)).copy()),
        ),
        "broadcast_in_dim": Case(
            [normals(2, 1)],
            {"shape": (2, 3, 4), "dims": (0, 2)},
            numpy(lambda x: np.broadcast_to(x[:, None, :], (2, 3, 4)).copy()),
        ),
        "reshape": Case([x], {"shape": (6, 4)}, numpy(lambda x: x.reshape(6, 4))),
        "transpose": Case(
            [x], {"permutation": (2, 0, 1)}, numpy(lambda x: x.transpose(2, 0, 1).copy())
        ),
        "barrier": Case([x], {}, numpy(lambda x: x.copy())),
        "slice": Case([x], bounds, numpy(lambda x: x[:, 1:3, ::3].copy())),
        "reverse": Case([x], {"axes": (0, 2)}, numpy(lambda x: x[::-1, :, ::-1].copy())),
        "concat": Case(
            [x, normals(2, 5, 4)], {"axis": 1}, numpy(lambda a, b: np.concatenate([a, b], 1))
        ),
        "pad": Case([x], pads, numpy(lambda x: np.pad(x, widths, constant_values=7.0))),
    }


def gradient(function: Callable[..., torch.Tensor], g: torch.Tensor, *xs: torch.Tensor) -> tuple:
    leaves = [x.detach().clone().requires_grad_() for x in xs]
    return torch.autograd.grad(function(*leaves), leaves, g)


def contractions() -> dict[str, Case]:
    flags = {"transpose_a": True, "transpose_b": False}
    options = {"scale": 0.5, "causal": True}
    q, k, v = (normals(2, 4, 2, 3, seed=n) for n in (4, 5, 6))
    bias = normals(1, 2, 1, 4)
    mask = torch.ones(4, 4, dtype=torch.bool).tril()

    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, bias: torch.Tensor):
        allowed = bias.expand(2, 2, 4, 4).masked_fill(~mask, float("-inf"))
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        found = F.scaled_dot_product_attention(q, k, v, attn_mask=allowed, scale=0.5)
        return found.transpose(1, 2)

    def lse(q: torch.Tensor, k: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        scores = torch.einsum("bihd,bjhd->bhij", q, k) * 0.5 + bias
        return torch.logsumexp(scores.masked_fill(~mask, float("-inf")), -1)

    g = normals(2, 4, 2, 3, seed=9)
    return {
        "matmul": Case([normals(4, 3), normals(4, 5)], flags, numpy(lambda a, b: a.T @ b)),
        "batch_matmul": Case(
            [normals(2, 3, 4), normals(2, 5, 4)],
            {"transpose_a": False, "transpose_b": True},
            equals(lambda a, b: torch.einsum("bij,bkj->bik", a, b)),
        ),
        "linear": Case(
            [normals(4, 3), normals(3, 5), normals(5)],
            {"activation": "relu"},
            equals(lambda x, w, b: torch.relu(torch.einsum("ij,jk->ik", x, w) + b)),
        ),
        "attention": Case(
            [q, k, v, bias],
            options,
            equals(lambda q, k, v, bias: (attend(q, k, v, bias), lse(q, k, bias))),
        ),
        "attention_grad": Case(
            [g, q, k, v, bias, attend(q, k, v, bias), lse(q, k, bias)],
            options,
            equals(lambda g, q, k, v, bias, *_: gradient(attend, g, q, k, v, bias)[:3]),
        ),
    }


def images() -> dict[str, Case]:
    x, w = normals(2, 6, 5, 4), normals(3, 2, 2, 6)
    window = {"strides": (2, 1), "pads": (1, 1, 0, 0), "dilations": (1, 2), "groups": 2}
    pool = {"window": (3, 2), "strides": (2, 2), "pads": (1, 1, 0, 0)}

    def convolve(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        x, w = x.permute(0, 3, 1, 2), w.permute(3, 2, 0, 1)
        y = F.conv2d(x, w, stride=(2, 1), padding=(1, 0), dilation=(1, 2), groups=2)
        return y.permute(0, 2, 3, 1)

    def most(x: torch.Tensor) -> torch.Tensor:
        return F.max_pool2d(x.permute(0, 3, 1, 2), (3, 2), (2, 2), (1, 0)).permute(0, 2, 3, 1)

    def mean(x: torch.Tensor) -> torch.Tensor:
        y = F.avg_pool2d(x.permute(0, 3, 1, 2), (3, 2), (2, 2), (1, 0), count_include_pad=False)
        return y.permute(0, 2, 3, 1)

    def check_max(xs: Tensors, ys: Tensors) -> None:
        close(ys[0], most(xs[0]))
        padded = F.pad(xs[0], (0, 0, 0, 0, 1, 1), value=float("-inf"))
        for n, i, j, c in np.ndindex(*ys[0].shape):
            place = int(ys[1][n, i, j, c])
            row, column = 2 * i + place // 2, 2 * j + place % 2
            assert padded[n, row, column, c] == ys[0][n, i, j, c]

    g, pooled = normals(*convolve(x, w).shape, seed=3), normals(*most(x).shape, seed=4)
    padded = F.pad(x, (0, 0, 0, 0, 1, 1), value=float("-inf"))
    places = padded.unfold(1, 3, 2).unfold(2, 2, 2).flatten(-2).argmax(-1).int()
    image, kernel = {"shape": tuple(x.shape)}, {"shape": tuple(w.shape)}
    return {
        "conv2d": Case([x, w], window, equals(convolve)),
        "conv2d_input_grad": Case(
            [g, w], image | window, equals(lambda g, w: gradient(convolve, g, x, w)[0])
        ),
        "conv2d_kernel_grad": Case(
            [g, x], kernel | window, equals(lambda g, x: gradient(convolve, g, x, w)[1])
        ),
        "max_pool2d": Case([x], pool, check_max),
        "max_pool2d_grad": Case(
            [pooled, places], image | pool, equals(lambda g, _: gradient(most, g, x))
        ),
        "avg_pool2d": Case([x], pool, equals(mean)),
        "avg_pool2d_grad": Case([pooled], image | pool, equals(lambda g: gradient(mean, g, x))),
    }


def rows() -> dict[str, Case]:
    x, g = normals(3, 5), normals(3, 5, seed=1)
    weight, bias = normals(5, seed=2), normals(5, seed=3)
    mean, rstd = x.mean(-1), (x.var(-1, correction=0) + 1e-3).rsqrt()
    target = torch.tensor([4, 0, 2])
    lse = torch.logsumexp(x, -1)

    def norm(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        return F.layer_norm(x, (5,), weight, bias, 1e-3)

    def loss(x: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(x, target, reduction="none")

    soft, log_soft = (lambda x: torch.softmax(x, -1)), (lambda x: torch.log_softmax(x, -1))
    return {
        "softmax": Case([x], {}, equals(soft)),
        "softmax_grad": Case([g, soft(x)], {}, equals(lambda g, y: gradient(soft, g, x))),
        "log_softmax": Case([x], {}, equals(log_soft)),
        "log_softmax_grad": Case(
            [g, log_soft(x)], {}, equals(lambda g, y: gradient(log_soft, g, x))
        ),
        "layer_norm": Case(
            [x, weight, bias],
            {"epsilon": 1e-3},
            equals(lambda *xs: (norm(*xs), mean, rstd)),
        ),
        "layer_norm_grad": Case(
            [g, x, mean, rstd, weight],
            {},
            equals(lambda g, x, *_: gradient(norm, g, x, weight, bias)),
        ),
        "cross_entropy": Case([x, target], {}, equals(lambda x, _: (loss(x), lse))),
        "cross_entropy_grad": Case(
            [normals(3), x, target, lse], {}, equals(lambda g, x, *_: gradient(loss, g, x))
        ),
    }


def heads() -> dict[str, Case]:
    x, w, bias, target = normals(3, 5), normals(6, 5), normals(6, seed=2), torch.tensor([4, 0, 2])
    logits, g = x @ w.T + bias, normals(3, seed=3)
    lse = torch.logsumexp(logits, -1)

    def loss(x: torch.Tensor, w: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(x @ w.T + bias, target, reduction="none")

    given, turned = [x, w, bias, target], {"transpose_w": True}
    return {
        "linear_cross_entropy": Case(
            given, turned, equals(lambda *xs: (loss(*xs[:3]), lse, logits.argmax(-1)))
        ),
        "linear_cross_entropy_input_grad": Case(
            [*given, lse, g], turned, equals(lambda *xs: gradient(loss, g, *xs[:3])[0])
        ),
        "linear_cross_entropy_weight_grad": Case(
            [*given, lse, g], turned, equals(lambda *xs: gradient(loss, g, *xs[:3])[1:])
        ),
    }


# Salmon et al. 2011, known answers of Philox4x32-10: first words for counter and key of all zeros.
PHILOX_ZERO = 0x6627E8D5


def stably_sorted(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    order = torch.as_tensor(np.argsort(x.numpy(), axis=-1, kind="stable"))
    return x.gather(-1, order), order


def others() -> dict[str, Case]:
    key, zero = torch.tensor([3, -5]), torch.zeros(2, dtype=torch.int64)

    def check_bits(xs: Tensors, ys: Tensors) -> None:
        assert int(ys[0].flatten()[0]) == PHILOX_ZERO
        assert ys[0].unique().numel() == ys[0].numel()

    def check_uniform(xs: Tensors, ys: Tensors) -> None:
        assert float(ys[0].flatten()[0]) == (PHILOX_ZERO >> 8) * 2.0**-24

    def check_dropout(xs: Tensors, ys: Tensors) -> None:
        kept = ys[0] != 0
        close(ys[0], torch.where(kept, xs[0] / 0.75, 0.0))
        assert 0.6 < kept.double().mean() < 0.9

    table, indices = normals(5, 3), torch.tensor([[4, 0], [1, 4]])
    updates = normals(2, 2, 3)
    return {
        "random_bits": Case([zero], {"shape": (4, 5), "stream": 0}, check_bits),
        "random_uniform": Case([zero], {"shape": (4, 5)}, check_uniform),
        "dropout": Case([floats(20, 20), key], {"rate": 0.25}, check_dropout),
        "gather": Case([table, indices], {"axis": 0}, numpy(lambda t, i: t[i])),
        "scatter": Case(
            [updates, indices],
            {"rows": 5, "fold": "sum"},
            equals(lambda u, i: torch.einsum("ijd,ijr->rd", u, F.one_hot(i, 5).double())),
        ),
        "sort": Case(
            [ints(3, 9, high=4).double()],
            {"descending": False},
            equals(stably_sorted),
        ),
        "top": Case(
            [normals(3, 9)],
            {"k": 4, "descending": True},
            equals(lambda x: tuple(torch.topk(x, 4))),
        ),
        "cumulate": Case(
            [normals(3, 7, 2)], {"axis": 1, "fold": "sum"}, numpy(lambda x: np.cumsum(x, 1))
        ),
    }


CASES: dict[str, Case] = (
    pointwise() | reductions() | shapes() | contractions() | images() | rows() | heads() | others()
)
