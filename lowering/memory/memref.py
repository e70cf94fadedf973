"""Pieces of memory in a plan's text: memrefs that are contiguous, and the views taken of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..linalg.write import Writer, groups_text, refinement
from ..mlir import TensorType


@dataclass(frozen=True)
class Memref:
    """A contiguous, row-major piece of memory.

    Attributes:
        name: its SSA name.
        type: shape and dtype.
        offset: elements from where its allocation begins, None where only the run will tell.
    """

    name: str
    type: TensorType
    offset: int | None = 0

    @property
    def text(self) -> str:
        """Its MLIR type."""
        inner = str(self.type).removeprefix("tensor<").removesuffix(">")
        if self.offset == 0:
            return f"memref<{inner}>"
        offset = "?" if self.offset is None else self.offset
        return f"memref<{inner}, strided<{_strides(self.type.shape)}, offset: {offset}>>"


class Views:
    """Writes views of memrefs; all are contiguous pieces."""

    def __init__(self, writer: Writer) -> None:
        self.writer = writer

    def piece(self, base: Memref, start: int, kind: TensorType, location: str = "") -> Memref:
        """The elements of `base` from `start` on, as `kind`."""
        if kind.size != base.type.size:
            flat = self.reshape(base, (base.type.size,), location)
            offset = None if flat.offset is None else flat.offset + start
            made = Memref(self.writer.fresh(), kind.with_shape((kind.size,)), offset)
            self.writer.line(
                f"{made.name} = memref.subview {flat.name}[{start}] [{kind.size}] [1] "
                f": {flat.text} to {made.text} {location}"
            )
            base = made
        return self.reshape(base, kind.shape, location)

    def place(self, base: Memref, index: str, location: str = "") -> Memref:
        """`base` at one index of its first axis."""
        rest = base.type.shape[1:]
        made = Memref(self.writer.fresh(), base.type.with_shape(rest), None)
        offsets = ", ".join([index, *("0" for _ in rest)])
        sizes, ones = [1, *rest], [1] * (1 + len(rest))
        self.writer.line(
            f"{made.name} = memref.subview {base.name}[{offsets}] {sizes} {ones} "
            f": {base.text} to {made.text} {location}"
        )
        return made

    def movable(self, base: Memref) -> Memref:
        """`base` as a memref that may begin anywhere."""
        if base.offset is None:
            return base
        made = Memref(self.writer.fresh(), base.type, None)
        self.writer.line(f"{made.name} = memref.cast {base.name} : {base.text} to {made.text}")
        return made

    def reshape(self, base: Memref, shape: Sequence[int], location: str = "") -> Memref:
        """`base` in another shape, by collapse_shape and expand_shape through a common refinement."""
        shape = tuple(shape)
        middle, collapse, expand = refinement(base.type.shape, shape)
        if middle != base.type.shape:
            base = self._shaped("collapse_shape", base, collapse, middle, "", location)
        if shape != middle:
            output = f" output_shape {list(shape)}"
            base = self._shaped("expand_shape", base, expand, shape, output, location)
        return base

    def _shaped(
        self,
        op: str,
        base: Memref,
        axes: list[list[int]],
        shape: tuple[int, ...],
        options: str,
        location: str,
    ) -> Memref:
        made = replace(base, name=self.writer.fresh(), type=base.type.with_shape(shape))
        self.writer.line(
            f"{made.name} = memref.{op} {base.name} {groups_text(axes)}{options} "
            f": {base.text} into {made.text} {location}"
        )
        return made

    def copy(self, source: Memref, target: Memref) -> None:
        self.writer.line(
            f"memref.copy {source.name}, {target.name} : {source.text} to {target.text}"
        )


def _strides(shape: Sequence[int]) -> list[int]:
    strides: list[int] = []
    step = 1
    for extent in reversed(shape):
        strides.insert(0, step)
        step *= extent
    return strides
