"""Ways to train: noise, many losses and weights, penalties, control flow, LoRA, torch modules."""

import keras
import torch
from keras import layers, losses, ops, optimizers

from model_zoo.data import BATCH, BATCHES, batches_of, classes, classifier, crossentropy, normal
from model_zoo.registry import model


@model(draws=True)
def noisy(random):
    parts = [
        layers.GaussianNoise(0.1, seed=1),
        layers.Dense(8, activation="relu"),
        layers.Dropout(0.3, seed=2),
        layers.AlphaDropout(0.1, seed=3),
    ]
    return classifier(random, parts, (5,))


@model
def towers(random):
    """Named inputs and outputs, shared layers, weights for losses and samples, metrics."""
    left, right = keras.Input((3,), name="left"), keras.Input((3,), name="right")
    shared = layers.Dense(4, activation="softplus")
    both = [shared(left), shared(right)]
    outputs = {
        "near": layers.Dot(1, normalize=True, name="near")(both),
        "kind": layers.Dense(4, name="kind")(layers.Average()(both)),
    }
    made = keras.Model({"left": left, "right": right}, outputs)
    made.compile(
        optimizers.Adam(0.01),
        {"near": "mae", "kind": crossentropy()},
        loss_weights={"near": 0.3, "kind": 1.0},
        metrics={"kind": ["accuracy"]},
    )
    x, near, kind = normal(random, 3), normal(random, 1), classes(random, 4)

    def weights():
        return random.uniform(size=BATCH).astype(keras.config.floatx())

    batches = [
        (
            {"left": x(), "right": x()},
            {"near": near(), "kind": kind()},
            {"near": weights(), "kind": weights()},
        )
        for _ in range(BATCHES)
    ]
    return made, batches


@model
def regularized(random):
    """Regularizers, constraints, an activity penalty, label smoothing."""
    made = keras.Sequential(
        [
            keras.Input((5,)),
            layers.Dense(6, "mish", kernel_regularizer="l1l2", kernel_constraint="max_norm"),
            layers.ActivityRegularization(l2=0.01),
            layers.Dense(4, "softmax", kernel_constraint=keras.constraints.UnitNorm()),
        ]
    )
    loss = losses.CategoricalCrossentropy(label_smoothing=0.1)
    made.compile(optimizers.SGD(0.1), loss, metrics=["auc", "f1_score"])
    batches = batches_of(normal(random, 5), classes(random, 4))
    return made, [(x, keras.utils.to_categorical(y, 4).astype(x.dtype)) for x, y in batches]


class Gate(layers.Layer):
    """A branch on the data, a loop, and a count of the branch taken."""

    def build(self, input_shape):
        self.taken = self.add_weight(shape=(), initializer="zeros", trainable=False, name="taken")

    def call(self, x):
        def double():
            self.taken.assign_add(1.0)
            return x * 2.0

        x = ops.cond(ops.sum(x) > 0.0, double, lambda: x - 1.0)
        return ops.fori_loop(0, 3, lambda i, value: ops.tanh(value) + 0.1, x)


@model
def control_flow(random):
    parts = [layers.Dense(5), Gate()]
    return classifier(random, parts, (5,), optimizers.SGD(0.1))


@model
def low_rank(random):
    dense = layers.Dense(6, activation="relu")
    made, batches = classifier(random, [dense], (5,), optimizers.SGD(0.1))
    dense.enable_lora(2)
    made.compile(optimizers.Adam(0.01), crossentropy())
    return made, batches


@model
def torch_module(random):
    """A torch module with buffers inside of a Keras model."""
    module = torch.nn.Sequential(
        torch.nn.Linear(5, 6, bias=False), torch.nn.BatchNorm1d(6), torch.nn.Tanh()
    ).to(getattr(torch, keras.config.floatx()))
    wrapped = layers.TorchModuleWrapper(module, output_shape=(None, 6))
    return classifier(random, [wrapped], (5,), optimizers.SGD(0.1, momentum=0.5))
