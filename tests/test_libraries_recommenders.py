"""keras-rs, unmodified: crossed and dotted features, distributed embeddings, ranking, retrieval."""

import keras
import numpy as np
import pytest

pytest.importorskip("keras_rs", reason="keras-rs is not installed")

import recommender_models as models

import keras_triton

CASES = {
    "clicks": models.clicks,
    "distributed": models.distributed,
    "retrieval": models.retrieval,
    **{loss: lambda loss=loss: models.ranking(loss) for loss in models.LOSSES},
}


@pytest.mark.parametrize("name", CASES)
def test_trains_as_op_by_op(name):
    """Losses and metrics of two epochs."""
    histories = []
    for eager in (False, True):
        keras.utils.set_random_seed(0)
        model, x, y = CASES[name]()
        model.run_eagerly = eager
        options = {"batch_size": 4, "epochs": 2, "shuffle": False, "verbose": 0}
        histories.append(model.fit(x, y, **options).history)
        if not eager:
            calls = vars(model.train_function.step.counts)
            report = keras_triton.stats().reports[-1]
    for key, values in histories[0].items():
        # Sums in another order; a metric may count a tie the other way only if scores differ.
        np.testing.assert_allclose(values, histories[1][key], rtol=1e-5, err_msg=key)
    # A layer that only the loss uses is built by the first step, op by op.
    assert calls["captures"] == 1
    assert calls["compiled"] >= 5
    assert report.step == "train_step"
    assert not any("captured graph" in row.how for row in report.rows)
    assert not report.fallbacks


def test_nearest_items_are_found():
    keras_rs = pytest.importorskip("keras_rs")
    items = np.random.default_rng(0).normal(size=(9, 4)).astype("float32")
    retrieve = keras_rs.layers.BruteForceRetrieval(items, k=3)
    model = keras.Sequential([keras.Input((4,)), retrieve])
    _, found = model.predict(items[:2], verbose=0)
    expected = np.argsort(-items[:2] @ items.T, axis=1)[:, :3]
    np.testing.assert_array_equal(found, expected)
    assert model.predict_function.step.counts.compiled == 1
