"""How torch ops are written in the dialect, one family a file. Importing this fills `RULES`."""

from . import (  # noqa: F401
    activation,
    contract,
    conv,
    custom,
    index,
    norm,
    order,
    pointwise,
    reduce,
    scatter,
    shape,
)
