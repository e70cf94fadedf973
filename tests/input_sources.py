"""Every kind of data that `fit` takes, and a small training run on it, for any Keras backend.

`python input_sources.py NAME...` trains on the named sources under KERAS_BACKEND, op by op, and
prints what came out as one line of JSON.
"""

import json
import sys

import keras
import numpy as np
from keras import layers, ops

ROWS, WIDTH, CLASSES, BATCH = 22, 6, 3, 8  # the last batch is ragged

_numbers = np.random.default_rng(0)
X = _numbers.normal(size=(ROWS, WIDTH)).astype("float32")
Y = _numbers.integers(0, CLASSES, ROWS)
WEIGHT = _numbers.uniform(0.1, 1.0, ROWS).astype("float32")


def batches(*arrays):
    """The arrays cut into batches: tuples of arrays."""
    for at in range(0, ROWS, BATCH):
        yield tuple(array[at : at + BATCH] for array in arrays)


class Rows(keras.utils.PyDataset):
    def __init__(self, *arrays, **options):
        super().__init__(**options)
        self.batches = list(batches(*arrays))

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, index):
        return self.batches[index]


def classifier(dtype="float32"):
    inputs = keras.Input((WIDTH,), dtype=dtype)
    return _classifier(inputs, inputs)


def two_inputs():
    inputs = {name: keras.Input((WIDTH,), name=name) for name in "ab"}
    return _classifier(inputs, layers.concatenate([inputs["a"], inputs["b"]]))


def embedding(dtype):
    inputs = keras.Input((WIDTH,), dtype=dtype)
    return _classifier(inputs, layers.Flatten()(layers.Embedding(10, 4)(inputs)))


def _classifier(inputs, features):
    hidden = layers.Dense(8, activation="tanh")(features)
    outputs = layers.Dense(CLASSES, activation="softmax")(hidden)
    return keras.Model(inputs, outputs), "sparse_categorical_crossentropy"


def two_in_a_list():
    inputs = [keras.Input((WIDTH,)), keras.Input((WIDTH,))]
    return _classifier(inputs, layers.concatenate(inputs))


def two_outputs():
    inputs = keras.Input((WIDTH,))
    hidden = layers.Dense(8, activation="tanh")(inputs)
    outputs = {
        "p": layers.Dense(CLASSES, activation="softmax", name="p")(hidden),
        "q": layers.Dense(1, name="q")(hidden),
    }
    return keras.Model(inputs, outputs), {"p": "sparse_categorical_crossentropy", "q": "mse"}


class PenaltyOnly(layers.Layer):
    def call(self, x):
        self.add_loss(ops.mean(ops.square(x)))
        return x


def without_targets():
    inputs = keras.Input((WIDTH,))
    outputs = PenaltyOnly()(layers.Dense(4, activation="tanh")(inputs))
    return keras.Model(inputs, outputs), None


def frame():
    import pandas

    columns = [f"column{i}" for i in range(WIDTH)]
    return pandas.DataFrame(X, columns=columns), pandas.Series(Y, name="label")


def torch_loader(**options):
    import torch

    rows = torch.utils.data.TensorDataset(torch.from_numpy(X), torch.from_numpy(Y))
    return torch.utils.data.DataLoader(rows, batch_size=BATCH, **options)


def tensors():
    import torch

    return torch.from_numpy(X), torch.from_numpy(Y)


def tf_tensors():
    import tensorflow

    return tensorflow.constant(X), tensorflow.constant(Y)


def jax_arrays():
    import jax.numpy

    return jax.numpy.asarray(X), jax.numpy.asarray(Y)


def tf_data(data):
    import tensorflow

    return tensorflow.data.Dataset.from_tensor_slices(data).batch(BATCH)


def grain_rows():
    import grain

    return grain.MapDataset.source(list(zip(X, Y, strict=True))).batch(BATCH)


def grain_loader():
    import grain

    return grain.DataLoader(
        data_source=list(zip(X, Y, strict=True)),
        sampler=grain.samplers.IndexSampler(ROWS, num_epochs=1, shuffle=False),
        operations=[grain.transforms.Batch(BATCH)],
    )


def sparse():
    import scipy.sparse

    return scipy.sparse.csr_matrix(np.where(X > 0, X, 0))


def read_only():
    array = X.copy()
    array.flags.writeable = False
    return array


def arrays(x=X, y=Y, **options):
    return {"x": x, "y": y, "batch_size": BATCH, **options}


def ready(x, **options):
    """Data that come in batches and in an order of their own."""
    return {"x": x, "shuffle": False, **options}


# name: (packages it needs, what makes the model and its loss, what makes the arguments of `fit`)
SOURCES = {
    "arrays": ("", classifier, lambda: arrays(shuffle=False)),
    "shuffled": ("", classifier, lambda: arrays(shuffle=True)),
    "shuffled in batches": ("", classifier, lambda: arrays(shuffle="batch")),
    "sample weights": ("", classifier, lambda: arrays(sample_weight=WEIGHT)),
    "class weights": ("", classifier, lambda: arrays(class_weight={0: 1.0, 1: 2.0, 2: 0.5})),
    "validation split": ("", classifier, lambda: arrays(validation_split=0.3)),
    "validation data": (
        "",
        classifier,
        lambda: arrays(validation_data=(X[:5], Y[:5], WEIGHT[:5]), validation_batch_size=3),
    ),
    "steps": ("", classifier, lambda: arrays(steps_per_epoch=2, shuffle=False)),
    "no targets": ("", without_targets, lambda: arrays(y=None)),
    "dictionary": ("", two_inputs, lambda: arrays({"a": X, "b": -X})),
    "list": ("", two_in_a_list, lambda: arrays([X, -X])),
    "several outputs": (
        "",
        two_outputs,
        lambda: arrays(y={"p": Y, "q": WEIGHT}, sample_weight={"p": WEIGHT, "q": WEIGHT}),
    ),
    "float64": ("", classifier, lambda: arrays(X.astype("float64"))),
    "float16": ("", classifier, lambda: arrays(X.astype("float16"))),
    "int64": ("", lambda: embedding("int64"), lambda: arrays((X > 0).astype("int64"))),
    "uint8": ("", lambda: embedding("uint8"), lambda: arrays((X > 0).astype("uint8"))),
    "bool": ("", lambda: classifier("bool"), lambda: arrays(X > 0)),
    "integers to floats": ("", classifier, lambda: arrays((9 * X).astype("int32"))),
    "not contiguous": ("", classifier, lambda: arrays(np.asfortranarray(X)[:, ::-1])),
    "read-only": ("", classifier, lambda: arrays(read_only())),
    "data frame": ("pandas", classifier, lambda: arrays(*frame())),
    "sparse matrix": ("scipy", classifier, lambda: arrays(sparse())),
    "tensors": ("torch", classifier, lambda: arrays(*tensors())),
    "tensors of tensorflow": ("tensorflow", classifier, lambda: arrays(*tf_tensors())),
    "arrays of jax": ("jax", classifier, lambda: arrays(*jax_arrays())),
    "loader": ("torch", classifier, lambda: ready(torch_loader())),
    "loader with workers": ("torch", classifier, lambda: ready(torch_loader(num_workers=2))),
    "tf.data": ("tensorflow", classifier, lambda: ready(tf_data((X, Y)))),
    "tf.data with weights": ("tensorflow", classifier, lambda: ready(tf_data((X, Y, WEIGHT)))),
    "tf.data of dictionaries": (
        "tensorflow",
        two_inputs,
        lambda: ready(tf_data(({"a": X, "b": -X}, Y))),
    ),
    "tf.data with class weights": (
        "tensorflow",
        classifier,
        lambda: ready(tf_data((X, Y)), class_weight={0: 1.0, 1: 2.0, 2: 0.5}),
    ),
    "grain": ("grain", classifier, lambda: ready(grain_rows())),
    "grain loader": ("grain", classifier, lambda: ready(grain_loader())),
    "dataset": ("", classifier, lambda: {"x": Rows(X, Y)}),
    "dataset with weights": ("", classifier, lambda: {"x": Rows(X, Y, WEIGHT)}),
    "dataset in threads": ("", classifier, lambda: ready(Rows(X, Y, workers=2))),
    "dataset in processes": (
        "",
        classifier,
        lambda: ready(Rows(X, Y, workers=2, use_multiprocessing=True)),
    ),
    "generator": ("", classifier, lambda: ready(batches(X, Y), epochs=1)),
    "generator with weights": ("", classifier, lambda: ready(batches(X, Y, WEIGHT), epochs=1)),
    "generator without targets": ("", without_targets, lambda: ready(batches(X), epochs=1)),
    "generator in epochs": (
        "",
        classifier,
        lambda: ready((b for _ in range(3) for b in batches(X, Y)), steps_per_epoch=3),
    ),
}


def train(name, **compile_options):
    """The model, and history and predictions of a run on the named source as plain numbers."""
    _, make, arguments = SOURCES[name]
    model, loss = make()
    numbers = np.random.default_rng(1)
    for weight in model.weights:
        weight.assign(numbers.normal(0.0, 0.3, weight.shape).astype("float32"))
    metrics = ["accuracy"] if loss == "sparse_categorical_crossentropy" else None
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
    model.compile(optimizer, loss, metrics=metrics, **compile_options)
    keras.utils.set_random_seed(7)
    options = {"epochs": 2, "verbose": 0, **arguments()}
    seen = {"history": model.fit(**options).history}
    data = {k: v for k, v in arguments().items() if k in ("x", "batch_size")}
    predicted = model.predict(**data, verbose=0)
    seen["predicted"] = [part.tolist() for part in keras.tree.flatten(predicted)]
    return model, seen


if __name__ == "__main__":
    print(json.dumps({name: train(name, run_eagerly=True)[1] for name in sys.argv[1:]}))
