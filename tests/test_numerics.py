"""Compiled training equals op-by-op training to the roundings of float64.

Here for a few models of the zoo that share little; `python tests/numerics.py` takes all of them.
"""

import model_zoo
import numerics
import pytest

FEW = ["cnn", "encoder", "lstm", "gan", "vae", "torch_module", "clipping", "lion"]
FEW_STEPS = 5


@pytest.fixture(scope="module")
def rows():
    return {row["model"]: row for row in numerics.compare(FEW, FEW_STEPS)}


@pytest.mark.parametrize("name", FEW)
def test_compiled_training_equals_op_by_op_training_here_and_on_torch(name, rows):
    row = rows[name]
    assert row["tolerance"] == 1e-9
    compared = [key for key in row if "against" in key]
    assert len(compared) == (2 if name in model_zoo.DRAWS else 4)
    assert max(row[key] for key in compared) <= row["tolerance"], row


def test_thirty_models_are_compared():
    assert len(model_zoo.MODELS) >= 30
    assert set(numerics.EXCEPTIONS) <= set(model_zoo.MODELS)


def test_a_difference_is_relative_to_the_largest_magnitude():
    import numpy as np

    assert numerics.distance([np.array([1.0, 4.0])], [np.array([1.0, 5.0])]) == pytest.approx(0.2)
    assert numerics.distance([np.array([np.nan])], [np.array([1.0])]) == float("inf")
    assert numerics.distance([np.zeros(2)], [np.zeros(3)]) == float("inf")
    assert numerics.distance([np.zeros(2)], [np.zeros(2)]) == 0.0
