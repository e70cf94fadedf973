"""The ops of the `keras` dialect, one family a file. Importing this package fills `dialect.OPS`."""

from . import (  # noqa: F401
    contract,
    conv,
    index,
    linear_loss,
    loss,
    norm,
    order,
    pointwise,
    pool,
    random,
    reduce,
    shape,
)

CONTRACTIONS = frozenset(
    f"keras.{name}"
    for name in (
        "matmul",
        "batch_matmul",
        "linear",
        *linear_loss.HEADS,
        "attention",
        "attention_grad",
        "conv2d",
        "conv2d_input_grad",
        "conv2d_kernel_grad",
    )
)
"""Products, convolutions and attention: what a step cannot do without, and reads as a whole."""
