"""The compiler's passes from Python: listed, left out, replaced, and joined by others.

    from keras_triton import pipeline

    for step in pipeline.passes():
        print(step, step.takes, "->", step.gives, step.summary)
    with pipeline.without("group-instances"):
        model.fit(x, y)
    with pipeline.inserted(MyPass(), after="canonicalize-keras"):
        keras_triton.explain(model, x).print()

Such a change counts for the whole process until its block ends, and for all that compiles in it: `fit`,
`explain`, `verify`, `jit` and the commands' functions. Programs that were compiled under another pipeline
are kept apart, and come back with it. Blocks may stand in one another; the outer one counts first.

A pass is a frozen dataclass: see `Pass`, and `examples/own_pass.py` for one of your own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from keras_triton.lowering import pipeline as lowering
from keras_triton.lowering.edits import Edit, Inserted, Replaced, Without, edited, in_force, under
from keras_triton.lowering.passes.base import Pass, PassError

from .settings import settings
from .targets.base import asked_by
from .targets.choice import choose

__all__ = ["Pass", "PassError", "inserted", "passes", "replaced", "using", "without"]


def passes(target: str | None = None) -> list[Pass]:
    """The passes in the order in which they run now, with the options that a target has for them.

    Args:
        target: "cpu", "triton", "interpret" or "reference"; None for what runs steps here.

    Raises:
        ValueError: the target cannot run here.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    chosen = choose(target or settings().target, device)
    return edited(lowering.pipeline(**asked_by(chosen)))


@contextlib.contextmanager
def using(edit: Edit) -> Iterator[None]:
    """Within it the passes are those that `edit` makes of the list of them.

    Programs are kept for an edit that is equal: give the same function again rather than a new lambda.

    Raises:
        LoweringError: an edit names a pass that is not there, or its passes do not lead from stage
            keras to a plan.
    """
    with under((*in_force(), edit)):
        edited(lowering.pipeline())
        yield


def without(*names: str) -> contextlib.AbstractContextManager[None]:
    """Within it, the passes of these names do not run; raises as `using` does."""
    return using(Without(names))


def replaced(name: str, step: Pass) -> contextlib.AbstractContextManager[None]:
    """Within it, `step` runs in place of the pass `name`; raises as `using` does."""
    return using(Replaced(name, step))


def inserted(
    step: Pass, *, after: str | None = None, before: str | None = None
) -> contextlib.AbstractContextManager[None]:
    """Within it, `step` runs right after (or before) a pass; raises as `using` does.

    Raises:
        ValueError: neither or both of `after` and `before` are given.
    """
    if (after is None) == (before is None):
        raise ValueError("inserted takes either after= or before=, the name of a pass")
    return using(Inserted(step, after or before or "", after is not None))
