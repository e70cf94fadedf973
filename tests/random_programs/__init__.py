"""Random programs of the `keras` dialect, and what must hold of each: its values never change.

`programs()` is a hypothesis strategy, `check` runs a program through every pass and on targets, and
`minimised` makes a failing one small. tests/fuzz_passes.py does so for as many as it is told.
"""

from .check import Failure, check
from .program import Program
from .reduce import minimised
from .strategy import programs

__all__ = ["Failure", "Program", "check", "minimised", "programs"]
