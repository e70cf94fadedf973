"""Where the batches of an epoch come from: on a GPU, one step ahead of the computation."""

import functools
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from keras.src import tree
from keras.src.backend.torch.ops.core import convert_to_tensor, device_scope, get_device
from keras.src.backend.torch.trainer import TorchEpochIterator
from keras.src.trainers.data_adapters.array_data_adapter import ArrayDataAdapter
from keras.src.trainers.data_adapters.data_adapter import DataAdapter
from keras.src.trainers.data_adapters.generator_data_adapter import GeneratorDataAdapter
from keras.src.trainers.data_adapters.py_dataset_adapter import PyDatasetAdapter
from keras.src.trainers.data_adapters.tf_dataset_adapter import TFDatasetAdapter

from keras_triton.prefetch import Prefetcher, SideStream, StartCopy, Step, StepBatches


class EpochIterator(TorchEpochIterator):
    """Keras's iterator over the steps of an epoch; on a CUDA device it copies one step ahead.

    A Python generator is never read before its batch is asked for: the caller sees how far it was
    read. Other sources are read one step ahead, but not past the last step of an epoch.
    """

    def __iter__(self) -> Iterator[Step]:
        super().__iter__()
        start_copy, varies = copy_to_device(), self._varies()
        if start_copy is not None:
            return Prefetcher(self, start_copy, self._more, varies=varies)
        return self._steps(varies=varies)

    def _steps(self, *, varies: bool) -> Iterator[Step]:
        while True:
            try:
                begin, end, batches = next(self)
            except StopIteration:
                return
            yield begin, end, StepBatches(batches, varies=varies)

    def _varies(self) -> bool:
        """Whether the last batch is known to be smaller than the others."""
        if self.num_batches == 1:
            return False
        try:
            return self.data_adapter.has_partial_batch is True
        except NotImplementedError:  # adapters of generators do not say
            return False

    def _interrupted_warning(self) -> None:
        # Nothing is missing where fewer batches than `steps_per_execution` are left at the end.
        batches = self.data_adapter.num_batches
        if self.steps_per_epoch or batches is None or self._steps_seen < batches:
            super()._interrupted_warning()

    def _more(self, batch: int) -> bool:
        if isinstance(self.data_adapter, GeneratorDataAdapter):
            return False
        return self.num_batches is None or batch + 1 < self.num_batches

    def _get_iterator(self) -> Iterable[Any]:
        if copy_to_device() is None:
            return super()._get_iterator()
        return host_batches(self.data_adapter)


def copy_to_device() -> StartCopy | None:
    """How batches get from host memory to Keras's device; None where there is nothing to copy."""
    device = torch.device(get_device())
    return _side_stream(device) if device.type == "cuda" else None


@functools.cache
def _side_stream(device: torch.device) -> SideStream:
    return SideStream(device)


def host_batches(adapter: DataAdapter) -> Iterable[Any]:
    """The batches that `adapter.get_torch_dataloader()` gives, but left in host memory.

    Tensors that the user put on a device stay there.
    """
    # Code of the user's runs in these two: it must not see Keras's device changed.
    if isinstance(adapter, GeneratorDataAdapter):
        return map(_host_batch, adapter.generator())
    if isinstance(adapter, PyDatasetAdapter):
        return map(_host_batch, adapter._get_iterator())
    if isinstance(adapter, TFDatasetAdapter) or _in_host_memory(adapter):
        return _with_host_as_device(adapter.get_torch_dataloader())
    return adapter.get_torch_dataloader()


def _in_host_memory(adapter: DataAdapter) -> bool:
    return isinstance(adapter, ArrayDataAdapter) and not any(
        isinstance(array, torch.Tensor) and array.device.type != "cpu"
        for array in tree.flatten(adapter._inputs)
    )


def _with_host_as_device(batches: Iterable[Any]) -> Iterator[Any]:
    # Begun at once, as without us: a loader draws from torch's random numbers when it begins.
    iterator = iter(batches)

    def read() -> Iterator[Any]:
        while True:
            with device_scope("cpu"):
                try:
                    batch = next(iterator)
                except StopIteration:
                    return
            yield batch

    return read()


def _host_batch(batch: Any) -> Any:
    return tree.map_structure(_host_tensor, batch, none_is_leaf=False)


def _host_tensor(leaf: Any) -> Any:
    if isinstance(leaf, torch.Tensor):
        return leaf
    with device_scope("cpu"):
        return convert_to_tensor(leaf)
