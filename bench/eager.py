"""What the same train step takes at its peak when Keras on torch runs it op by op.

`python -m keras_triton.bench.eager MODEL..` prints a JSON object: model -> bytes. Floating-point variables
and the batch are fake tensors, which have shapes but no memory, so a model of any size is measured in
seconds. Counted are the distinct storages that are alive after any op: parameters, optimizer state, the
batch, gradients, what autograd keeps and what an op makes. What an op allocates and frees itself does
not count, nor does padding of an allocator. It is the second of two steps, when the gradients of the
first still exist, as in every later one.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import weakref
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode


def eager_peaks(models: Sequence[str]) -> dict[str, int]:
    """The peak of each model's train step in bytes, measured in a process of its own: Keras fixes its
    backend at import.
    """
    command = [sys.executable, "-m", __spec__.name, *models]
    environment = {**os.environ, "KERAS_BACKEND": "torch"}
    run = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(run.stdout.splitlines()[-1])


class LiveBytes(TorchDispatchMode):
    """Counts the storages that ops read and make, from when they are first seen until they are freed.

    Attributes:
        live, peak: bytes now, and the most since it was last set.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._seen: dict[int, int] = {}

    def see(self, tensors: Iterable[torch.Tensor]) -> None:
        for tensor in tensors:
            storage = tensor.untyped_storage()
            address = storage._cdata
            if address not in self._seen:
                self._seen[address] = storage.nbytes()
                self.live += storage.nbytes()
                weakref.finalize(storage, self._forget, address)
        self.peak = max(self.peak, self.live)

    def _forget(self, address: int) -> None:
        self.live -= self._seen.pop(address)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        leaves = pytree.tree_leaves((args, kwargs, result))
        self.see(leaf for leaf in leaves if isinstance(leaf, torch.Tensor))
        return result


def peak_of_step(name: str) -> int:
    """The bytes of a model's train step, in a process where Keras runs on torch."""
    import keras
    from torch._subclasses.fake_tensor import FakeTensorMode

    from .blocks import example

    fake = FakeTensorMode(allow_non_fake_inputs=True)
    model, *batch = example(name)
    data = keras.tree.map_structure(keras.ops.convert_to_tensor, tuple(batch))
    model._symbolic_build(data_batch=data)
    variables = [*model.variables, *model.optimizer.variables]
    for variable in variables:
        # Seeds stay real: torch's generators want their values.
        if variable._value.is_floating_point():
            variable._value = fake.from_tensor(variable._value)
    data = keras.tree.map_structure(fake.from_tensor, data)
    with LiveBytes() as count:
        count.see([variable._value for variable in variables])
        count.see(keras.tree.flatten(data))
        for _ in range(2):
            gc.collect()
            count.peak = 0
            model.train_step(data)
    return count.peak


if __name__ == "__main__":
    print(json.dumps({name: peak_of_step(name) for name in sys.argv[1:]}))
