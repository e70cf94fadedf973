"""The backend offers every function of Keras's torch backend, with the same parameters."""

import importlib
import inspect
import operator

import keras
import pytest

MODULES = [
    *(f"ops.{name}" for name in ("core", "image", "linalg", "math", "nn", "numpy")),
    "random",
    "rnn",
]
# Helpers inside torch's backend: a generator, which has no place in a captured step, and the layout
# of weights for cuDNN.
NOT_OFFERED = {"torch_seed_generator", "prepare_gru_params", "prepare_lstm_params"}


def functions(module):
    """The public functions that a module of Keras defines."""
    return {
        name: value
        for name, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == module.__name__ and name[0] != "_"
    }


@pytest.mark.parametrize("ours", MODULES)
def test_same_functions_and_parameters(ours):
    theirs = importlib.import_module(f"keras.src.backend.torch.{ours}")
    module = importlib.import_module(f"keras_triton.src.{ours}")
    expected = functions(theirs)
    assert expected
    for name in expected.keys() - NOT_OFFERED:
        function = expected[name]
        parameters = [
            (parameter.name, parameter.default, parameter.kind)
            for f in (function, getattr(module, name))
            for parameter in inspect.signature(f).parameters.values()
        ]
        half = len(parameters) // 2
        assert parameters[:half] == parameters[half:], name


def test_keras_takes_the_names_from_us():
    for name in MODULES:
        if name != "rnn":  # the name is the function's in Keras 3.15
            module = operator.attrgetter(name)(keras.src.backend)
            assert module.__name__ == f"keras_triton.src.{name}"


def test_every_name_of_the_torch_namespace_is_offered():
    theirs = importlib.import_module("keras.src.backend.torch")
    loaded_only = {"layer", "trainer", "optimizers", "export"}
    public = {name for name in vars(theirs) if name[0] != "_"} - loaded_only
    if hasattr(keras.src.backend.config, "PLUGGABLE_BACKENDS"):
        assert public <= set(vars(importlib.import_module("keras_triton.src")))
    else:
        assert public == set(importlib.import_module("keras_triton.src.namespace").flat_names())


def test_plugin_layout():
    import keras_triton.src as src

    flags = "SPARSE_TENSORS RAGGED_TENSORS COMPLEX_DTYPES GRADIENT"
    names = "ops random rnn Variable name_scope compute_output_spec device_scope distribution_lib"
    for name in [*names.split(), "IS_THREAD_SAFE", *(f"SUPPORTS_{f}" for f in flags.split())]:
        assert hasattr(src, name), name
    assert importlib.import_module("keras_triton.src.trainer").Trainer
    assert importlib.import_module("keras_triton.src.layer").BackendLayer
    assert importlib.import_module("keras_triton.src.export").SavedModelExportArchive


def test_missing_ops_raise_attribute_error():
    from keras_triton.src.ops import nn

    with pytest.raises(AttributeError):
        nn.no_such_op  # noqa: B018
