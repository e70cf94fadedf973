"""Keras 3.16 takes backends as packages ``keras_<name>``, if their name is on its list."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

from .names import PluginName


def make_known(config: Any) -> None:
    """Put the name on the list, and let Keras call its backend by it."""
    # Keras imports torch first of all for its torch backend: other libraries' symbols clash.
    import torch  # noqa: F401

    config._BACKEND = PluginName("triton")
    # Both, because they hash differently: Keras looks for its own name, users write a plain one.
    config.PLUGGABLE_BACKENDS |= {"triton", config._BACKEND}


ACTIONS: dict[str, Callable[[ModuleType], None]] = {}
