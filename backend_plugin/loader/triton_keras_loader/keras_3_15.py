"""Keras 3.15 chooses its backend by name in a dozen modules and has no hook for others.

So torch's branches are taken, and find our classes and functions in place of torch's. keras_triton
is written for the names of Keras 3.16, which 3.15 gets here beside its own.
"""

import sys
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any

from .names import BackendName

OPS_MODULES = ("core", "image", "linalg", "math", "nn", "numpy")
# module: the name a class has in Keras 3.16, and in 3.15
NEW_NAMES = {
    "keras.src.backend.torch.export": ("SavedModelExportArchive", "TorchExportArchive"),
    "keras.src.backend.torch.trainer": ("Trainer", "TorchTrainer"),
    "keras.src.trainers.trainer": ("BaseTrainer", "Trainer"),
}


def make_known(config: Any) -> None:
    """Let Keras call its backend by our name."""
    config._BACKEND = BackendName("triton")


def give_new_name(module: ModuleType) -> None:
    new, old = NEW_NAMES[module.__name__]
    setattr(module, new, getattr(module, old))


def replace_trainer(module: Any) -> None:
    """Put our trainer where Keras imports torch's from."""
    give_new_name(module)
    module.TorchTrainer = import_module("keras_triton.src.trainer").Trainer


def replace_namespace(module: ModuleType) -> None:
    """Put our ops where Keras takes ``keras.backend`` and ``keras.ops`` from."""
    ops = ModuleType(f"{module.__name__}.ops")
    sys.modules[ops.__name__] = ops
    for name in OPS_MODULES:
        part = sys.modules[f"{module.__name__}.{name}"]
        sys.modules[f"{ops.__name__}.{name}"] = part
        setattr(ops, name, part)
    for name, value in import_module("keras_triton.src.namespace").flat_names().items():
        setattr(module, name, value)
    # The base of keras.Variable is taken from there, and not from the namespace.
    core = sys.modules[f"{module.__name__}.core"]
    setattr(core, "Variable", getattr(module, "Variable"))  # noqa: B009, B010


ACTIONS: dict[str, Callable[[ModuleType], None]] = {
    **dict.fromkeys(NEW_NAMES, give_new_name),
    "keras.src.backend.torch": replace_namespace,
    "keras.src.backend.torch.trainer": replace_trainer,
}
