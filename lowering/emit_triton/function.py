"""The text of one Triton function over tiles of rows x columns of a region's domain."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

from .. import sizes
from ..indexing import start_of
from ..lookups import Lookup
from ..region import Read, Region, Stage, Store
from .body import NARROW, emit_body, widened
from .folds import FOLDS, ROW_NAMES, accumulated, neutral
from .index import Coordinate, Domain
from .source import LANGUAGE_DTYPES, Assign, Names, Value
from .tiling import OPEN, Function, Tiling, slice_columns

Made = TypeVar("Made")


class FunctionBuilder:
    """Writes one function; stages are emitted when something asks for their value.

    Lines that do not depend on the columns stand before the sweep that asked for them.
    """

    decorator = "@triton.jit"

    def __init__(
        self,
        name: str,
        region: Region,
        tiling: Tiling,
        arguments: Sequence[str],
        stored: Mapping[int, str] | None = None,
    ) -> None:
        """`arguments` names the buffers read; `stored` the buffers of row values made earlier."""
        self.name, self.region, self.tiling = name, region, tiling
        self.arguments, self.stored = arguments, dict(stored or {})
        self.domain = Domain(region.parallel, region.reduction)
        self.names = Names()
        self.pointers: dict[str, str] = {}
        self.outer: list[str] = []
        self.inner: list[str] | None = None
        self.writes: list[str] = []
        self.writes_inside: list[str] = []
        self.known: dict[object, Any] = {}
        self.known_inside: dict[object, Any] = {}
        for taken in ("p", "r", "i", "start", "mask", "inside", "row", "column", "size", "share"):
            self.names.fresh(taken)
        self.tiled = tiling.columns > 0
        self.sized = ["size", f"{OPEN}: tl.constexpr"] if self.is_open else []
        self.row_name = "p" if self.tiled else "i"
        self._open_rows()

    # Lines and names.

    def line(self, text: str, varies: bool) -> None:
        (self.inner if varies and self.inner is not None else self.outer).append(text)

    def assign(self, stem: str, text: str, varies: bool) -> str:
        name = self.names.fresh(stem)
        self.line(f"{name} = {text}", varies)
        return name

    def once(self, key: object, varies: bool, make: Callable[[], Made]) -> Made:
        """What `make` gave for `key` the first time; in each sweep anew if it varies in it."""
        cache = self.known_inside if varies and self.inner is not None else self.known
        if key not in cache:
            cache[key] = make()
        return cache[key]

    def pointer(self, buffer: str) -> str:
        self.pointers[buffer] = buffer
        return buffer

    def number(self, value: int) -> str:
        """The text of a number, which in a function of any size may depend on that."""
        return sizes.expression(value, "size") if sizes.is_symbolic(value) else str(value)

    # Subscripts and masks.

    @property
    def is_open(self) -> bool:
        return self.tiling.index == OPEN

    def _open_rows(self) -> None:
        if self.is_open:
            self.line(f"size = tl.cast(size, {OPEN})", False)
        program = f"tl.program_id(0){self.tiling.cast}"
        if self.tiled:
            rows = "tl.arange(0, BLOCK_P)[:, None]"
            self.line(f"p = {program} * BLOCK_P + {rows}", False)
        else:
            self.line(f"i = {program} * BLOCK_P + tl.arange(0, BLOCK_P)", False)
        self.row_mask = ""
        if not sizes.divides(self.tiling.rows, self.domain.rows):
            self.row_mask = "row" if self.tiled else "mask"
            rows = self.number(self.domain.rows)
            self.line(f"{self.row_mask} = {self.row_name} < {rows}", False)
        self.column_mask = ""

    def _open_columns(self, start: str, extent: int) -> None:
        self.line(f"r = {start}tl.arange(0, BLOCK_R)[None, :]{self.tiling.cast}", True)
        self.column_mask = ""
        if not self._fills(extent):
            self.column_mask = "column"
            self.line(f"column = r < {self.number(extent)}", True)

    def _fills(self, extent: int) -> bool:
        """Whether the tiles that cover the columns hold nothing else."""
        columns, slices = self.tiling.columns, self.tiling.slices
        if sizes.is_symbolic(extent):
            return slices == 1 and not self.tiling.whole and sizes.divides(columns, extent)
        # What the slices cover together; the last ones may begin beyond the row's end.
        return extent > 0 and extent == slices * slice_columns(extent, columns, slices)

    @property
    def _looped(self) -> bool:
        """Whether the columns are covered tile after tile."""
        fits = self.tiling.whole or self.domain.columns <= self.tiling.columns
        return self.tiling.slices > 1 or not fits

    @contextmanager
    def sweep(self) -> Iterator[None]:
        """Within it the columns of the domain are covered: by one tile, or by a loop over tiles."""
        extent = self.domain.columns
        if not self._looped:
            if "r" not in self.known:
                self.known["r"] = "r"
                self._open_columns("", extent)
            yield
            return
        self.inner, self.known_inside, self.writes_inside = [], {}, []
        self._open_columns("start + ", extent)
        yield
        body, self.inner = [*self.inner, *self.writes_inside], None
        first, end = "0", self.number(extent)
        if self.tiling.slices > 1:
            share = self._share(extent)
            first = f"tl.program_id(1) * {share}"
            end = f"tl.program_id(1) * {share} + {share}"
        self.outer.append(f"for start in tl.range({first}, {end}, BLOCK_R):")
        self.outer.extend(f"    {line}" for line in body)

    def _share(self, extent: int) -> str:
        """How many columns a slice has."""
        columns, slices = self.tiling.columns, self.tiling.slices
        if not sizes.is_symbolic(extent):
            return str(slice_columns(extent, columns, slices))
        text = f"tl.cdiv({self.number(extent)}, {columns * slices}) * {columns}"
        return self.once("share", False, lambda: self.assign("columns", text, False))

    def mask(self, axes: frozenset[str]) -> str:
        """The mask of accesses that vary along `axes`, or "" where all of a tile is inside."""
        parts = [
            name
            for axis, name in (("p", self.row_mask), ("r", self.column_mask))
            if axis in axes and name
        ]
        if len(parts) < 2:
            return "".join(parts)
        return self.once("inside", True, self._both_masks)

    def _both_masks(self) -> str:
        self.line(f"inside = {self.row_mask} & {self.column_mask}", True)
        return "inside"

    def coordinate(self, coordinate: Coordinate) -> str:
        subscript = self.row_name if coordinate.axis == "p" else "r"
        text = coordinate.text(subscript, self.number)
        if text == subscript:
            return text
        varies = coordinate.axis == "r"
        dims = range(coordinate.first, coordinate.last + 1)
        stem = "d" + "_".join(str(dim) for dim in dims if self.domain.extents[dim] != 1)
        key = (coordinate.first, coordinate.last, coordinate.inner)
        return self.once(key, varies, lambda: self.assign(stem, text, varies))

    def offset(self, coordinates: Sequence[Coordinate]) -> str:
        terms = []
        for coordinate in coordinates:
            name = self.coordinate(coordinate)
            stride = self.number(coordinate.stride)
            terms.append(name if stride == "1" else f"{name} * {stride}")
        return " + ".join(terms)

    def index(self, dim: int) -> Value:
        """The subscript of a domain dim."""
        axis = self.domain.axis(dim)
        if self.domain.extents[dim] == 1:
            return Value("0", "index", literal=True)
        name = self.coordinate(self.domain.coordinate(dim, dim, 1))
        return Value(name, "index", frozenset(axis))

    # Memory.

    def load(
        self,
        buffer: str,
        dtype: str,
        coordinates: Sequence[Coordinate],
        stem: str,
        start: int = 0,
    ) -> Value:
        """The element `start` beyond that at the coordinates."""
        axes = frozenset(coordinate.axis for coordinate in coordinates)
        varies = "r" in axes
        key = (buffer, tuple(coordinates), start)

        def make() -> Value:
            address, mask = self.pointer(buffer), self.mask(axes)
            if coordinates:
                address += f" + {self.offset(coordinates)}"
            if start:
                address += f" + {self.number(start)}"
            text = f"tl.load({address}{f', mask={mask}' if mask else ''})"
            return Value(self.assign(stem, text, varies), dtype, axes)

        return self.once(key, varies, make)

    def look_up(self, assign: Assign, lookup: Lookup, places: Sequence[Value]) -> Value:
        """The element of an argument at these subscripts, one an axis."""
        kind = self.region.arguments[lookup.argument]
        address, stride = [self.pointer(self.arguments[lookup.argument])], kind.size
        axes: frozenset[str] = frozenset()
        for place, extent in zip(places, kind.shape, strict=True):
            stride //= max(extent, 1)
            if extent != 1:
                step = self.number(stride)
                address.append(place.text if step == "1" else f"{place.text} * {step}")
                axes |= place.axes
        mask = self.mask(axes)
        text = f"tl.load({' + '.join(address)}{f', mask={mask}' if mask else ''})"
        return Value(assign("found", text), kind.dtype, axes)

    def store(self, buffer: str, offset: str, value: Value, axes: frozenset[str]) -> None:
        mask = self.mask(axes)
        address = f"{self.pointer(buffer)} + {offset}"
        text = f"tl.store({address}, {value.tensor()}{f', mask={mask}' if mask else ''})"
        self.write(text, "r" in axes)

    def write(self, text: str, varies: bool = False) -> None:
        """Adds a line that writes memory, after all that reads in this sweep or function.

        An output may lie where an input does, so nothing is read after the first write.
        """
        inside = varies and self.inner is not None
        (self.writes_inside if inside else self.writes).append(text)

    # Stages.

    def read(self, read: Read) -> Value:
        if read.source == "stage":
            return self.value(read.index)
        kind = self.region.arguments[read.index]
        coordinates = self.domain.coordinates(kind.shape, read.dims)
        start = start_of(kind.shape, read.dims)
        return self.load(
            self.arguments[read.index], kind.dtype, coordinates, f"x{read.index}", start
        )

    def value(self, index: int) -> Value:
        """A stage's value, emitted now if it has not been; a reduction must have been."""
        stage = self.region.stages[index]
        varies = stage.kind == "full" and self.tiled
        if index in self.stored:
            identity = self.domain.coordinates(
                self.region.parallel, range(len(self.region.parallel))
            )
            return self.load(self.stored[index], stage.type.dtype, identity, f"kept{index}")
        key = ("stage", index)
        if stage.kind == "reduce":
            return self.known[key]
        return self.once(key, varies, lambda: self.body(stage, varies))

    def body(self, stage: Stage, varies: bool) -> Value:
        """What a stage yields, or what a reduction folds."""
        inputs = [self.read(read) for read in stage.reads]
        assign = partial(self.assign, varies=varies)
        look_up = partial(self.look_up, assign)
        return emit_body(stage, inputs, self.index, look_up, assign, self.number)

    def reduce(self, indices: Sequence[int], also: Sequence[tuple[str, int]] = ()) -> None:
        """One sweep: folds reductions over the columns, and stores full stages (buffer, stage)."""
        self._fold_all(indices, lambda index: self.body(self.region.stages[index], True), also)

    def _fold_all(
        self,
        indices: Iterable[int],
        folded: Callable[[int], Value],
        also: Sequence[tuple[str, int]] = (),
    ) -> None:
        looped = self._looped
        for index in indices if looped else ():
            self.known["accumulator", index] = self._accumulator(self.region.stages[index])
        with self.sweep():
            for index in indices:
                stage, value = self.region.stages[index], folded(index)
                if looped:
                    self._accumulate(self.known["accumulator", index], stage, value)
                else:
                    self.fold(index, self._masked(stage, value))
            for buffer, index in also:
                self.store_full(buffer, index)
        for index in indices if looped else ():
            self.fold(index, self.known["accumulator", index])

    def _accumulator(self, stage: Stage) -> str:
        dtype = LANGUAGE_DTYPES[accumulated(stage.type.dtype)]
        start = neutral(stage)
        value = start.text if start.literal else "True" if "True" in start.text else "False"
        name = ROW_NAMES[stage.combiner]
        return self.assign(f"{name}_tile", f"tl.full((BLOCK_P, BLOCK_R), {value}, {dtype})", False)

    def _accumulate(self, tile: str, stage: Stage, value: Value) -> None:
        name = ROW_NAMES[stage.combiner]
        text = widened(value).text
        if self.column_mask:
            text = f"tl.where(column, {widened(value).tensor()}, {neutral(stage).text})"
            text = self.assign("masked", text, True)
        self.line(f"{tile} = {FOLDS[name].format(tile, text)}", True)

    def _masked(self, stage: Stage, value: Value) -> str:
        """The value over whole rows of a tile, neutral outside of the domain."""
        value = widened(value)
        if self.column_mask:
            return f"tl.where(column, {value.tensor()}, {neutral(stage).text})"
        if "r" in value.axes:
            return value.text
        return f"tl.broadcast_to({value.tensor()}, (BLOCK_P, BLOCK_R))"

    def fold(self, index: int, tile: str) -> None:
        """Makes a reduction's value of a tile of what it folds."""
        stage = self.region.stages[index]
        name = ROW_NAMES[stage.combiner]
        text = f"reduce_{name}({tile})"
        if stage.type.dtype in NARROW:
            text += f".to({LANGUAGE_DTYPES[stage.type.dtype]})"
        made = self.assign(f"row_{name}", text, False)
        self.known["stage", index] = Value(made, stage.type.dtype, frozenset("p"))

    def store_full(self, buffer: str, index: int) -> None:
        """Stores a full stage; in a region with reductions, within a sweep."""
        value, stage = self.value(index), self.region.stages[index]
        coordinates = self.domain.coordinates(stage.type.shape, stage.axes)
        offset = self.offset(coordinates) or self.row_name
        self.store(buffer, offset, value, frozenset("pr" if self.tiled else "p"))

    def store_piece(self, buffer: str, store: Store) -> None:
        """Stores a stage of a region without reductions where it belongs in a result."""
        kind = self.region.results[store.result]
        coordinates = self.domain.coordinates(kind.shape, store.dims)
        offset, start = self.offset(coordinates) or self.row_name, start_of(kind.shape, store.dims)
        place = f"{offset} + {self.number(start)}" if start else offset
        self.store(buffer, place, self.value(store.stage), frozenset("p"))

    def store_row(self, buffer: str, index: int) -> None:
        self.store(buffer, self.row_name, self.value(index), frozenset("p"))

    def store_partial(self, buffer: str, index: int) -> None:
        """Stores a reduction over this program's slice of the columns."""
        offset = f"tl.program_id(1) * {self.number(self.domain.rows)} + {self.row_name}"
        self.store(buffer, offset, self.value(index), frozenset("p"))

    def combine(self, partials: Mapping[int, str], dtype: str = "") -> None:
        """Folds partial results, the columns of the domain being parts: stage -> its buffer, of
        `dtype` if that is not the stage's.
        """
        dims = [len(self.region.parallel), *range(len(self.region.parallel))]
        shape = (self.domain.columns, *self.region.parallel)

        def partial_result(index: int) -> Value:
            stage, coordinates = self.region.stages[index], self.domain.coordinates(shape, dims)
            kind = dtype or stage.type.dtype
            return self.load(partials[index], kind, coordinates, "partial")

        self._fold_all(partials, partial_result)

    def lines(self) -> str:
        """The function's body."""
        return "".join(f"    {line}\n" for line in (*self.outer, *self.writes))

    def finish(self) -> Function:
        blocks = ["BLOCK_P: tl.constexpr"] + ["BLOCK_R: tl.constexpr"] * self.tiled
        head = f"{self.decorator}\ndef {self.name}({', '.join([*self.pointers, *self.sized, *blocks])}):\n"
        return Function(
            self.name,
            head + self.lines(),
            dict(self.pointers),
            self.tiling.columns,
            self.is_open,
        )
