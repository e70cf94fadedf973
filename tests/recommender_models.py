"""Small models of keras-rs: rankers of clicks and of lists, and retrieval; with data for them."""

from typing import Any

import keras
import keras_rs
import numpy as np
from keras import layers, ops

ROWS = 12
LIST = 5
LOSSES = (
    "ListMLELoss",
    "PairwiseHingeLoss",
    "PairwiseLogisticLoss",
    "PairwiseMeanSquaredError",
    "PairwiseSoftZeroOneLoss",
)
METRICS = ("DCG", "MeanAveragePrecision", "MeanReciprocalRank", "NDCG", "PrecisionAtK", "RecallAtK")


def clicks() -> tuple[keras.Model, Any, np.ndarray]:
    """Numbers, a category and a bag of words: crossed, dotted, reduced; clicked or not."""
    numbers = keras.Input((4,), name="numbers")
    category = keras.Input((), dtype="int32", name="category")
    words = keras.Input((3,), dtype="int32", name="words")
    dense = layers.Dense(6, activation="relu")(numbers)
    one = layers.Embedding(10, 6)(category)
    bag = keras_rs.layers.EmbedReduce(20, 6, combiner="mean")(words)
    dotted = keras_rs.layers.DotInteraction()([dense, one, bag])
    joined = layers.Concatenate()([dense, one, bag])
    crossed = keras_rs.layers.FeatureCross(projection_dim=4)(joined)
    crossed = keras_rs.layers.FeatureCross(projection_dim=4)(joined, crossed)
    top = layers.Concatenate()([crossed, dotted])
    model = keras.Model([numbers, category, words], layers.Dense(1)(top))
    model.compile(
        keras.optimizers.Adagrad(0.1),
        keras.losses.BinaryCrossentropy(from_logits=True),
        metrics=["auc"],
    )
    generator = np.random.default_rng(0)
    x = {
        "numbers": generator.normal(size=(ROWS, 4)).astype("float32"),
        "category": generator.integers(0, 10, ROWS),
        "words": generator.integers(0, 20, (ROWS, 3)),
    }
    return model, x, generator.integers(0, 2, ROWS)


def distributed() -> tuple[keras.Model, Any, np.ndarray]:
    """Two features in one table and one in another, by `DistributedEmbedding`."""

    def feature(name: str, table: Any, width: int) -> Any:
        return keras_rs.layers.FeatureConfig(
            name=name, table=table, input_shape=(ROWS // 3, width), output_shape=(ROWS // 3, 4)
        )

    tables = [
        keras_rs.layers.TableConfig(
            name=name, vocabulary_size=10, embedding_dim=4, combiner=combiner
        )
        for name, combiner in (("items", "sum"), ("users", "mean"))
    ]
    features = {
        "seen": feature("seen", tables[0], 3),
        "bought": feature("bought", tables[0], 2),
        "user": feature("user", tables[1], 1),
    }
    widths = {"seen": 3, "bought": 2, "user": 1}
    inputs = {
        name: keras.Input((width,), dtype="int32", name=name) for name, width in widths.items()
    }
    embedded = keras_rs.layers.DistributedEmbedding(features)(inputs)
    joined = layers.Concatenate()([embedded[name] for name in sorted(embedded)])
    model = keras.Model(inputs, layers.Dense(1)(joined))
    model.compile("sgd", "mse")
    generator = np.random.default_rng(0)
    x = {name: generator.integers(0, 10, (ROWS, width)) for name, width in widths.items()}
    return model, x, generator.normal(size=(ROWS, 1)).astype("float32")


def ranking(loss: str) -> tuple[keras.Model, np.ndarray, np.ndarray]:
    """Scores for lists of items, trained by a listwise loss and judged by every ranking metric."""
    model = keras.Sequential(
        [
            keras.Input((LIST, 4)),
            layers.Dense(8, activation="relu"),
            layers.Dense(1),
            layers.Reshape((LIST,)),
        ]
    )
    metrics = [getattr(keras_rs.metrics, name)(k=3, name=name.lower()) for name in METRICS]
    model.compile("adam", getattr(keras_rs.losses, loss)(), metrics=metrics)
    generator = np.random.default_rng(0)
    x = generator.normal(size=(ROWS, LIST, 4)).astype("float32")
    return model, x, generator.integers(0, 2, (ROWS, LIST)).astype("float32")


class TwoTowers(keras.Model):
    """Users and items in one space: a softmax over the items of a batch, corrected."""

    def __init__(self) -> None:
        super().__init__()
        self.users, self.items = layers.Embedding(10, 4), layers.Embedding(10, 4)
        self.correct = keras_rs.layers.SamplingProbabilityCorrection()
        self.drop_hits = keras_rs.layers.RemoveAccidentalHits()
        self.hardest = keras_rs.layers.HardNegativeMining(num_hard_negatives=2)

    def build(self, shape: Any) -> None:
        self.users.build(())
        self.items.build(())

    def call(self, x: Any) -> Any:
        return ops.matmul(self.users(x["user"]), ops.transpose(self.items(x["item"])))

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True) -> Any:
        labels = ops.eye(y_pred.shape[0])
        logits = self.correct(y_pred, x["probability"])
        logits = self.drop_hits(logits, labels, x["item"])
        logits, labels = self.hardest(logits, labels)
        return ops.mean(keras.losses.categorical_crossentropy(labels, logits, from_logits=True))


def retrieval() -> tuple[keras.Model, Any, np.ndarray]:
    model = TwoTowers()
    model.compile("adam")
    generator = np.random.default_rng(0)
    x = {
        "user": generator.integers(0, 10, ROWS),
        "item": generator.integers(0, 10, ROWS),
        "probability": generator.uniform(0.1, 0.9, ROWS).astype("float32"),
    }
    return model, x, np.zeros(ROWS, "float32")
