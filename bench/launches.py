"""The launches of a plan one by one, and which are a block's own: those with an op of its layers.

The head behind a block (pooling, logits), loss, metrics and the optimizer are not the block.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from .blocks import HEAD

if TYPE_CHECKING:
    from keras_triton.lowering.plan import Plan


@dataclass(frozen=True)
class Launch:
    """One launch of a step.

    Attributes:
        kernel: its name, "copy" for a copy.
        kind: "loop", "multi" or a template's name; "" for calls of torch and copies.
        layers: the Keras layers whose ops it holds.
        times: how often it runs.
        bytes: that it moves each time.
    """

    kernel: str
    kind: str
    layers: tuple[str, ...]
    times: int
    bytes: int

    @property
    def own(self) -> bool:
        """Whether it belongs to the block; one that names no layer does."""
        return not self.layers or any(layer.split("/")[0] not in HEAD for layer in self.layers)


def launches_of(plan: Plan) -> Iterator[Launch]:
    """The launches of a plan in order, one that runs in a loop once."""
    from mlir import ir

    from keras_triton.lowering.plan import Copy, walk
    from keras_triton.lowering.region import kernel_kind
    from keras_triton.lowering.work import cost_of

    for item, times in walk(plan.steps):
        moved = cost_of(item, plan).bytes
        if isinstance(item, Copy):
            yield Launch("copy", "", (), times or 1, moved)
            continue
        function = plan.kernels[item.kernel]
        attributes = function.operation.attributes
        layers = ir.ArrayAttr(attributes["keras.layers"]) if "keras.layers" in attributes else ()
        names = tuple(ir.StringAttr(layer).value for layer in layers)
        yield Launch(item.kernel, kernel_kind(function), names, times or 1, moved)


def show_launches(model: str, target: str, launches: Sequence[Launch], console: Console) -> None:
    own = sum(launch.times for launch in launches if launch.own)
    title = f"{model} on {target}: {own} launches of the block's own"
    table = Table(title=title, title_justify="left")
    for column in ("launch", "kind", "layers", "times", "kB", "own"):
        table.add_column(column)
    for launch in launches:
        table.add_row(
            launch.kernel,
            launch.kind or "torch",
            ", ".join(launch.layers),
            str(launch.times),
            f"{launch.bytes / 1e3:.1f}",
            "yes" if launch.own else "",
        )
    console.print(table)
