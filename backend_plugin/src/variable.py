"""Variables: torch parameters, or traced tensors that a ``StatelessScope`` puts in their place."""

from typing import Any

import ml_dtypes
import numpy as np
import torch
from keras.src.backend.torch.ops.core import Variable as TorchVariable


class Variable(TorchVariable):
    """A Keras variable that NumPy and other array libraries take as the array it holds."""

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """The value as an array: a copy, or the variable's own memory for ``copy=False``.

        Raises:
            ValueError: ``copy=False`` for a value on another device, or in another dtype.
        """
        value = self.value.detach()
        half = value.dtype == torch.bfloat16  # which torch cannot hand to NumPy
        array = (value.float() if half else value).cpu().numpy()
        wanted = np.dtype(dtype or (ml_dtypes.bfloat16 if half else array.dtype))
        if copy is not False:
            return np.array(array, wanted)
        if half or value.device.type != "cpu" or wanted != array.dtype:
            raise ValueError(
                f"{self.path}, a {value.dtype} on {value.device}, cannot be read as {wanted} without a "
                "copy"
            )
        return array

    def __dlpack__(self, **options: Any) -> Any:
        """The variable's memory, shared: what is written on one side shows on the other."""
        return self.value.detach().__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.value.__dlpack_device__()


__all__ = ["Variable"]
