"""Two models of one seed, one compiled and one run eagerly, put through the same calls."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np

from keras_triton.compiled_function import CompiledFunction
from keras_triton.journal import stats

FUNCTIONS = ("train_function", "test_function", "predict_function")


@dataclasses.dataclass
class Outcome:
    """What a test may look at afterwards.

    Attributes:
        compiled, eager: the models.
        fallbacks: why launches ran on torch.
    """

    compiled: keras.Model
    eager: keras.Model
    fallbacks: set[str]


def assert_alike(
    build: Callable[[bool], keras.Model],
    run: Callable[[keras.Model], Mapping[str, Any]],
    *,
    tolerance: float = 1e-9,
    op_by_op: int = 0,
    seed: int = 7,
) -> Outcome:
    """Checks that compiled and eager calls agree, and that the compiled ones really were compiled.

    Args:
        build: gives a model compiled with `run_eagerly` as told.
        run: makes calls; results are compared by name, as are all variables of model and optimizer.
        tolerance: of differences, relative to the largest magnitude of each array.
        op_by_op: how many steps of each kind may run op by op: those that create variables.
    """
    before = len(stats().reports)
    models, results = [], []
    for run_eagerly in (False, True):
        keras.utils.set_random_seed(seed)
        models.append(build(run_eagerly))
        results.append(dict(run(models[-1])))
    compiled, eager = models
    assert_equal(*results, tolerance)
    assert_equal(_variables(compiled), _variables(eager), tolerance)
    assert not compiled_parts(eager)
    assert_compiled(compiled, op_by_op)
    rows = [row for report in stats().reports[before:] for row in report.rows]
    on_torch = [row.fallback for row in rows if row.how == "torch (captured graph)"]
    assert not on_torch, f"a whole step ran on torch: {on_torch[0]}"
    return Outcome(compiled, eager, {row.fallback for row in rows if row.fallback})


def assert_compiled(model: keras.Model, op_by_op: int = 0) -> None:
    """All that a model's steps ran was compiled, but for so many steps of each kind."""
    parts = compiled_parts(model)
    assert parts, "nothing ran"
    for part in parts:
        assert not part.refused, f"{part.name}: {part.refused[0]}"
        assert part.counts.compiled > 0, f"{part.name} never ran compiled"
        assert part.counts.op_by_op <= op_by_op, f"{part.name}: {part.counts}"


def compiled_parts(model: keras.Model) -> list[CompiledFunction]:
    """What a model's functions ran compiled, or tried to: single steps and several in one program."""
    functions = [getattr(model, name) for name in FUNCTIONS]
    parts = [part for f in functions if f is not None for part in (f.step, f.steps)]
    compiled = [part for part in parts if isinstance(part, CompiledFunction)]
    return [part for part in compiled if part.refused or any(vars(part.counts).values())]


def assert_equal(found: Mapping[str, Any], wanted: Mapping[str, Any], tolerance: float) -> None:
    """Arrays of equal names differ by no more than `tolerance` of the largest magnitude; NaN and
    infinities are at the same places. Below 1e-3 magnitudes do not count: some gradients are zero but
    for roundings, as that of the keys' bias in attention."""
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        want, got = np.asarray(value, "float64"), np.asarray(found[name], "float64")
        scale = np.abs(want[np.isfinite(want)]).max(initial=1e-3)
        np.testing.assert_allclose(got, want, rtol=0, atol=tolerance * scale, err_msg=name)


def _variables(model: keras.Model) -> dict[str, np.ndarray]:
    """Every variable's value, by its place: names differ from model to model."""
    variables = list(model.variables)
    if model.optimizer is not None:
        variables += model.optimizer.variables
    values = (keras.ops.convert_to_numpy(variable) for variable in variables)
    return {f"variable {i}": value for i, value in enumerate(values)}


def calls(x: Any, y: Any = None, epochs: int = 2, **fit_options: Any) -> Callable[..., dict]:
    """A run of `fit`, `evaluate` and `predict` in batches of 8, as `assert_alike` takes it."""

    def run(model: keras.Model) -> dict[str, Any]:
        options = {"batch_size": 8, "verbose": 0}
        logs = model.fit(x, y, epochs=epochs, shuffle=False, **options, **fit_options).history
        tests = model.evaluate(x, y, return_dict=True, **options)
        predictions = keras.tree.flatten(model.predict(x, **options))
        return {
            **numbered("logs", logs.values()),
            **numbered("test logs", tests.values()),
            **numbered("predictions", predictions),
        }

    return run


def numbered(kind: str, values: Any) -> dict[str, Any]:
    """Values by their place: Keras numbers metrics of one kind through a process, so that their names
    differ from model to model."""
    return {f"{kind} {i}": value for i, value in enumerate(values)}
