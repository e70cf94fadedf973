"""Every mistake the compiler can name, one exception each; all carry one clear sentence."""

from __future__ import annotations


class LoweringError(Exception):
    """Base of everything that `keras_triton.lowering` raises on purpose."""


class DialectError(LoweringError):
    """An operation whose operands, attributes or result types the dialect does not allow."""


class ImportGraphError(LoweringError):
    """A captured graph that cannot be written in the `keras` dialect."""


class RegionError(LoweringError):
    """A kernel function that is not a loop region, so no emitter could take it."""


class EmitError(LoweringError):
    """A kernel that a target cannot express; the sentence says which op and why."""


class SizeError(LoweringError):
    """Something must know a symbolic size; the step is compiled for each size on its own then."""
