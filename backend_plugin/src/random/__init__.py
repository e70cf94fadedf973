"""Keras's random functions: numbers that depend on seed and shape only, on every device and target.

Each draw makes a key of two integers from Keras's seed; each number is a function of the key, a
stream and its place (``torch.ops.keras_triton.random_bits``). Nothing is read back from tensors, so
steps that draw can be captured. Formulas with elementary functions are computed in float64 and
rounded at the end: the targets' functions differ in float64's last digits, which the rounding hides
(all but about one float32 in 10^8).
"""

from keras.src.random.seed_generator import SeedGenerator, draw_seed, make_default_seed

from .continuous import beta, gamma, normal, truncated_normal, uniform
from .discrete import binomial, categorical, randint
from .rearrange import dropout, shuffle

__all__ = [
    "SeedGenerator",
    "beta",
    "binomial",
    "categorical",
    "draw_seed",
    "dropout",
    "gamma",
    "make_default_seed",
    "normal",
    "randint",
    "shuffle",
    "truncated_normal",
    "uniform",
]
