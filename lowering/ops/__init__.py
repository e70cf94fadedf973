"""The ops of the `keras` dialect, one family a file. Importing this package fills `dialect.OPS`."""

from . import contract, conv, index, loss, norm, pointwise, pool, random, reduce, shape  # noqa: F401
