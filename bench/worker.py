"""One backend in one process: builds a model, then runs as many steps as the driver asks for.

Speaks JSON lines: the driver sends {"steps": n, "mode": "train" | "predict"}, the worker answers with the
seconds of each step. Keras fixes its backend at import, hence a process for each.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable

import numpy as np


def main() -> None:
    """Arguments: model name, batch size. KERAS_BACKEND says which backend."""
    name, batch = sys.argv[1], int(sys.argv[2])
    steps = _steps(name, batch)
    answer({"ready": True})
    for line in sys.stdin:
        order = json.loads(line)
        step = steps[order["mode"]]
        times = []
        for _ in range(order["steps"]):
            start = time.perf_counter()
            step()
            times.append(time.perf_counter() - start)
        answer(
            {"seconds": times, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}
        )


def answer(value: dict) -> None:
    print(json.dumps(value), file=sys.__stdout__, flush=True)


def _steps(name: str, batch: int) -> dict[str, Callable[[], object]]:
    """A train and a predict step on real images; each ends with its result on the host."""
    import keras

    from keras_triton import samples

    keras.utils.set_random_seed(1)
    images, labels = samples.digits()
    model = samples.digits_cnn() if name == "digits" else samples.mlp()
    x = images[:batch] if name == "digits" else images[:batch].reshape(batch, 64)
    y = labels[:batch]

    def train() -> object:
        return float(np.asarray(model.train_on_batch(x, y)[0]))

    def predict() -> object:
        return model.predict_on_batch(x)

    return {"train": train, "predict": predict}


if __name__ == "__main__":
    main()
