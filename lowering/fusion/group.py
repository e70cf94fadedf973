"""A group of nodes that will be one kernel, what a device lets it be, and why two stay apart."""

from __future__ import annotations

from dataclasses import dataclass, field

Places = dict[int, tuple[int, ...]]
"""For each loop, which of its group's dims its own dims are."""


@dataclass(eq=False)
class Group:
    """Nodes of one kernel, in program order; `template` is the call that the loops finish, but for
    those `before` it, which make its operands.
    """

    nodes: list[int]
    mask: int
    above: int
    parallel: tuple[int, ...] = ()
    reduction: tuple[int, ...] = ()
    places: Places = field(default_factory=dict)
    template: int | None = None
    is_loop: bool = False
    is_update: bool = False
    before: list[int] = field(default_factory=list)

    @property
    def domain(self) -> tuple[int, ...]:
        return self.parallel + self.reduction


class Refusal(Exception):
    """Why two groups stay apart."""


@dataclass(frozen=True)
class Limits:
    """What a device bears.

    Attributes:
        max_row: elements of a row that may stay in fast memory from a reduction to its readers.
        epilogues: pointwise readers of a product or convolution join its kernel.
        reorders: what a reduction stores on its way may lie in another order than it goes.
    """

    max_row: int
    epilogues: bool
    reorders: bool
