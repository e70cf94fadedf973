"""The backend's names as Keras 3.15 wants them: flat, in ``keras.src.backend``.

Among them is ``ops``, where Keras 3.16 has them, so that ours serves both.
"""

from types import ModuleType

from keras_triton import src

from . import random, rnn, tensorboard
from .ops import core, image, linalg, math, nn, numpy
from .variable import Variable

MODULES = (core, image, linalg, math, nn, numpy)
FROM_CORE = (
    "IS_THREAD_SAFE",
    "SUPPORTS_COMPLEX_DTYPES",
    "SUPPORTS_RAGGED_TENSORS",
    "SUPPORTS_SPARSE_TENSORS",
    "cast",
    "compute_output_spec",
    "cond",
    "convert_to_numpy",
    "convert_to_tensor",
    "device_scope",
    "is_tensor",
    "random_seed_dtype",
    "scatter",
    "shape",
    "stop_gradient",
    "to_torch_dtype",
    "vectorized_map",
)
FROM_RNN = ("bidirectional_gru", "bidirectional_lstm", "cudnn_ok", "gru", "lstm", "rnn")


def flat_names() -> dict[str, object]:
    """What replaces the names of ``keras.src.backend.torch``."""
    modules: dict[str, ModuleType] = {
        module.__name__.rpartition(".")[2]: module for module in (*MODULES, random)
    }
    return {
        **modules,
        **{name: getattr(core, name) for name in FROM_CORE},
        **{name: getattr(rnn, name) for name in FROM_RNN},
        "Variable": Variable,
        "tensorboard": tensorboard,
        "name_scope": src.name_scope,
        "ops": src.ops,
    }
