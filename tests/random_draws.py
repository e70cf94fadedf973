"""A draw from each function of keras.random, in the dtypes it may have: name -> draw(seed)."""

import keras
import torch
from keras import random

FLOATS = ("float16", "bfloat16", "float32", "float64")


def draws() -> dict:
    made = {
        "randint": lambda seed: random.randint((8, 3), -5, 9, seed=seed),
        "randint, wide": lambda seed: random.randint((8, 3), -5, 2**40, dtype="int64", seed=seed),
        "categorical": lambda seed: random.categorical(keras.ops.zeros((4, 5)), 24, seed=seed),
        "binomial": lambda seed: random.binomial((8, 3), 100, [0.02, 0.3, 0.9], seed=seed),
        "shuffle": lambda seed: random.shuffle(torch.arange(64), seed=seed),
        "dropout": lambda seed: random.dropout(torch.ones(16, 3), 0.3, seed=seed),
        "dropout of rows": lambda seed: random.dropout(
            torch.ones(64, 3), 0.3, (None, 1), seed=seed
        ),
    }
    for dtype in FLOATS:
        given = {"dtype": dtype}
        made |= {
            f"uniform {dtype}": lambda s, o=given: random.uniform((8, 3), -1.0, 2.0, seed=s, **o),
            f"normal {dtype}": lambda s, o=given: random.normal((8, 3), 1.0, 2.0, seed=s, **o),
        }
    for dtype in ("float32", "float64"):
        given = {"dtype": dtype}
        made |= {
            f"truncated_normal {dtype}": lambda s, o=given: random.truncated_normal(
                (8, 3), 1.0, 2.0, seed=s, **o
            ),
            f"gamma {dtype}": lambda s, o=given: random.gamma((8, 3), [0.3, 1, 9], seed=s, **o),
            f"beta {dtype}": lambda s, o=given: random.beta((8, 3), 0.5, [0.2, 1, 9], seed=s, **o),
        }
    return made


DRAWS = draws()
