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


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", CUMULATED)
def test_sums_and_products_so_far(name, target):
    function, inputs = CUMULATED[name]
    program = compiled(function, inputs, target)
    wanted = [
        value.float() if value.is_floating_point() else value
        for value in reference(function, inputs)
    ]
    for made, right in zip(program([value.detach() for value in inputs]), wanted, strict=True):
        assert made.dtype == right.dtype
        torch.testing.assert_close(made, right, rtol=1e-5, atol=1e-5, equal_nan=True)
    assert target == "reference" or not any(row.fallback for row in program.report.rows)
