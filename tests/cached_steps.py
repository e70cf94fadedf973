"""Processes that train a small model at the same time; run by test_compile_cache.py.

Arguments: a folder, and how many. Each writes a file of JSON there: what it computed, what it reports, and
how often it lowered a module or compiled one.
"""

import json
import os
import sys
import warnings
from collections import Counter
from pathlib import Path

import keras
import numpy as np
import torch
from keras import layers

import keras_triton
from keras_triton import compile as driver
from keras_triton.lowering.emit_llvm import jit

calls = Counter(lower=0, compile_objects=0)


def counted(name, function):
    def call(*args, **options):
        calls[name] += 1
        return function(*args, **options)

    return call


def small_model():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6,))
    x = layers.LayerNormalization()(layers.Dense(8, activation="gelu")(inputs))
    x = layers.Dropout(0.2)(layers.Lambda(lambda x: torch.logcumsumexp(x, -1))(x))
    model = keras.Model(inputs, layers.Dense(3)(x))
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def train():
    """What a process computes, and all it says about it."""
    driver.lower = counted("lower", driver.lower)
    jit.compile_objects = counted("compile_objects", jit.compile_objects)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = small_model()
        generator = np.random.default_rng(0)
        x, y = generator.normal(size=(8, 6)).astype("float32"), generator.integers(0, 3, 8)
        losses = [float(model.train_on_batch(x, y)) for _ in range(3)]
        predictions = model.predict_on_batch(x).tolist()
        trained = dict(calls)
        # What is explained keeps every stage for its page, so every stage is made.
        explained = keras_triton.explain(model, x, y)
    stats = keras_triton.stats()
    return {
        "computed": [losses, predictions],
        "reports": [json.loads(report.json()) for report in (*stats.reports, explained)],
        "stats": json.loads(stats.json()),
        "calls": trained,
        "warnings": [str(w.message) for w in caught if "keras-triton" in str(w.message)],
    }


def main(folder, count):
    # Importing takes longer than all the rest, so it is done once; nothing else has happened yet.
    for number in range(int(count)):
        if not os.fork():
            Path(folder, f"{number}.json").write_text(json.dumps(train()))
            os._exit(0)
    for _ in range(int(count)):
        os.wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
