"""Every op stays within its bound of lowering/accuracy.py, on random and on hard inputs."""

from pathlib import Path

import pytest
import torch
from dialect_cases import CASES
from mlir import ir

from keras_triton.compile import compile_module
from keras_triton.lowering import dialect, mlir
from keras_triton.lowering.accuracy import BOUNDS, ROUNDING, UNIT, gamma, missing, page
from keras_triton.lowering.mlir import TORCH_DTYPES, TensorType, parse
from keras_triton.targets.choice import choose

PAGE = Path(__file__).parents[1] / "ACCURACY.md"
CPU = torch.device("cpu")
TARGETS = ("cpu", "interpret")
UNARY = (
    *("exp", "exp2", "expm1", "log", "log1p", "sqrt", "rsqrt", "reciprocal", "sin", "cos", "tan"),
    *("asin", "acos", "atan", "sinh", "cosh", "tanh", "erf", "erfinv", "sigmoid", "floor", "ceil"),
    *("round", "neg", "abs", "sign", "relu"),
)
BINARY = ("add", "sub", "mul", "maximum", "minimum", "remainder", "div", "pow", "atan2", "fmod")
# The rest, at the inputs of their cases: what picks, moves, compares or draws.
OTHERS = [
    name
    for name, bound in BOUNDS.items()
    if bound.ulps is not None and name not in (*UNARY, *BINARY)
]
FOLDING = [name for name, bound in BOUNDS.items() if bound.terms is not None]
WIDE = 8  # powers of 2 that hard inputs of sums spread over, in either direction


def test_the_page_is_the_table(request):
    if request.config.getoption("--update-golden"):
        PAGE.write_text(page())
    assert PAGE.read_text() == page()


def test_the_table_knows_every_op():
    assert missing() == set()
    assert set(BOUNDS) <= set(dialect.OPS)


def compiled(text, inputs, target):
    """What a module computes on a target."""
    module = parse(f'module attributes {{keras.stage = "keras"}} {{ {text} }}')
    program = compile_module(module, choose(target, CPU), CPU, name="accuracy")
    return program([tensor.clone() for tensor in inputs])


def meaning(name, inputs):
    """What an op means in float64."""
    exact = [x.double() if x.is_floating_point() else x for x in inputs]
    return dialect.OPS[name].reference(exact, CASES[name].attributes)


def hard_numbers(dtype):
    """Around 1, multiples of tenths up to where exponentials overflow, and sixty powers of 2."""
    draw = torch.Generator().manual_seed(0)
    wide = (torch.rand(61, 12, generator=draw, dtype=torch.float64) + 1) * 2.0 ** torch.arange(
        -30, 31
    )[:, None]
    near = 1 + torch.tensor(
        [sign * 2.0**-k for k in range(1, 24) for sign in (-1, 1)], dtype=torch.float64
    )
    numbers = torch.cat([wide.flatten(), near, torch.linspace(0, 100, 1001, dtype=torch.float64)])
    numbers = torch.cat([numbers, -numbers]).to(dtype)
    return numbers[numbers.isfinite()].unique()


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", ["f64", "f32", "bf16", "f16"])
def test_elementwise_ops(dtype, target):
    torch_dtype = TORCH_DTYPES[dtype]
    x = hard_numbers(torch_dtype)
    y = x[torch.randperm(len(x), generator=torch.Generator().manual_seed(1))]
    kind = f"tensor<{len(x)}x{dtype}>"
    names = [*UNARY, *BINARY]
    lines = [f'%{i} = "keras.{name}"(%x) : ({kind}) -> {kind}' for i, name in enumerate(UNARY)]
    lines += [
        f'%{i} = "keras.{name}"(%x, %y) : ({kind}, {kind}) -> {kind}'
        for i, name in enumerate(BINARY, len(UNARY))
    ]
    made = ", ".join(f"%{i}" for i in range(len(names)))
    kinds = ", ".join([kind] * len(names))
    body = f"{' '.join(lines)} return {made} : {kinds}"
    text = f"func.func @main(%x: {kind}, %y: {kind}) -> ({kinds}) {{ {body} }}"
    found = compiled(text, [x, y], target)
    exact = [meaning(name, [x] if name in UNARY else [x, y])[0] for name in names]
    worst = {
        name: _ulps(got, want, torch_dtype)
        for name, got, want in zip(names, found, exact, strict=True)
    }
    assert {n: w for n, w in worst.items() if w > BOUNDS[n].ulps} == {}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", ["f32", "bf16"])
@pytest.mark.parametrize("name", OTHERS)
def test_ops_that_pick_move_compare_or_draw(name, dtype, target):
    inputs = _inputs(name, dtype, hard=False)
    types = [TensorType.of_torch(tensor) for tensor in inputs]
    attributes = dict(CASES[name].attributes)
    if name == "full":
        attributes["dtype"] = dtype
    results = dialect.infer(dialect.OPS[name], types, attributes, "")
    text = _function(name, types, attributes, results)
    found, exact = compiled(text, inputs, target), meaning(name, inputs)
    for got, want in zip(found, exact, strict=True):
        if BOUNDS[name].ulps:
            assert _ulps(got, want, got.dtype) <= BOUNDS[name].ulps
        else:
            torch.testing.assert_close(got, want.to(got.dtype), rtol=0, atol=0, equal_nan=True)


def _ulps(got, exact, dtype):
    """The largest distance from the exact value, rounded, in units of its last place."""
    limits = torch.finfo(dtype)
    got, want = got.double(), exact.to(dtype).double()
    normal = want.isfinite() & (want.abs() >= limits.tiny)
    assert torch.equal(got.isnan(), want.isnan())
    assert (got.abs()[want.abs() < limits.tiny] <= limits.tiny).all()
    ulp = limits.eps * 2.0 ** want.abs().clamp(min=limits.tiny).log2().floor()
    return ((got - want).abs() / ulp)[normal].nan_to_num(nan=float("inf")).max().item()


def _inputs(name, dtype, hard):
    """The case's operands; hard ones of sums have magnitudes of many orders, and cancel."""
    draw, made = torch.Generator().manual_seed(5), []
    for i, value in enumerate(CASES[name].inputs):
        if i in ALWAYS_FLOAT32.get(name, ()):
            value = value.float()
        elif value.is_floating_point():
            if hard:
                powers = torch.randint(-WIDE, WIDE, value.shape, generator=draw)
                value = value * 2.0**powers
            value = value.to(TORCH_DTYPES[dtype])
        made.append(value)
    return made


# Statistics of rows are float32 whatever the dtype.
ALWAYS_FLOAT32 = {
    "attention_grad": (6,),
    "layer_norm_grad": (2, 3),
    "linear_cross_entropy_input_grad": (4, 5),
    "linear_cross_entropy_weight_grad": (4, 5),
}
# What the forward pass hands to these belongs to the rest of their operands, so that spreading each by
# itself means nothing.
GIVEN = (
    "softmax_grad",
    "log_softmax_grad",
    "layer_norm_grad",
    "cross_entropy_grad",
    "attention_grad",
    "linear_cross_entropy_input_grad",
    "linear_cross_entropy_weight_grad",
)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", ["f32", "bf16"])
@pytest.mark.parametrize("hard", [False, True], ids=["random", "hard"])
@pytest.mark.parametrize("name", FOLDING)
def test_folding_ops(name, hard, dtype, target):
    inputs = _inputs(name, dtype, hard and name not in GIVEN)
    types = [TensorType.of_torch(tensor) for tensor in inputs]
    op, attributes = dialect.OPS[name], CASES[name].attributes
    results = dialect.infer(op, types, attributes, "")
    text = _function(name, types, attributes, results)
    found, exact = compiled(text, inputs, target), meaning(name, inputs)
    # Of places, such as that of a maximum, nothing is rounded.
    places = [i for i, kind in enumerate(results) if not kind.is_float]
    assert all(torch.equal(found[i], exact[i]) for i in places)
    found, exact, results = (_floats(values, places) for values in (found, exact, results))
    bound = BOUNDS[name]
    roundings = gamma(bound.terms(types, attributes), UNIT[dtype])
    spread = _terms(name, inputs) if bound.linear else _spread(op, inputs, attributes, exact)
    for got, want, kind, moved in zip(found, exact, results, spread, strict=True):
        stored = ROUNDING[kind.dtype] * want.abs() + bound.stored * ROUNDING[dtype] * (
            moved + want.abs()
        )
        limit = roundings * moved + stored + torch.finfo(TORCH_DTYPES[kind.dtype]).tiny
        error = (got.double() - want).abs()
        assert (error <= limit).all(), f"{(error / limit).max().item():.3g} times the bound"


def _floats(values, places):
    """Values without those at the places of integers."""
    return [value for i, value in enumerate(values) if i not in places]


def _function(name, types, attributes, results):
    """The text of a function of one op."""
    with mlir.context(), ir.Location.unknown():
        given = ", ".join(
            f"{key} = {dialect.to_attribute(value)}" for key, value in attributes.items()
        )
        arguments = ", ".join(f"%a{i}: {kind}" for i, kind in enumerate(types))
        names = ", ".join(f"%a{i}" for i in range(len(types)))
        kinds = ", ".join(map(str, results))
        made = "%r" if len(results) == 1 else f"%r:{len(results)}"
        returned = ", ".join("%r" if len(results) == 1 else f"%r#{i}" for i in range(len(results)))
        return (
            f"func.func @main({arguments}) -> ({kinds}) {{ {made} = "
            f'"keras.{name}"({names}) {{{given}}} : ({", ".join(map(str, types))}) -> ({kinds}) '
            f"return {returned} : {kinds} }}"
        )


def _terms(name, inputs):
    """For each result, the magnitudes of all its terms."""
    return meaning(name, [x.abs() if x.is_floating_point() else x for x in inputs])


def _spread(op, inputs, attributes, exact):
    """For each result, the sum over all inputs of what each moves it by, times its magnitude; and the
    largest magnitude among inputs and results.
    """
    given = [x.double() if x.is_floating_point() else x for x in inputs]
    places = [i for i, x in enumerate(given) if x.is_floating_point()]

    def results(*floats):
        now = list(given)
        for i, value in zip(places, floats, strict=True):
            now[i] = value
        return tuple(x for x in op.reference(now, attributes) if x.is_floating_point())

    floats = tuple(given[i] for i in places)
    jacobians = torch.autograd.functional.jacobian(results, floats)
    largest = max(x.abs().max() for x in (*floats, *exact))
    return [
        largest
        + sum(
            (part.abs() * x.abs()).reshape(*want.shape, -1).sum(-1)
            for part, x in zip(parts, floats, strict=True)
        )
        for parts, want in zip(jacobians, exact, strict=True)
    ]
