"""How torch ops are written in the dialect, one family a file. Importing this fills `RULES`."""

from . import activation, contract, conv, custom, index, norm, pointwise, reduce, shape  # noqa: F401
