"""A "multi" kernel: many independent pointwise instances in one launch, found through tables.

The tile function does one block of one instance. It is called without a mask where the block is
full, as an unknown size in a mask would keep Triton from wide memory accesses. They also need a
known alignment, which Triton 3.6 forgets on the way from a loaded integer to a pointer: it is said
of the pointers themselves, and the start of a block is a product with a known factor.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from .. import sizes
from ..errors import EmitError
from ..lookups import Lookup
from ..region import Read, Region
from .function import FunctionBuilder
from .index import Coordinate
from .source import Assign, Value
from .tiling import WIDE, Tiling

LANGUAGE_ELEMENTS = {
    "f64": "tl.float64", "f32": "tl.float32", "f16": "tl.float16", "bf16": "tl.bfloat16",
    "i64": "tl.int64", "i32": "tl.int32", "i16": "tl.int16", "i8": "tl.int8", "i1": "tl.int1",
}  # fmt: skip

KERNEL = """
@triton.jit
def {name}(addresses, owners, starts, sizes, ALIGN: tl.constexpr, BLOCK_P: tl.constexpr):
    program = tl.program_id(0)
    owner = tl.load(owners + program)
    start = tl.load(starts + program) * BLOCK_P
    size = tl.load(sizes + owner)
    row = addresses + owner * {width}
    i = start + tl.arange(0, BLOCK_P)
    if start + BLOCK_P <= size:
        {name}_tile(row, i, None, ALIGN)
    else:
        {name}_tile(row, i, i < size, ALIGN)
"""


class InstanceBuilder(FunctionBuilder):
    """Writes the tile function of an instance, given the row of its tensors' addresses."""

    def __init__(self, name: str, instances: Sequence[Region]) -> None:
        region = instances[0]
        arguments = [f"in{i}" for i in range(len(region.arguments))]
        self.outputs = [f"out{i}" for i in range(len(region.outputs))]
        self.places = {buffer: i for i, buffer in enumerate((*arguments, *self.outputs))}
        self.types = dict(zip(self.places, (*region.arguments, *region.results), strict=True))
        self.scalars = _scalar_reads(instances)
        super().__init__(name, region, Tiling(1, 0, 1, WIDE), arguments)

    def _open_rows(self) -> None:
        self.row_mask, self.column_mask = "mask", ""

    def number(self, value: int) -> str:
        if sizes.is_symbolic(value):
            raise EmitError(f"{self.name}: a multi kernel computes with the size of the data")
        return str(value)

    def pointer(self, buffer: str) -> str:
        def make() -> str:
            element = LANGUAGE_ELEMENTS[self.types[buffer].dtype]
            address = f"tl.load(row + {self.places[buffer]})"
            start = self.assign(buffer, f"{address}.to(tl.pointer_type({element}))", False)
            if self.places[buffer] in self.scalars:
                return start
            return self.assign(f"{buffer}_at", f"tl.multiple_of({start} + i, ALIGN)", False)

        return self.once(("pointer", buffer), False, make)

    def load(
        self,
        buffer: str,
        dtype: str,
        coordinates: Sequence[Coordinate],
        stem: str,
        start: int = 0,
    ) -> Value:
        def make() -> Value:
            text = f"tl.load({self.pointer(buffer)})"
            axes: frozenset[str] = frozenset()
            if self.places[buffer] not in self.scalars:
                text, axes = f"tl.load({self.pointer(buffer)}, mask=mask)", frozenset("p")
            return Value(self.assign(stem, text, False), dtype, axes)

        return self.once(("load", buffer), False, make)

    def index(self, dim: int) -> Value:
        raise EmitError(
            f"{self.name}: instances of a multi kernel have no subscripts (linalg.index)"
        )

    def look_up(self, assign: Assign, lookup: Lookup, places: Sequence[Value]) -> Value:
        raise EmitError(f"{self.name}: instances of a multi kernel look nothing up")

    def store_full(self, buffer: str, index: int) -> None:
        value = self.value(index).tensor()
        self.write(f"tl.store({self.pointer(buffer)}, {value}, mask=mask)")

    def text(self) -> str:
        for buffer, index in zip(self.outputs, self.region.outputs, strict=True):
            self.store_full(buffer, index)
        head = f"@triton.jit\ndef {self.name}_tile(row, i, mask, ALIGN: tl.constexpr):\n"
        return f"{head}{self.lines()}\n" + KERNEL.format(name=self.name, width=len(self.places))


def _reads_elements(region: Region, read: Read) -> bool:
    """Whether a read walks its argument in memory order; axes of extent 1 have no dim."""
    dims = [dim for dim in read.dims if dim is not None]
    whole = region.arguments[read.index].size == prod(region.parallel)
    return whole and dims == list(range(len(region.parallel)))


def _scalar_reads(instances: Sequence[Region]) -> set[int]:
    """The arguments of which each instance has one element for all of its domain.

    Raises:
        EmitError: instances differ, or read an argument neither so nor element by element.
    """
    scalars: set[int] = set()
    elements: set[int] = set()
    for region in instances:
        if [t.dtype for t in region.arguments] != [t.dtype for t in instances[0].arguments]:
            raise EmitError(f"{region.name}: instances of a multi kernel differ in dtypes")
        for stage in region.stages:
            for read in stage.reads:
                if read.source != "argument" or not region.parallel:
                    continue
                if all(dim is None for dim in read.dims):
                    scalars.add(read.index)
                elif _reads_elements(region, read):
                    elements.add(read.index)
                else:
                    raise EmitError(
                        f"{region.name}: a multi kernel reads argument {read.index} through "
                        f"{read.dims}; allowed are its own element and a single one"
                    )
    if scalars & elements:
        raise EmitError(
            f"{instances[0].name}: instances of a multi kernel differ in how they read arguments "
            f"{sorted(scalars & elements)}"
        )
    return scalars
