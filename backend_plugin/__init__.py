"""keras-triton: a Keras 3 backend that compiles whole steps to fused kernels.

Importing this package only makes ``KERAS_BACKEND=triton`` work, in case Python started without
reading ``.pth`` files (``python -S``, an install on ``PYTHONPATH``); import it before Keras then.
"""

import triton_keras_loader

__version__ = "0.1.0"

triton_keras_loader.install()
