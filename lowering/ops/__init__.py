"""The ops of the `keras` dialect, one family a file. Importing this package fills `dialect.OPS`."""

from . import contract, conv, index, loss, norm, pointwise, pool, random, reduce, shape  # noqa: F401

CONTRACTIONS = frozenset(
    f"keras.{name}"
    for name in (
        "matmul",
        "batch_matmul",
        "linear",
        "attention",
        "attention_grad",
        "conv2d",
        "conv2d_input_grad",
        "conv2d_kernel_grad",
    )
)
"""Products, convolutions and attention: what a step cannot do without, and reads as a whole."""
