"""How much memory a plan takes while it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .plan import Call, Plan, walk


@dataclass(frozen=True)
class Peak:
    """Bytes of a step at its peak.

    Attributes:
        arguments: parameters, optimizer state and other variables, and the batch. New values of
            variables lie where the old ones did.
        outputs: results that are no variable's new value.
        arena: the temporaries of the plan, one piece of memory for all.
        workspace: the most that one launch takes beside: what a call of torch makes before it is
            copied to its place, partial results of a kernel.
    """

    arguments: int = 0
    outputs: int = 0
    arena: int = 0
    workspace: int = 0

    @property
    def bytes(self) -> int:
        """All of it."""
        return self.arguments + self.outputs + self.arena + self.workspace


def peak_of(plan: Plan, workspace: Callable[[Call], int]) -> Peak:
    """The peak of a plan; `workspace` tells it of a launch."""
    return Peak(
        sum(argument.type.nbytes for argument in plan.arguments),
        sum(kind.nbytes for kind in plan.outputs),
        plan.arena_bytes,
        max((workspace(item) for item, _ in walk(plan.steps) if isinstance(item, Call)), default=0),
    )


def result_bytes(call: Call) -> int:
    """Bytes of what a launch writes."""
    return sum(ref.type.nbytes for ref in call.operands[len(call.operands) - call.outputs :])
