"""Training a model of the zoo from weights that NumPy draws."""

import zlib

import keras
import numpy as np

from model_zoo.registry import MODELS


def train(name, steps, eagerly, *, ragged=False):
    """Trains a model of the zoo in the floatx in force; `ragged`: on batches of three sizes.

    Returns the losses of each step, and the model's variables after the last.
    """
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(7)
    random = np.random.default_rng(zlib.crc32(name.encode()))
    made, batches = MODELS[name](random)
    made.run_eagerly = eagerly
    for variable in made.variables:
        if variable.trainable or len(variable.shape) > 1:
            variable.assign(_initial(variable, random))
    found = []
    for step in range(steps):
        x, y, *weights = batches[step % len(batches)]
        if ragged:
            x, y, weights = keras.tree.map_structure(
                lambda array, less=step % 3: array[less:], (x, y, weights)
            )
        made.reset_metrics()
        logs = made.train_on_batch(x, y, *weights, return_dict=True)
        found.append([float(logs[key]) for key in sorted(logs) if "loss" in key])
    if not eagerly and keras.backend.backend() == "triton":
        counts = made.train_function.step.counts
        assert (counts.compiled, counts.op_by_op) == (steps, 0), counts
    kept = [np.asarray(v.numpy()) for v in made.variables if "seed" not in v.path]
    return np.array(found), kept


def _initial(variable, random):
    """Scaled by the fan-in; vectors stay near what their initializer gave, but no two entries equal,
    for ties would be broken by rounding."""
    shape = tuple(variable.shape)
    if len(shape) > 1:
        return random.normal(0.0, 1.0 / np.sqrt(np.prod(shape[:-1])), shape)
    return np.asarray(variable.numpy(), "float64") + random.normal(0.0, 0.05, shape)
