"""Small torch functions whose captured graphs the importer must write in the dialect."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F

import keras_triton.torch_ops  # noqa: F401  (registers torch.ops.keras_triton)

Function = Callable[..., object]
custom = torch.ops.keras_triton


def x(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def n(*shape: int, low: int = 0, high: int = 5) -> torch.Tensor:
    return torch.randint(low, high, shape, generator=torch.Generator().manual_seed(1))


def gradient(function: Function) -> Function:
    """Also the gradients of the sum of squares, so that the backward ops are imported."""

    def both(*args: torch.Tensor) -> list[torch.Tensor]:
        leaves = [arg.requires_grad_(arg.is_floating_point()) for arg in args]
        y = function(*leaves)
        wanted = [leaf for leaf in leaves if leaf.is_floating_point()]
        return [y.detach(), *torch.autograd.grad((y * y).sum(), wanted)]

    return both


KEY = torch.tensor([3, 9])
WINDOW = ([2, 1], [1, 0, 0, 1], [1, 1], 1)
POOL = ([2, 2], [2, 2], [0, 0, 0, 0])
# A name, the function, its inputs.
NATIVE: list[tuple[str, Function, tuple[torch.Tensor, ...]]] = [
    ("promotion", lambda a, i: [a + i, a * 2, i * 2.5, i / 2, i + True], (x(3), n(3))),
    ("scalars", lambda a: [1 - a, 2 / a, torch.sub(a, a, alpha=3), a // 0.5, a % 0.7], (x(4),)),
    ("integers", lambda i: [i // 2, i % 3, i & 3, i | 1, i ^ 2, ~i, i << 1, -i], (n(6),)),
    ("bools", lambda a: [(a > 0) & (a < 1), (a > 0) + (a > 1), ~(a > 0), (a > 0) * 2], (x(5),)),
    ("compare", lambda a, i: [a > i, i == 2.5, i != 1, a <= 0.5], (x(4), n(4))),
    ("powers", lambda a: [a**2, a**3, a**4, a**-1, a.abs() ** 0.5, a**0, 2**a], (x(4),)),
    ("odd_powers", lambda a: [a.abs() ** -0.5, a.abs() ** 1.7, a.abs() ** a], (x(4),)),
    ("integer_power", lambda i: [i**2, i**3], (n(4),)),
    (
        "unary",
        lambda a: [a.exp(), a.expm1(), a.abs().log(), a.sin(), a.erf(), a.floor(), a.round()],
        (x(5),),
    ),
    ("integer_unary", lambda i: [i.sqrt(), i.floor(), i.sign(), i.isnan(), i.abs()], (n(5),)),
    ("log_bases", lambda a: [a.abs().log2(), a.abs().log10(), a.trunc()], (x(5) * 3,)),
    ("clamp", lambda a: [a.clamp(-0.5, 0.5), a.clamp(min=0), a.clamp(max=a * 2)], (x(5),)),
    ("where", lambda a, i: [torch.where(a > 0, a, i), a.masked_fill(a > 0, 3.0)], (x(4), n(4))),
    ("casts", lambda a, i: [a.int(), i.float(), a.bool(), a.half(), a.double()], (x(5), n(5))),
    (
        "diagonals",
        lambda a: [a.diagonal(), a.diagonal(1), a.diagonal(-1, 2, 0), a[0].diag()],
        (x(3, 4, 5),),
    ),
    ("diagonal_gradient", gradient(lambda a: a.diagonal(1, 0, 2) * 2), (x(4, 2, 3),)),
    ("low_diagonal_gradient", gradient(lambda a: a.diagonal(-2) * 2), (x(5, 3),)),
    (
        "bucketize",
        lambda a, e: [
            torch.bucketize(a, e),
            torch.bucketize(a, e, right=True, out_int32=True),
            torch.bucketize(torch.cat([e, e + 0.1, torch.full((1,), torch.nan)]), e, right=True),
        ],
        (x(3, 4), torch.tensor([-1.0, -0.5, 0.0, 0.0, 0.5])),
    ),
    ("logic", lambda a, i: [torch.logical_and(a, i), torch.logical_not(i)], (x(4), n(4))),
    (
        "shapes",
        lambda a: [
            a.view(6, 4),
            a[None],
            a.mT,
            a.permute(2, 0, 1),
            a.flatten(1),
            a.repeat(2, 1, 3),
        ],
        (x(2, 3, 4),),
    ),
    (
        "parts",
        lambda a: [a[1], a[:, -2:], a[..., ::2], *a.split([1, 3], 2), *a.unbind(0), a.flip(1)],
        (x(2, 3, 4),),
    ),
    ("joins", lambda a: [torch.cat([a, a, a * 2], 1), torch.stack([a, a], -1)], (x(2, 3),)),
    ("pads", lambda a: [F.pad(a, (1, 2)), F.pad(a, (-1, 1, 0, 2), value=3.0)], (x(3, 4),)),
    ("expand", lambda a: [a.expand(2, 3, 4), a[:, None].expand(3, 5, 4)], (x(3, 4),)),
    (
        "constants",
        lambda a: [torch.full_like(a, 2), torch.zeros(3), torch.arange(2, 9, 3), a.new_ones(2)],
        (x(3),),
    ),
    ("triangles", lambda a: [a.tril(), a.triu(1), a.tril(-1)], (x(4, 5),)),
    (
        "sums",
        lambda a, i: [a.sum(), a.sum(1, keepdim=True), i.sum(), (a > 0).sum(0), a.mean((0, 1))],
        (x(3, 4), n(3)),
    ),
    (
        "extremes",
        lambda a: [a.amax(1), a.max(), *a.max(1), *a.min(0, keepdim=True), a.argmax(), a.argmin(1)],
        (x(3, 4),),
    ),
    ("tests", lambda a: [(a > 0).any(), (a > 0).all(1), a.any(0), a.prod(1)], (x(3, 4),)),
    ("rank0", lambda a: [a.sum(), a.max(), a.argmax(), a.softmax(0), a.reshape(1)], (x(),)),
    ("variance", lambda a: [a.var(1), a.var((0, 1), correction=0), *torch.var_mean(a)], (x(3, 4),)),
    ("products", lambda a, b: [a @ b, a.T @ a, b.mT @ a.mT], (x(3, 4), x(4, 5))),
    ("batches", lambda a, b: [a @ b, a @ b[0], torch.bmm(a, a.mT)], (x(2, 3, 4), x(2, 4, 5))),
    ("addmm", lambda c, a, b: [torch.addmm(c, a, b, beta=0.5, alpha=2)], (x(5), x(3, 4), x(4, 5))),
    ("vectors", lambda a, b: [a @ b, b @ b], (x(3, 4), x(4))),
    ("norm", lambda a: [a.norm(), torch.linalg.vector_norm(a, 1, 1)], (x(3, 4),)),
    ("softmax", gradient(lambda a: a.softmax(0) + a.log_softmax(1)), (x(3, 4),)),
    ("layer_norm", gradient(lambda a, w, b: F.layer_norm(a, (4,), w, b)), (x(3, 4), x(4), x(4))),
    ("plain_layer_norm", gradient(lambda a: F.layer_norm(a, (3, 4))), (x(2, 3, 4),)),
    ("embedding", gradient(lambda t, i: F.embedding(i, t)), (x(5, 3), n(2, 4))),
    ("padded_embedding", gradient(lambda t, i: F.embedding(i, t, 2)), (x(5, 3), n(2, 4))),
    ("index", lambda t, i: [t[i], t[:, i - 2], t.index_select(1, i)], (x(5, 5), n(4))),
    ("index_grad", gradient(lambda t, i: t[i]), (x(5, 3), n(4))),
    ("index_side_by_side", gradient(lambda t, i, j: t[:, i, j - 4]), (x(3, 5, 4), n(2, 1), n(3))),
    (
        "index_apart",
        gradient(lambda t, i, j: t[i - 3, :, j - 2]),
        (x(3, 4, 5), n(2, 1, high=3), n(3)),
    ),
    (
        "index_apart_inside",
        lambda t, i: [t[:, i, :, i], t[i[0], 1, :, i]],
        (x(5, 5, 3, 5), n(2, 3)),
    ),
    ("index_three", gradient(lambda t, i: t[i, i, i - 5]), (x(5, 5, 5, 2), n(6))),
    ("index_bools", lambda t, i: [(t > 0)[i], (t > 0).gather(1, i)], (x(5, 5), n(5, 2))),
    (
        "gather",
        lambda a, i: [a.gather(1, i), a.scatter(1, i, 2.0), a.scatter_add(1, i, i.float())],
        (x(4, 5), n(4, 1)),
    ),
    ("gather_many", gradient(lambda a, i: a.gather(1, i)), (x(4, 5), n(3, 2))),
    ("gather_outer", gradient(lambda a, i: a.gather(0, i)), (x(5, 3, 2), n(4, 3, 1))),
    (
        "scatter_many",
        lambda a, i: [a.scatter(1, i, 2.0), a.scatter(1, i, i / 3), (a > 0).scatter(1, i, i > 1)],
        (x(2, 5), torch.tensor([[4, 0], [1, 2]])),
    ),
    (
        "index_put",
        lambda a, i, j: [
            torch.ops.aten.index_put(a, [i, j], a[0, :3]),
            torch.ops.aten.index_put(a, [None, j - 5], a[0, 0]),
            torch.ops.aten.index_put(a, [None, j], a[:, :3] * 2),
            torch.ops.aten.index_put(a.half(), [i], a.half()[:3]),
            a.index_copy(1, j, a[:, 2:] * 3),
        ],
        (x(4, 5), torch.tensor([3, 1, 2]), torch.tensor([4, 0, 2])),
    ),
    (
        "index_add",
        lambda a, i: [a.index_add(1, i, a[:, :4], alpha=2), i.index_add(0, i, i)],
        (x(3, 5), n(4, high=4)),
    ),
    (
        "scatter_reduce",
        lambda a, i: [
            *(a.scatter_reduce(0, i, a * 2, name) for name in ("sum", "prod", "amax", "amin")),
            i.scatter_reduce(1, i, i - 2, "amax"),
        ],
        (x(5, 5), n(5, 5)),
    ),
    (
        "scatter_add_many",
        lambda a, i: [a.scatter_add(1, i, i.float()), i.scatter_add(0, i, i * 3)],
        (x(5, 5), n(5, 4)),
    ),
    ("cumulated_ones", lambda a: [torch.ones_like(a, dtype=torch.int).cumsum(0)], (x(3, 2),)),
    (
        "cumulated",
        gradient(lambda a: a.cumsum(1) * a + a.cumsum(0).tanh() + a.cumsum(-1)),
        (x(3, 40, 5),),
    ),
    (
        "cumulated_numbers",
        lambda a, i: [
            i.cumsum(1),
            (a > 0).cumsum(0),
            a.cumprod(1),
            a.half()[:, :5].abs().cumsum(1),
            i.cumprod(0),
        ],
        (x(3, 40), n(3, 40)),
    ),
    ("kth", lambda a: [*a.kthvalue(3, 1), a.kthvalue(2, 0, True)[0]], (x(4, 5),)),
    (
        "rolled",
        lambda a: [a.roll(2, 1), a.roll((1, -3), (0, 1)), a.roll(7), a.roll(5, 1)],
        (x(4, 5),),
    ),
    (
        "searchsorted",
        lambda a, e: [
            torch.searchsorted(e[0], a),
            torch.searchsorted(e, a, right=True),
            torch.searchsorted(e[0].double(), a, side="right", out_int32=True),
            torch.bucketize(a, e[0].double()),
        ],
        (x(2, 7), torch.tensor([[-1.0, 0.0, 0.5], [-0.5, 0.1, 2.0]])),
    ),
    ("nll", gradient(lambda a, i: -a.log_softmax(1).gather(1, i).mean()), (x(4, 5), n(4, 1))),
    (
        "conv",
        gradient(lambda a, w, b: F.conv2d(a, w, b, stride=2, padding=1, groups=2)),
        (x(2, 4, 6, 5), x(6, 2, 3, 3), x(6)),
    ),
    (
        "conv_transpose",
        gradient(lambda a, w: F.conv_transpose2d(a, w, stride=2, output_padding=1)),
        (x(2, 4, 3, 5), x(4, 2, 3, 3)),
    ),
    ("conv1d", gradient(lambda a, w: F.conv1d(a, w, dilation=2)), (x(2, 3, 9), x(4, 3, 3))),
    ("max_pool", gradient(lambda a: F.max_pool2d(a, (3, 2), 2, (1, 0))), (x(2, 3, 7, 6),)),
    ("max_pool_index", lambda a: list(F.max_pool2d_with_indices(a, 3, 2, 1)), (x(2, 3, 7, 6),)),
    ("avg_pool", gradient(lambda a: F.avg_pool2d(a, 2, 2)), (x(2, 3, 6, 6),)),
    ("activations", gradient(lambda a: F.silu(a) + F.elu(a) + F.softplus(a)), (x(9),)),
    ("gelus", gradient(lambda a: F.gelu(a) + F.gelu(a, approximate="tanh")), (x(9),)),
    (
        "hard_activations",
        gradient(lambda a: F.hardtanh(a) + F.hardswish(a) + F.hardsigmoid(a) + F.leaky_relu(a)),
        (x(9) * 4,),
    ),
    ("saturating", gradient(lambda a: a.tanh() + a.sigmoid() + a.relu() + F.relu6(a)), (x(9),)),
    ("random", lambda k: [custom.random_uniform(k, [2, 3]), custom.random_bits(k, [4])], (KEY,)),
    ("streams", lambda k: [custom.random_bits(k, [4], stream) for stream in (3, 17)], (KEY,)),
    ("dropout", gradient(lambda a, k: custom.dropout(a, k, 0.4)), (x(3, 4), KEY)),
    (
        "custom_conv",
        gradient(lambda a, w: custom.conv2d(a, w, *WINDOW)),
        (x(2, 5, 6, 3), x(3, 2, 3, 4)),
    ),
    ("custom_max_pool", gradient(lambda a: custom.max_pool2d(a, *POOL)[0]), (x(2, 4, 6, 3),)),
    ("custom_avg_pool", gradient(lambda a: custom.avg_pool2d(a, *POOL)), (x(2, 4, 6, 3),)),
    ("custom_loss", gradient(lambda a, i: custom.cross_entropy(a, i)[0]), (x(4, 5), n(4))),
    (
        "custom_attention",
        gradient(lambda q, k, v: custom.attention(q, k, v, None, 0.5, True)[0]),
        (x(2, 4, 2, 3), x(2, 4, 2, 3, seed=1), x(2, 4, 2, 3, seed=2)),
    ),
]
# A name, the function, its inputs, and the reasons that the externs give.
EXTERN: list[tuple[str, Function, tuple[torch.Tensor, ...], list[str]]] = [
    (
        "two_results",
        lambda a: [*torch.cummax(a, 1), a.exp()],
        (x(3, 4),),
        ["no dialect op for aten.cummax.default"],
    ),
    ("special", lambda a: [a.lgamma()], (x(3),), ["no dialect op for aten.lgamma.default"]),
    (
        "empty",
        lambda a: [a[:0] * 2],
        (x(3),),
        [f"aten.{op}.Tensor on a tensor of no elements" for op in ("slice", "mul")],
    ),
    (
        "mean_by_index",
        lambda a, i: [a.scatter_reduce(1, i, i.float(), "mean")],
        (x(4, 5), n(4, 2)),
        ["aten.scatter_reduce.two by mean of f32, or without what is there"],
    ),
    (
        "list_argument",
        lambda a, m: [torch.ops.aten.index_put(a > 0, [m, m], a[0, :3] > 0, accumulate=True)],
        (x(4, 5), n(3, high=4)),
        ["aten.index_put that adds bools"],
    ),
    (
        "mask",
        lambda a: [torch.ops.aten.index_put(a, [a > 0], a[0, 0], accumulate=True)],
        (x(4, 5),),
        ["aten.index_put.default by a mask, or by no tensor"],
    ),
    (
        "bias_gradient",
        lambda q, bias: list(
            custom.attention_grad(q, q, q, q, bias, q, q[..., 0].mT, 0.5, False, True)
        ),
        (x(1, 4, 2, 3), x(1, 1, 4, 4)),
        ["no dialect op for the gradient of attention by its bias"],
    ),
    (
        "dtype_argument",
        lambda a: [torch.ops.aten.linalg_vector_norm.default(a, 3, dtype=torch.float64)],
        (x(3),),
        ["no dialect form of a vector norm of order 3"],
    ),
]
