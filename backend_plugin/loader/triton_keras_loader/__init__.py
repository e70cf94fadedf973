"""Makes ``KERAS_BACKEND=triton`` select keras_triton in an unmodified Keras 3.15 or 3.16.

Python runs ``install()`` at startup (through ``keras_triton.pth``); so does ``import keras_triton``.
It adds an import finder that does nothing until Keras itself has read ``KERAS_BACKEND`` and
``keras.json`` and found "triton" there. Then

1. the backend's name becomes a ``BackendName``, which equals both "triton" and "torch": every
   branch for torch tensors, in Keras and in libraries on top of it, is right for us too;
2. Keras takes the parts of a backend from us: 3.16 by its plugin protocol, 3.15, which has none, by
   replaced modules and classes of its torch backend;
3. what neither version lets a backend choose is changed right after its module has run.

The package's name must not start with "keras": ``keras.config.set_backend`` forgets such modules,
and the finder has to outlive that. Nothing here imports more than ``sys`` before Keras is loaded,
because every Python process of the environment runs this file.
"""

from .finder import FINDER, install

__all__ = ["FINDER", "install"]
