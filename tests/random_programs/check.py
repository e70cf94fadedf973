"""What must hold of a program: every pass leaves its values as they are, and so does every target.

The reference is the program's meaning in float64. Before the plan a stage is run in float64 too, where
only sums in another order differ. A plan stores its buffers in their own dtypes, and a target computes
in them, so they may be as far from the reference as the program itself is when each op rounds to its
dtype, which is computed for the very program and inputs; integers and bools must be equal.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from keras_triton.compile import compile_module
from keras_triton.lowering import interpret
from keras_triton.lowering.mlir import parse, stage_of, text
from keras_triton.lowering.pipeline import lower, pipeline
from keras_triton.targets.choice import choose

from .program import Program

Tensors = Sequence[torch.Tensor]
CPU = torch.device("cpu")
# Targets differ in what they have spelt out, and in epilogues of products.
WAYS = {
    name: {
        "decompose": target.decompose,
        "rows": target.rows,
        "epilogues": target.epilogues,
        "budget": budget,
    }
    for name, budget in (("cpu", None), ("interpret", None), ("reference", 0.5))
    for target in (choose(name, CPU),)
}
# Constants that a pass writes (1 / (1 - rate), a polynomial's) round to float32, whatever computes
# with them; sums in another order differ by less.
REWRITTEN = 1e-6
# A target's roundings are others than the op-by-op ones, so it may be some times as far; and where
# those happen to cancel, a few roundings of numbers around 1 are still its due.
TIMES_AS_FAR = 16.0
ROUNDINGS = 8.0


class Failure(AssertionError):
    """A program whose values changed, or that a stage refused.

    Attributes:
        where: the pass or the target.
        kind: the problem without what differs from program to program, numbers and names.
    """

    def __init__(self, where: str, problem: str) -> None:
        super().__init__(f"{where}: {problem}")
        self.where = where
        self.kind = re.sub(r"[%@#]\w+|\d\S*|\[.*?\]", "…", problem.partition("see current")[0])[
            :160
        ]


@dataclass(frozen=True)
class Reference:
    """A program's meaning on its inputs.

    Attributes:
        inputs: the inputs.
        exact: its results in float64.
        allowed: for each result, how far one that rounds may be from it.
    """

    inputs: Tensors
    exact: Tensors
    allowed: tuple[float, ...]


def reference(program: Program) -> Reference:
    """What the program's results must be."""
    module = parse(program.text())
    inputs = program.inputs()
    exact, rounded = (interpret.run(module, inputs, exact=kind) for kind in (True, False))
    eps = max(
        (torch.finfo(dtype).eps for dtype in _dtypes(program) if dtype.is_floating_point),
        default=0.0,
    )
    allowed = tuple(
        TIMES_AS_FAR * _furthest(a, b) + max(ROUNDINGS * eps, REWRITTEN) * max(1.0, _largest(a))
        for a, b in zip(exact, rounded, strict=True)
    )
    return Reference(inputs, exact, allowed)


def check(program: Program, targets: Sequence[str]) -> None:
    """Runs a program through all passes, as each kind of target has them, then on `targets`.

    Raises:
        Failure: what changes its values, or refuses it.
    """
    expected = reference(program)
    for way in WAYS:
        check_passes(program, expected, way)
    for target in targets:
        check_target(program, expected, target)


def check_passes(program: Program, expected: Reference, way: str) -> None:
    """Runs every stage of a program, lowered as for the target `way`.

    Raises:
        Failure: a pass refuses the program, or the values after it are others.
    """
    module = parse(program.text())
    names = iter([*(step.name for step in pipeline(**WAYS[way])), "the end"])
    seen, where = text(module), "import"

    def on_stage(stage) -> None:
        nonlocal seen, where
        now = text(stage)
        if now != seen:
            compare(stage, now)
        seen, where = now, f"{next(names)} ({way})"

    def compare(stage, now: str) -> None:
        results = interpret.run(parse(now), expected.inputs)
        planned = stage_of(stage) == "plan"
        for i, (got, want) in enumerate(zip(results, expected.exact, strict=True)):
            limit = expected.allowed[i] if planned else REWRITTEN * max(1.0, _largest(want))
            # Results have their declared dtype, however the stage computed them.
            _compare(where, i, got, want, limit + _rounding(got))

    try:
        lower(module, on_stage=on_stage, **WAYS[way])
    except Failure:
        raise
    except Exception as error:
        raise Failure(where, f"{type(error).__name__}: {error}") from error


def check_target(program: Program, expected: Reference, target: str) -> None:
    """Runs a program on a target.

    Raises:
        Failure: it does not compile there, or gives other values.
    """
    with warnings.catch_warnings():
        # A kernel that does not compile runs by its meaning, and warns.
        warnings.simplefilter("error", RuntimeWarning)
        try:
            module = parse(program.text())
            compiled = compile_module(module, choose(target, CPU), CPU, name="random")
            given = [tensor.clone() for tensor in expected.inputs]
            results = compiled(given)
        except Exception as error:
            raise Failure(target, f"{type(error).__name__}: {error}") from error
    for i, (got, want) in enumerate(zip(results, expected.exact, strict=True)):
        _compare(target, i, got, want, expected.allowed[i] + _rounding(got))
    again = compiled([tensor.clone() for tensor in expected.inputs])
    for i, (got, once) in enumerate(zip(again, results, strict=True)):
        if not torch.equal(got.nan_to_num(), once.nan_to_num()):
            raise Failure(target, f"result {i} is another in a second run")


def _compare(where: str, number: int, got: torch.Tensor, want: torch.Tensor, limit: float) -> None:
    if got.shape != want.shape:
        shapes = f"{tuple(got.shape)}, not {tuple(want.shape)}"
        raise Failure(where, f"result {number} has the shape {shapes}")
    if not got.dtype.is_floating_point:
        if not torch.equal(got, want.to(got.dtype)):
            raise Failure(where, f"result {number} is {_shown(got)}, not {_shown(want)}")
        return
    if not torch.allclose(got.double(), want.double(), rtol=0, atol=limit, equal_nan=True):
        away = f"{_furthest(got, want):.3g} away, where {limit:.3g} is allowed"
        raise Failure(where, f"result {number} is {away}: {_shown(got)}, not {_shown(want)}")


def _shown(x: torch.Tensor) -> str:
    return " ".join(str(x.flatten()[:16].tolist()).split())


def _furthest(got: torch.Tensor, want: torch.Tensor) -> float:
    if not want.dtype.is_floating_point or not want.numel():
        return 0.0
    return float((got.double() - want.double()).abs().nan_to_num(nan=0.0, posinf=0.0).max())


def _largest(x: torch.Tensor) -> float:
    if not x.dtype.is_floating_point or not x.numel():
        return 0.0
    return float(x.double().nan_to_num(nan=0.0, posinf=0.0, neginf=0.0).abs().max())


def _rounding(x: torch.Tensor) -> float:
    """Half the distance of numbers as large as x's largest, in its dtype."""
    return torch.finfo(x.dtype).eps * _largest(x) if x.dtype.is_floating_point else 0.0


def _dtypes(program: Program) -> set[torch.dtype]:
    found = {value.type.torch_dtype for value in program.arguments}
    for op in program.ops:
        found |= {value.type.torch_dtype for value in op.results}
        if hasattr(op, "body"):
            found |= _dtypes(op.body)
    return found
