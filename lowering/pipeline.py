"""The compiler's pipeline: every pass in order, from a captured step to a plan of launches."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mlir import ir

from .errors import LoweringError
from .mlir import stage_of
from .passes.base import Pass
from .passes.canonicalize_keras import CanonicalizeKeras
from .passes.collapse_axes import CollapseAxes
from .passes.fuse_regions import FuseRegions
from .passes.group_instances import GroupInstances
from .passes.hoist_sums import HoistSums
from .passes.lower_to_linalg import LowerToLinalg
from .passes.plan_buffers import PlanBuffers
from .passes.raise_linear import RaiseLinear
from .passes.simplify_loops import SimplifyLoops

STAGES = ("keras", "linalg", "regions", "plan")
# Ops with a Triton template that a target without one takes as plain loops where it can.
SPELLED_OUT = frozenset(
    [
        "softmax",
        "softmax_grad",
        "log_softmax",
        "log_softmax_grad",
        "layer_norm",
        "layer_norm_grad",
        "cross_entropy",
        "cross_entropy_grad",
        "max_pool2d",
        "max_pool2d_grad",
        "avg_pool2d",
        "avg_pool2d_grad",
    ]
)
OnStage = Callable[[ir.Module], None]


def pipeline(*, decompose: bool = False, epilogues: bool = True) -> list[Pass]:
    """The passes in order.

    Args:
        decompose: spell row ops and pooling out as loops, which then fuse.
        epilogues: let pointwise readers of a product or convolution join its kernel.
    """
    return [
        CanonicalizeKeras(),  # keras -> keras: one op for equal ones, none for unused ones
        HoistSums(),  # keras -> keras: sums over all iterations of a loop, after it
        SimplifyLoops(),  # keras -> keras: loops that carry and stack what is read, no more
        CollapseAxes(),  # keras -> keras: elementwise work on the axes of products and norms
        RaiseLinear(),  # keras -> keras: product, bias and activation as one op
        LowerToLinalg(decompose=SPELLED_OUT if decompose else frozenset()),  # keras -> linalg
        FuseRegions(
            epilogues=epilogues
        ),  # linalg -> regions: kernels, as few as memory traffic asks
        GroupInstances(),  # regions -> regions: equal kernels on many tensors become one
        PlanBuffers(),  # regions -> plan: memory and launches
    ]


def lower(
    module: ir.Module,
    upto: str = "plan",
    on_stage: OnStage | None = None,
    *,
    decompose: bool = False,
    epilogues: bool = True,
) -> ir.Module:
    """The module lowered from whatever stage it is in to stage `upto`.

    `on_stage(module)` is called with the module as given and after every pass: verifying, dumping
    and timing hang there.

    Raises:
        LoweringError: `upto` is no stage or lies before the module's; or a pass refuses the module.
    """
    passes = pipeline(decompose=decompose, epilogues=epilogues)
    if upto not in STAGES or STAGES.index(upto) < STAGES.index(stage_of(module)):
        raise LoweringError(f"a module of stage {stage_of(module)!r} cannot be lowered to {upto!r}")
    report = on_stage or (lambda module: None)
    report(module)
    for step in _steps(passes, stage_of(module), upto):
        module = step.run(module)
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
