"""The steps of an epoch, each copied to the device while it computes the one before.

Keras's loop asks for the next step after the callbacks of this one, and some callbacks wait for the
device. So the next step is read, and its copy begun, as soon as this one is launched; whoever
launches it says so by `StepBatches.launched`. Without that call steps are read when asked for.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from keras.src import tree

Batches = list[Any]
Step = tuple[int, int, Batches]
"""First batch number, last batch number, and the batches, as Keras's epoch iterator yields them."""

StartCopy = Callable[[Batches], Callable[[], Batches]]
"""Begins to copy batches; the function that it returns gives them, ready to compute with."""


class StepBatches(list[Any]):
    """The batches of one step.

    Attributes:
        launched: called when their step is on its way.
        varies: whether batches of this epoch are known to differ in size.
    """

    def __init__(
        self,
        batches: Batches,
        launched: Callable[[], None] = lambda: None,
        *,
        varies: bool = False,
    ) -> None:
        super().__init__(batches)
        self.launched, self.varies = launched, varies


class Prefetcher(Iterator[Step]):
    """Yields `steps` in order, at most one read ahead.

    Args:
        steps: the steps of one epoch, in host memory.
        start_copy: how their batches get to the device.
        more: whether, after the batch of that number, another step of this epoch may be read before
            it is asked for.
        varies: whether their batches are known to differ in size.

    What `steps` raises, its end included, comes when its turn has come: after the last step that
    was read in good order.
    """

    def __init__(
        self,
        steps: Iterator[Step],
        start_copy: StartCopy,
        more: Callable[[int], bool],
        *,
        varies: bool = False,
    ) -> None:
        self._steps, self._start_copy, self._more = steps, start_copy, more
        self._varies = varies
        self._ahead: tuple[int, int, Callable[[], Batches]] | Exception | None = None

    def __next__(self) -> Step:
        step = self._read() if self._ahead is None else self._ahead
        self._ahead = None
        if isinstance(step, Exception):
            raise step
        begin, end, batches = step
        launched = functools.partial(self._read_ahead, end)
        return begin, end, StepBatches(batches(), launched, varies=self._varies)

    def _read_ahead(self, end: int) -> None:
        if self._ahead is None and self._more(end):
            self._ahead = self._read()

    def _read(self) -> tuple[int, int, Callable[[], Batches]] | Exception:
        try:
            begin, end, batches = next(self._steps)
            return begin, end, self._start_copy(batches)
        except Exception as error:
            return error


class SideStream:
    """Copies to a CUDA device from page-locked memory, on a stream beside the one that computes."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream = torch.cuda.Stream(device)

    def __call__(self, batches: Batches) -> Callable[[], Batches]:
        with torch.cuda.stream(self.stream):
            moved = tree.map_structure(self._move, batches)
            copied = self.stream.record_event()

        def ready() -> Batches:
            computing = torch.cuda.current_stream(self.device)
            computing.wait_event(copied)
            for leaf in tree.flatten(moved):
                if isinstance(leaf, torch.Tensor) and leaf.is_cuda:
                    # Else the memory could go to the next copy while this step still reads it.
                    leaf.record_stream(computing)
            return moved

        return ready

    def _move(self, leaf: Any) -> Any:
        if isinstance(leaf, torch.Tensor) and leaf.device.type == "cpu":
            return leaf.pin_memory().to(self.device, non_blocking=True)
        return leaf
