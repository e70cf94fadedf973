"""Where a region's values lie in memory: row-major strides over as few loops as possible."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from ..indexing import Dims, axes_of, start_of
from ..lookups import Lookup
from ..mlir import TensorType
from ..region import Read, Region, Store


@dataclass(frozen=True)
class Access:
    """A way to address a value.

    Attributes:
        base: which pointer: "argument", "output" or, for values kept inside the kernel, "scratch".
        index: which of those.
        dtype: its element type.
        strides: elements to move for one step along each loop dim; 0 where the value does not vary.
        start: elements from the pointer to where all loops are at 0.
    """

    base: str
    index: int
    dtype: str
    strides: tuple[int, ...]
    start: int = 0


@dataclass(frozen=True)
class Dim:
    """One loop: its extent, and whether it reduces."""

    extent: int
    reduces: bool


@dataclass(frozen=True)
class Layout:
    """A region's loops after neighbours that every access runs through as one have been merged.

    Attributes:
        dims: the loops, parallel ones first.
        reads: for each stage, for each of its reads, the access (None for a value made inside).
        writes: for each output, its access.
        lookups: for each lookup, the elements that a step along each loop moves by where the looked-up
            place stays.
        origins: for each dim of the region's domain, (loop, step): the domain index is loop index
            // step % extent, with the extent in the region; None for a dim of one element.
    """

    dims: tuple[Dim, ...]
    reads: tuple[tuple[Access | None, ...], ...]
    writes: tuple[Access, ...]
    lookups: tuple[tuple[int, ...], ...]
    origins: tuple[tuple[int, int] | None, ...]

    @property
    def parallel(self) -> tuple[int, ...]:
        """The loops that do not reduce."""
        return tuple(index for index, dim in enumerate(self.dims) if not dim.reduces)

    @property
    def reduction(self) -> tuple[int, ...]:
        return tuple(index for index, dim in enumerate(self.dims) if dim.reduces)

    def extent(self, dims: Sequence[int]) -> int:
        return prod(self.dims[dim].extent for dim in dims)


def layout_of(region: Region) -> Layout:
    """The layout of a region whose arguments and results are contiguous and row-major."""
    extents = region.parallel + region.reduction
    reads = [[_read_strides(region, read) for read in stage.reads] for stage in region.stages]
    writes = [
        _strides(region.results[store.result], store.dims, len(extents)) for store in region.stores
    ]
    lookups = [_lookup_strides(region, item) for s in region.stages for item in s.lookups.values()]
    columns = [strides for row in reads for strides in row if strides is not None] + writes
    columns += lookups
    groups = _merge(region, columns)
    heads = [group[-1] for group in groups]

    def pick(strides: Sequence[int]) -> tuple[int, ...]:
        return tuple(strides[head] for head in heads)

    return Layout(
        tuple(
            Dim(prod(extents[dim] for dim in group), group[0] >= len(region.parallel))
            for group in groups
        ),
        tuple(
            tuple(
                None if strides is None else _argument(region, read, pick(strides))
                for read, strides in zip(stage.reads, row, strict=True)
            )
            for stage, row in zip(region.stages, reads, strict=True)
        ),
        tuple(
            _store(region, store, pick(strides))
            for store, strides in zip(region.stores, writes, strict=True)
        ),
        tuple(map(pick, lookups)),
        _origins(extents, groups),
    )


def _merge(region: Region, columns: Sequence[Sequence[int]]) -> list[list[int]]:
    """Groups of domain dims, each to become one loop; dims of one element vanish."""
    extents = region.parallel + region.reduction
    groups: list[list[int]] = []
    for dim, extent in enumerate(extents):
        if extent == 1:
            continue
        last = groups[-1][-1] if groups else dim
        same_kind = (last < len(region.parallel)) == (dim < len(region.parallel))
        as_one = all(strides[last] == strides[dim] * extent for strides in columns)
        if groups and same_kind and as_one:
            groups[-1].append(dim)
        else:
            groups.append([dim])
    return groups


def _origins(
    extents: Sequence[int], groups: Sequence[Sequence[int]]
) -> tuple[tuple[int, int] | None, ...]:
    origins: list[tuple[int, int] | None] = [None] * len(extents)
    for loop, group in enumerate(groups):
        step = 1
        for dim in reversed(group):
            origins[dim] = loop, step
            step *= extents[dim]
    return tuple(origins)


def _argument(region: Region, read: Read, strides: tuple[int, ...]) -> Access:
    kind = region.arguments[read.index]
    return Access("argument", read.index, kind.dtype, strides, start_of(kind.shape, read.dims))


def _read_strides(region: Region, read: Read) -> list[int] | None:
    if read.source != "argument":
        return None
    rank = len(region.parallel + region.reduction)
    return _strides(region.arguments[read.index], read.dims, rank)


def _lookup_strides(region: Region, lookup: Lookup) -> list[int]:
    rank = len(region.parallel + region.reduction)
    return _strides(region.arguments[lookup.argument], lookup.dims, rank)


def _store(region: Region, store: Store, strides: tuple[int, ...]) -> Access:
    kind = region.results[store.result]
    return Access("output", store.result, kind.dtype, strides, start_of(kind.shape, store.dims))


def _strides(kind: TensorType, dims: Dims, rank: int) -> list[int]:
    """Elements of a contiguous tensor that a step of each of `rank` dims moves by."""
    strides = [0] * rank
    for dim, step in axes_of(kind.shape, dims):
        strides[dim] += step
    return strides
