"""How far compiled training is from training op by op, in float64, over the models of the zoo.

`python tests/numerics.py [MODEL ...] [--steps N] [--ragged] [--json]` trains each model three times, from
the same weights on the same batches: compiled, op by op on this backend, and by Keras on torch in a process of
its own. It prints the largest difference of losses and of weights, relative to the largest magnitude
of the tensor, and returns 1 if one is larger than it should be. With `--ragged` batches have three sizes,
which one program serves.

Keras computes products, means and more in float32 even under the policy float64, unless the backend is
TensorFlow (`BIT64_TO_BIT32_DTYPE`). Here that rule is off, so that roundings of float32 do not hide
what is compared.
"""

import argparse
import contextlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile

STEPS = 20
TOLERANCE = 1e-9
HARD_SIGMOID = "torch differentiates hard_sigmoid with 1/6 rounded to float32"
LORA = "Keras keeps the factors of LoRA in float32, whose roundings Adam scales up"
# Models whose own layers or train step demand batches of one size.
OF_ONE_SIZE = ("stateful_rnn", "gan")
DRAWN = "backends draw different random numbers"
# Where the tolerance cannot hold: what may differ, by how much, and why.
EXCEPTIONS = {"mobilenet": (1e-6, HARD_SIGMOID), "low_rank": (1e-5, LORA)}


@contextlib.contextmanager
def float64():
    """Keras computes everything in float64 inside."""
    import keras
    from keras.src.backend.common import dtypes

    before = keras.config.floatx(), keras.config.dtype_policy(), dict(dtypes.BIT64_TO_BIT32_DTYPE)
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    dtypes.BIT64_TO_BIT32_DTYPE["float64"] = "float64"
    try:
        yield
    finally:
        keras.config.set_floatx(before[0])
        keras.config.set_dtype_policy(before[1])
        dtypes.BIT64_TO_BIT32_DTYPE.update(before[2])


def distance(found, wanted):
    """The largest difference of two lists of arrays, relative to the largest magnitude of each."""
    import numpy as np

    worst = 0.0
    for got, want in zip(found, wanted, strict=True):
        if got.shape != want.shape:
            return float("inf")
        difference = np.abs(np.asarray(got, "float64") - np.asarray(want, "float64"))
        scale = np.abs(want).max(initial=0.0)
        worst = max(
            worst, float(np.nan_to_num(difference.max(initial=0.0) / (scale or 1.0), nan=np.inf))
        )
    return worst


def on_torch(names, steps, *, ragged):
    """What Keras on torch makes of the models: a dictionary of losses and weights by name."""
    import numpy as np

    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "torch.npz")
        environment = {**os.environ, "KERAS_BACKEND": "torch"}
        command = [sys.executable, __file__, *names, "--steps", str(steps), "--save", str(path)]
        command += ["--ragged"] * ragged
        subprocess.run(command, env=environment, check=True)
        with np.load(path) as file:
            arrays = dict(file)
    found = {}
    for name in names:
        weights = [arrays[key] for key in sorted(arrays) if key.startswith(f"{name}/weight")]
        found[name] = arrays[f"{name}/losses"], weights
    return found


def save(names, steps, path, *, ragged):
    """Trains op by op on whatever backend runs, and writes losses and weights to a file."""
    import model_zoo
    import numpy as np

    arrays = {}
    with float64():
        for name in names:
            losses, weights = model_zoo.train(name, steps, eagerly=True, ragged=ragged)
            arrays[f"{name}/losses"] = losses
            arrays |= {f"{name}/weight{i:04}": weight for i, weight in enumerate(weights)}
    np.savez(path, **arrays)


def compare(names, steps, *, ragged=False):
    """A row for each model: its distances from both references, and whether they are right."""
    import model_zoo

    same = [name for name in names if name not in model_zoo.DRAWS]
    reference = on_torch(same, steps, ragged=ragged)
    for name in names:
        with float64():
            compiled, eager = (
                model_zoo.train(name, steps, eagerly, ragged=ragged) for eagerly in (False, True)
            )
        tolerance, note = EXCEPTIONS.get(name, (TOLERANCE, ""))
        row = {"model": name, **_distances("eager", compiled, eager)}
        if name in reference:
            row |= _distances("torch", compiled, reference[name])
        else:
            note = DRAWN
        found = [value for value in row.values() if isinstance(value, float)]
        yield {**row, "tolerance": tolerance, "ok": max(found) <= tolerance, "note": note}


def _distances(reference, compiled, wanted):
    (losses, weights), (wanted_losses, wanted_weights) = compiled, wanted
    return {
        f"losses against {reference}": distance([losses], [wanted_losses]),
        f"weights against {reference}": distance(weights, wanted_weights),
    }


def show(rows, steps):
    """The rows as a table, what explains a difference below it."""
    from rich.console import Console
    from rich.table import Table

    pairs = [(kind, other) for other in ("eager", "torch") for kind in ("losses", "weights")]
    notes = sorted({row["note"] for row in rows} - {""})
    columns = [f"{kind}\n{other}" for kind, other in pairs]
    title = f"compiled training against op by op: largest relative difference after {steps} steps"
    table = Table("model", *columns, "", title=title, title_justify="left")
    for row in rows:
        found = [row.get(f"{kind} against {other}") for kind, other in pairs]
        cells = ["" if value is None else f"{value:.1e}" for value in found]
        mark = f"({1 + notes.index(row['note'])})" if row["note"] else ""
        table.add_row(row["model"], *cells, mark if row["ok"] else f"FAR {mark}")
    console = Console()
    console.print(table)
    for number, note in enumerate(notes, 1):
        console.print(f"({number}) {note}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("models", nargs="*", metavar="MODEL")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--ragged", action="store_true", help="batches of three sizes")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--save", type=pathlib.Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    os.environ.setdefault("KERAS_BACKEND", "triton")
    import model_zoo

    unknown = sorted(set(options.models) - set(model_zoo.MODELS))
    if unknown:
        parser.error(f"no model {unknown[0]!r}; there are {', '.join(model_zoo.MODELS)}")
    names = options.models or [
        name for name in model_zoo.MODELS if not (options.ragged and name in OF_ONE_SIZE)
    ]
    if options.save:
        save(names, options.steps, options.save, ragged=options.ragged)
        return 0
    rows = list(compare(names, options.steps, ragged=options.ragged))
    if options.json:
        print(json.dumps(rows, indent=1))
    else:
        show(rows, options.steps)
    return int(not all(row["ok"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
