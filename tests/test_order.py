"""Sums so far and sorted elements: on every target, without torch."""

import pytest
import torch
from import_cases import gradient, n, x
from test_lookups import TARGETS, compiled, reference

NAN, INF = float("nan"), float("inf")

CUMULATED = {
    "last axis": (gradient(lambda a: a.cumsum(-1) * a), (x(5, 70),)),
    "inner axis": (gradient(lambda a: a.cumsum(1).tanh()), (x(3, 7, 20),)),
    "first axis": (gradient(lambda a: a.cumsum(0)), (x(9, 3),)),
    "products": (lambda a: [a.cumprod(1), a.cumprod(0)], (x(5, 9),)),
    "integers": (lambda i: [i.cumsum(1), (i - 3).cumprod(0), i.cumsum(0, dtype=torch.int32)], (n(3, 9),)),
    "bools": (lambda i: [(i > 2).cumsum(0), (i > 2).cumsum(1, dtype=torch.float32)], (n(3, 9),)),
    "one": (lambda a: [a[:, :1].cumsum(1), a[0, 0].cumsum(0)], (x(3, 9),)),
    "not numbers": (lambda a: [(a / 0).cumsum(0), (a.log()).cumsum(1)], (x(3, 9),)),
}  # fmt: skip


ODD = torch.tensor([[2.0, NAN, -INF, 1.0, -0.0, NAN, 2.0, 0.0, INF, 1.0]])
SORTED = {
    "rows": (gradient(lambda a: a.sort(-1)[0] * a), (x(3, 70),)),
    "columns": (gradient(lambda a: a.sort(0, descending=True)[0] * a), (x(9, 4),)),
    "places": (lambda a: [a.argsort(1), a.argsort(1, descending=True), a[0, 0].sort()[1]], (x(3, 9),)),
    "equal ones": (lambda i: [*i.sort(stable=True), *i.sort(stable=True, descending=True)], (n(3, 40),)),
    "not numbers": (lambda a: [*a.sort(stable=True), *a.sort(stable=True, descending=True)], (ODD,)),
    "bools": (lambda i: list((i > 2).sort(stable=True)), (n(3, 9),)),
    "greatest": (gradient(lambda a: a.topk(3)[0] * 2), (x(4, 40),)),
    "least": (lambda a: list(a.topk(2, 0, largest=False)), (x(9, 4),)),
    "greatest of few": (lambda a: list(a.topk(4)), (x(3, 4),)),
    "many of the greatest": (lambda a: list(a.topk(70)), (x(2, 90),)),
    "greatest, odd ones": (lambda a: [a.topk(5)[0], a.topk(9, largest=False)[0]], (ODD,)),
    "greatest integers": (lambda i: [i.topk(5)[0], i.topk(7, 0, False)[0]], (n(9, 12, high=40),)),
}  # fmt: skip


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", CUMULATED | SORTED)
def test_functions(name, target):
    function, inputs = (CUMULATED | SORTED)[name]
    program = compiled(function, inputs, target)
    wanted = [
        value.float() if value.is_floating_point() else value
        for value in reference(function, inputs)
    ]
    for made, right in zip(program([value.detach() for value in inputs]), wanted, strict=True):
        assert made.dtype == right.dtype
        torch.testing.assert_close(made, right, rtol=1e-5, atol=1e-5, equal_nan=True)
    assert target == "reference" or not any(row.fallback for row in program.report.rows)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64, torch.int32])
def test_dtypes(dtype, target):
    """What is sorted is moved, never rounded; sums of half floats are rounded once."""
    values = torch.randint(-9, 9, (3, 40), generator=torch.Generator().manual_seed(0)).to(dtype)

    def function(a):
        return [*a.sort(stable=True), a.topk(3)[0], a.cumsum(1, dtype=dtype)]

    made = compiled(function, (values,), target)([values])
    for ours, wanted in zip(made, function(values), strict=True):
        assert torch.equal(ours, wanted)
