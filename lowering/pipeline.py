"""The compiler's pipeline: every pass in order, from a captured step to a plan of launches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from mlir import ir

from .edits import edited
from .errors import LoweringError
from .mlir import is_sized, stage_of, verify
from .ops.linear_loss import HEADS
from .passes.base import Pass
from .passes.canonicalize_keras import CanonicalizeKeras
from .passes.collapse_axes import CollapseAxes
from .passes.fit_memory import FitMemory
from .passes.fuse_regions import FuseRegions
from .passes.group_instances import GroupInstances
from .passes.hoist_sums import HoistSums
from .passes.join_products import JoinProducts
from .passes.lower_to_linalg import ROWS, LowerToLinalg
from .passes.order_launches import OrderLaunches
from .passes.plan_buffers import PlanBuffers
from .passes.raise_linear import RaiseLinear
from .passes.recompute_logits import RecomputeLogits
from .passes.set_precision import SetPrecision
from .passes.simplify_loops import SimplifyLoops
from .passes.split_sums import SplitSums

STAGES = ("keras", "linalg", "regions", "plan")
# Ops with a Triton template that can be spelled out as loops.
POOLING = frozenset(
    [
        "max_pool2d",
        "max_pool2d_grad",
        "avg_pool2d",
        "avg_pool2d_grad",
    ]
)
OnStage = Callable[[ir.Module], None]


def pipeline(
    *,
    decompose: bool = False,
    rows: int = 0,
    epilogues: bool = True,
    recompute: bool = True,
    budget: int | float | None = None,
    precision: str = "ieee",
) -> list[Pass]:
    """The passes in order, as they are unless Python changes them (`edits.py`).

    Args:
        decompose: spell row ops and pooling out as loops, which then fuse.
        rows: otherwise, the longest row (elements) of row ops to spell out.
        epilogues: let loops before and behind a product or convolution join its kernel, and products
            one another's.
        recompute: let logits be made again rather than stored; see `RecomputeLogits`.
        budget: the memory that a step may take, in bytes or as a share; see `FitMemory`.
        precision: of float32 products; see `SetPrecision`.
    """
    return [
        CanonicalizeKeras(),  # keras -> keras: one op for equal ones, none for unused ones
        HoistSums(),  # keras -> keras: sums over all iterations of a loop, after it
        SplitSums(),  # keras -> keras: a factor that few folded axes change, out of the inner sum
        SimplifyLoops(),  # keras -> keras: loops that carry and stack what is read, no more
        CollapseAxes(),  # keras -> keras: elementwise work on the axes of products and norms
        RecomputeLogits(  # keras -> keras: a last product and its cross-entropy without logits
            "never" if not recompute else "faster" if budget is None else "always", precision
        ),
        RaiseLinear(),  # keras -> keras: product, bias and activation as one op
        LowerToLinalg(  # keras -> linalg
            decompose=ROWS | POOLING | frozenset(HEADS)
            if decompose
            else ROWS
            if rows
            else frozenset(),
            longest_row=0 if decompose else rows,
        ),
        FuseRegions(
            epilogues=epilogues
        ),  # linalg -> regions: kernels, as few as memory traffic asks
        JoinProducts(  # regions -> regions: products that are added up, and sums beside products
            products=epilogues
        ),
        GroupInstances(  # regions -> regions: equal kernels on many tensors become one
            products=epilogues
        ),
        SetPrecision(precision),  # regions -> regions: of float32 products
        OrderLaunches(),  # regions -> regions: in the order that needs the least memory
        # regions -> regions: values made again, until that fits a budget
        *([] if budget is None else [FitMemory(budget)]),
        PlanBuffers(),  # regions -> plan: memory and launches
    ]


def lower(
    module: ir.Module, upto: str = "plan", on_stage: OnStage | None = None, **options: Any
) -> ir.Module:
    """The module lowered from whatever stage it is in to stage `upto`.

    `options` are those of `pipeline`. `on_stage(module)` is called with the module as given and after
    every pass: verifying, dumping and timing hang there. Of a module with a symbolic size, what depends
    on numbers of bytes is left out; see `Pass.by_size`.

    Raises:
        LoweringError: `upto` is no stage or lies before the module's; or a pass refuses the module.
    """
    own = pipeline(**options)
    passes = edited(own)
    if upto not in STAGES or STAGES.index(upto) < STAGES.index(stage_of(module)):
        raise LoweringError(f"a module of stage {stage_of(module)!r} cannot be lowered to {upto!r}")
    report = on_stage or (lambda module: None)
    report(module)
    sized = is_sized(module)
    for step in _steps(passes, stage_of(module), upto):
        if sized and step.by_size:
            continue
        module = step.run(module)
        if step not in own:
            verify(module)
        report(module)
    return module


def _steps(passes: Sequence[Pass], start: str, end: str) -> list[Pass]:
    """The passes between two stages; those that stay within a stage run on it wherever it is
    met.
    """
    first, last = STAGES.index(start), STAGES.index(end)
    return [
        step
        for step in passes
        if first <= STAGES.index(step.takes) and STAGES.index(step.gives) <= last
    ]
