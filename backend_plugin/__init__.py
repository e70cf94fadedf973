"""keras-triton: a Keras 3 backend that compiles whole steps to fused kernels.

Importing this package only makes ``KERAS_BACKEND=triton`` work, in case Python started without
reading ``.pth`` files (``python -S``, an install on ``PYTHONPATH``); import it before Keras then.
``explain``, ``jit``, ``stats``, ``verify`` and ``pipeline`` are loaded when they are first asked for.
"""

from typing import Any

import triton_keras_loader

__version__ = "0.1.0"

triton_keras_loader.install()


_LAZY = {"explain": "explanation", "jit": "jitted", "stats": "journal", "verify": "verification"}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name == "pipeline":
        return import_module(f"{__name__}.pipeline")
    if name in _LAZY:
        return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
