"""A loop region's structure, read from its kernel function: what both emitters walk.

A region runs over parallel extents P and reduction extents R. Each `linalg.generic` in it is a
stage: "full" computes an element at every point of P x R, "reduce" folds R away, "row" computes at
every point of P. Values made inside are read where they are made (a row value anywhere in its row);
each axis of an argument is indexed by an affine function of one dim, or by a value that a body computes
and looks an element up with (`tensor.extract`). What leaves is a stage's whole
value, or pieces that stages store into a tensor which the region is given. Everything else is refused with
the reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mlir import ir

from .errors import RegionError
from .indexing import Dims, Index, map_dims, plain, window
from .lookups import Lookup, lookups_of
from .mlir import TensorType, layer_of

COMBINERS = {
    "arith.addf": 0.0,
    "arith.mulf": 1.0,
    "arith.maximumf": float("-inf"),
    "arith.minimumf": float("inf"),
    "arith.addi": 0,
    "arith.muli": 1,
    "arith.maxsi": None,  # the least value of the type
    "arith.minsi": None,  # the greatest value of the type
    "arith.andi": -1,
    "arith.ori": 0,
}


@dataclass(frozen=True)
class Read:
    """One input of a stage: an argument of the region or an earlier stage's result, and how it is
    indexed.

    Attributes:
        source: "argument" or "stage".
        index: which one.
        dims: the index of each axis of the value.
    """

    source: str
    index: int
    dims: Dims


@dataclass(frozen=True)
class Stage:
    """One linalg.generic of a region.

    Attributes:
        kind: "full", "reduce" or "row".
        type: the result's type.
        axes: for each axis of the result the dim that it runs over: in order, but for a "full" stage of
            a region that reduces, whose result may be stored in another order.
        reads: its inputs, in the order of the body's first arguments.
        block: the body; its last argument is the accumulator of a "reduce".
        combiner: for "reduce", the op that folds ("arith.addf"), else "".
        value: what the body yields, or for "reduce" what it folds into the accumulator.
        layer: the Keras layer of its location.
        lookups: value of the body -> the lookup that it is.
    """

    kind: str
    type: TensorType
    axes: tuple[int, ...]
    reads: tuple[Read, ...]
    block: ir.Block
    combiner: str
    value: ir.Value
    layer: str
    lookups: Mapping[ir.Value, Lookup]


@dataclass(frozen=True)
class Store:
    """What becomes of a stage's values.

    Attributes:
        stage: which one.
        result: the result of the function that they go to.
        dims: the index of each axis of that result. One that is not covered is stored into by other
            stages too, or by other kernels.
    """

    stage: int
    result: int
    dims: Dims


@dataclass(frozen=True)
class Region:
    """A loop region.

    Attributes:
        name: the kernel function's name.
        parallel, reduction: extents of P and R.
        arguments: the types of its arguments.
        stages: in order of execution.
        stores: what leaves it.
        results: the types of its results.
        updates: result -> the argument in whose memory it lies, since only pieces of it are stored.
    """

    name: str
    parallel: tuple[int, ...]
    reduction: tuple[int, ...]
    arguments: tuple[TensorType, ...]
    stages: tuple[Stage, ...]
    stores: tuple[Store, ...]
    results: tuple[TensorType, ...]
    updates: Mapping[int, int]

    @property
    def outputs(self) -> tuple[int, ...]:
        """For each store, the stage."""
        return tuple(store.stage for store in self.stores)

    @property
    def looked_up(self) -> frozenset[int]:
        """The arguments of which any element may be read at any point."""
        return frozenset(
            lookup.argument for stage in self.stages for lookup in stage.lookups.values()
        )


def kernel_kind(function: ir.OpView) -> str:
    """The attribute keras.kernel: "loop", "multi" or a template op's name; "" for other functions."""
    attributes = function.operation.attributes
    return ir.StringAttr(attributes["keras.kernel"]).value if "keras.kernel" in attributes else ""


def read_region(function: ir.OpView) -> Region:
    """The structure of a "loop" kernel function.

    Raises:
        RegionError: the function is not a loop region; the sentence says which op and rule.
    """
    block = function.regions[0].blocks[0]
    return _Reader(
        _name(function), list(block.arguments), _generics(block), _returned(block)
    ).region()


def read_instances(function: ir.OpView) -> list[Region]:
    """The independent instances of a "multi" kernel function, each a purely parallel region.

    Arguments, generics and results stand instance after instance. Each instance has the same body.

    Raises:
        RegionError: the parts do not divide evenly, or one instance is not a parallel region.
    """
    count = ir.IntegerAttr(function.operation.attributes["keras.instances"]).value
    block = function.regions[0].blocks[0]
    parts = list(block.arguments), _generics(block), _returned(block)
    if any(len(part) % count for part in parts):
        raise RegionError(
            f"{_name(function)}: {[len(part) for part in parts]} do not divide by {count} instances"
        )
    regions = []
    for i in range(count):
        mine = [part[i * len(part) // count : (i + 1) * len(part) // count] for part in parts]
        region = _Reader(_name(function), *mine).region()
        if region.reduction:
            raise RegionError(f"{_name(function)}: an instance of a multi kernel reduces")
        regions.append(region)
    return regions


def read_stages(
    name: str,
    arguments: Sequence[ir.Value],
    generics: Sequence[ir.OpView],
    results: Sequence[ir.Value],
) -> Region:
    """The region that `generics` make of `arguments`, as the epilogue of a template is.

    Raises:
        RegionError: as `read_region`.
    """
    return _Reader(name, arguments, generics, results).region()


def _name(function: ir.OpView) -> str:
    return ir.StringAttr(function.operation.attributes["sym_name"]).value


_ALLOWED = (
    "linalg.generic",
    "linalg.fill",
    "tensor.empty",
    "tensor.insert_slice",
    "arith.constant",
    "func.return",
)


def _generics(block: ir.Block) -> list[ir.OpView]:
    for op in block.operations:
        if op.operation.name not in _ALLOWED:
            raise RegionError(
                f"{op.operation.name} cannot stand in a loop region (layer {layer_of(op) or '?'})"
            )
    return [op for op in block.operations if op.operation.name == "linalg.generic"]


def _returned(block: ir.Block) -> list[ir.Value]:
    return list(list(block.operations)[-1].operands)


def iterators(generic: ir.OpView) -> list[str]:
    """The iterator types as text: "parallel" or "reduction", one a dim."""
    return [
        str(item).split("<")[-1].rstrip(">")
        for item in generic.operation.attributes["iterator_types"]
    ]


def extents_of(generic: ir.OpView) -> tuple[int, ...]:
    """How far each dim of a `linalg.generic` goes."""
    extents = [1] * len(iterators(generic))
    maps = generic.operation.attributes["indexing_maps"]
    for value, attribute in zip(generic.operation.operands, maps, strict=True):
        for dim, extent in zip(map_dims(attribute), TensorType.of(value).shape, strict=True):
            if isinstance(dim, int):
                extents[dim] = extent
    return tuple(extents)


def _is_inserted(value: ir.Value) -> bool:
    """Whether pieces of a value are stored one by one."""
    return not isinstance(value.owner, ir.Block) and value.owner.name == "tensor.insert_slice"


class _Reader:
    """Reads the generics of one function (or one instance of it) into a Region."""

    def __init__(
        self,
        name: str,
        arguments: Sequence[ir.Value],
        generics: Sequence[ir.OpView],
        results: Sequence[ir.Value],
    ) -> None:
        self.name, self.arguments, self.generics, self.results = name, arguments, generics, results
        self.stages: list[Stage] = []
        self.updates: dict[int, int] = {}

    def region(self) -> Region:
        if not self.generics:
            raise RegionError(f"{self.name}: a region needs at least one linalg.generic")
        self.parallel, self.reduction = self._domain()
        for generic in self.generics:
            self.stages.append(self._stage(generic))
        stores = [store for i, value in enumerate(self.results) for store in self._stores(i, value)]
        arguments, results = (
            tuple(TensorType.of(value) for value in values)
            for values in (self.arguments, self.results)
        )
        return Region(
            self.name,
            self.parallel,
            self.reduction,
            arguments,
            tuple(self.stages),
            tuple(stores),
            results,
            dict(self.updates),
        )

    def _stores(self, result: int, value: ir.Value) -> list[Store]:
        """The stages that make a result, or its pieces."""
        if not _is_inserted(value):
            stage = self._stage_of(value)
            return [Store(stage, result, self.stages[stage].axes)]
        stores = []
        while _is_inserted(value):
            piece, around = value.owner.operands
            stage = self._stage_of(piece)
            stores.append(Store(stage, result, self._window(value.owner, self.stages[stage])))
            value = around
        if value not in self.arguments:
            raise RegionError(f"{self.name}: pieces are stored into an argument, not into {value}")
        self.updates[result] = list(self.arguments).index(value)
        return stores[::-1]

    def _window(self, op: ir.Operation, stage: Stage) -> Dims:
        """Where a piece lies in the tensor around it."""
        starts, sizes, strides = (
            list(ir.DenseI64ArrayAttr(op.attributes[f"static_{name}"]))
            for name in ("offsets", "sizes", "strides")
        )
        shape = TensorType.of(op.results[0]).shape
        inside = [dim for dim, extent in enumerate(stage.type.shape) if extent != 1]
        wide = [axis for axis, size in enumerate(sizes) if size != 1]
        if set(strides) - {1} or self.reduction or len(inside) != len(wide):
            raise RegionError(f"{self.name}: a piece that is no window of a parallel stage")
        dims: list[Index] = [window(None, 0, start) for start in starts]
        for dim, axis in zip(inside, wide, strict=True):
            covers = sizes[axis] == shape[axis]
            dims[axis] = dim if covers else window(dim, 1, starts[axis])
        return tuple(dims)

    def _domain(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """P and R: those of the first reduction, else all of the widest stage is parallel."""
        widest: tuple[int, ...] = ()
        for generic in self.generics:
            extents, kinds = extents_of(generic), iterators(generic)
            if "reduction" in kinds:
                split = kinds.index("reduction")
                return extents[:split], extents[split:]
            widest = max(widest, extents, key=len)
        return widest, ()

    def _stage(self, generic: ir.OpView) -> Stage:
        op = generic.operation
        if len(op.results) != 1:
            raise RegionError(f"{self.name}: a stage has one result, not {len(op.results)}")
        maps = [map_dims(attribute) for attribute in op.attributes["indexing_maps"]]
        kind = self._kind(generic)
        rank = len(self.parallel) + (len(self.reduction) if kind == "full" else 0)
        axes = plain(maps[-1])
        if axes is None or self._order(axes, kind) != tuple(range(rank)):
            raise RegionError(f"{self.name}: a {kind} stage writes at identity, not {maps[-1]}")
        reads = tuple(
            self._read(value, dims)
            for value, dims in zip(list(op.operands)[:-1], maps, strict=False)
        )
        block = op.regions[0].blocks[0]
        combiner, value = self._yielded(block, kind)
        made, lookups = TensorType.of(op.results[0]), lookups_of(block, self.arguments)
        return Stage(kind, made, axes, reads, block, combiner, value, layer_of(op), lookups)

    def _order(self, axes: tuple[int, ...], kind: str) -> tuple[int, ...]:
        """The axes as they must be in order."""
        return tuple(sorted(axes)) if kind == "full" and self.reduction else axes

    def _kind(self, generic: ir.OpView) -> str:
        extents, kinds = extents_of(generic), iterators(generic)
        p, r = len(self.parallel), len(self.reduction)
        if "reduction" in kinds:
            if (
                kinds == ["parallel"] * p + ["reduction"] * r
                and extents == self.parallel + self.reduction
            ):
                return "reduce"
        elif extents == self.parallel + self.reduction:
            return "full"
        elif extents == self.parallel:
            return "row"
        raise RegionError(
            f"{self.name}: a stage over {extents} ({', '.join(kinds)}) does not fit the domain "
            f"{self.parallel} x {self.reduction}"
        )

    def _read(self, value: ir.Value, dims: Dims) -> Read:
        for index, argument in enumerate(self.arguments):
            if value == argument:
                return Read("argument", index, dims)
        index = self._stage_of(value)
        if dims != self.stages[index].axes:
            raise RegionError(
                f"{self.name}: a value made inside is read through {dims}, not where it is made"
            )
        return Read("stage", index, dims)

    def _stage_of(self, value: ir.Value) -> int:
        for index, generic in enumerate(self.generics[: len(self.stages)]):
            if value == generic.operation.results[0]:
                return index
        raise RegionError(f"{self.name}: {value} is no argument and no earlier stage's result")

    def _yielded(self, block: ir.Block, kind: str) -> tuple[str, ir.Value]:
        value = list(block.operations)[-1].operands[0]
        if kind != "reduce":
            return "", value
        accumulator = list(block.arguments)[-1]
        fold = value.owner
        if (
            isinstance(fold, ir.Block)
            or fold.name not in COMBINERS
            or accumulator not in list(fold.operands)
        ):
            raise RegionError(
                f"{self.name}: a reduction ends in one of {', '.join(COMBINERS)} on its accumulator"
            )
        left, right = fold.operands
        return fold.name, right if left == accumulator else left
