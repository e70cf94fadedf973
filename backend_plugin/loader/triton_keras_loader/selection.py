"""Loaded when Keras has read its configuration: makes the backend known if that names it."""

import sys
from collections.abc import Callable
from types import ModuleType

from . import changes, keras_3_15, keras_3_16
from .environment import check_environment


def select_backend() -> dict[str, Callable[[ModuleType], None]]:
    """What is done with Keras's modules once they have run; nothing if another backend is selected.

    Raises:
        ImportError: the backend is selected, but the environment is not fit for it.
    """
    config = sys.modules.get("keras.src.backend.config")
    if config is None or str.__str__(config._BACKEND) != "triton":
        return {}
    check_environment()
    version = keras_3_16 if hasattr(config, "PLUGGABLE_BACKENDS") else keras_3_15
    version.make_known(config)
    return {**changes.ACTIONS, **version.ACTIONS}
