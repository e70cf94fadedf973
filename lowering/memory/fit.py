"""What became of a budget of memory: an attribute of a module of stage "regions" or "plan"."""

from __future__ import annotations

from dataclasses import astuple, dataclass

from mlir import ir

ATTRIBUTE = "keras.fitted"
AGAIN = "keras.again"
"""On a call that makes values a second time: why."""


@dataclass(frozen=True)
class Fit:
    """The memory of a step at its peak, in bytes: arguments, results and temporaries.

    Attributes:
        budget: what it was to take at most.
        before: what it takes if nothing is given up for it.
        after: what it takes.
    """

    budget: int
    before: int
    after: int

    @property
    def is_within(self) -> bool:
        return self.after <= self.budget

    @classmethod
    def of(cls, module: ir.Module) -> Fit | None:
        """What a module says; None of one that had no budget, or needed nothing for it."""
        attributes = module.operation.attributes
        if ATTRIBUTE not in attributes:
            return None
        return cls(*ir.DenseI64ArrayAttr(attributes[ATTRIBUTE]))

    def to_attribute(self) -> ir.Attribute:
        """The attribute, in the current context."""
        return ir.DenseI64ArrayAttr.get(astuple(self))


def made_again(call: ir.Operation) -> str:
    """Why a call makes values a second time, "" if it does not."""
    return ir.StringAttr(call.attributes[AGAIN]).value if AGAIN in call.attributes else ""
