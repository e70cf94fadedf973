"""When a step may write a new value over the old one that it reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mlir import ir

from ..indexing import map_dims
from ..loops import carries_of, loop_of
from ..mlir import TensorType
from ..region import Region, kernel_kind, read_instances, read_region
from .program import Part, Program


class Overwriting:
    """Answers for the functions of one module; each kernel is read once."""

    def __init__(self, known: Mapping[str, ir.OpView]) -> None:
        self.known = known
        self._regions: dict[str, list[Region]] = {}

    def is_safe(self, program: Program, argument: int, root: int) -> bool:
        """Whether the step that makes `root` may write it over an argument's memory."""
        number = program.maker[root]
        step = program.steps[number]
        if program.last_use.get(argument, -1) > number:
            return False
        reads = [i for i, part in enumerate(step.inputs) if part.root == argument]
        if not reads:
            return True
        if len(reads) > 1 or not program.is_whole(step.inputs[reads[0]]):
            return False
        if loop_of(self.known[step.callee]) is not None:
            return self.replaced(program, root) == argument
        return _elementwise(self._instances(step.callee), reads[0], step.roots.index(root))

    def replaced(self, program: Program, root: int) -> int | None:
        """For the final value of a loop's carry, the root that the carry starts from if both may
        share memory: nothing else reads it in the loop, or after it.
        """
        number = program.maker[root]
        step = program.steps[number]
        function = self.known[step.callee]
        result = next(i for i, part in enumerate(step.results) if part.root == root)
        if loop_of(function) is None or result >= carries_of(function):
            return None
        if not program.is_whole(step.results[result]):
            return None
        start = step.inputs[result]
        once = sum(part.root == start.root for part in step.inputs) == 1
        last = program.last_use[start.root] == number
        return start.root if once and last and program.is_whole(start) else None

    def candidates(self, program: Program, number: int) -> dict[int, list[int]]:
        """For roots that a step makes, the roots whose memory each could take: of as many elements as long,
        and read only where the step makes the element in their place. Whether they die there is left open.
        """
        step, found = program.steps[number], dict[int, list[int]]()
        if kernel_kind(self.known[step.callee]) != "loop":
            return found
        pairs = [
            (i, k)
            for k, result in enumerate(step.results)
            for i, part in enumerate(step.inputs)
            if _could_share(program, part, result)
            and sum(other.root == part.root for other in (*step.inputs, *step.results)) == 1
        ]
        moments = _pointwise(self.known[step.callee]) if pairs else None
        for i, k in pairs:
            if moments and moments.read[i] <= moments.made[k]:
                found.setdefault(step.results[k].root, []).append(step.inputs[i].root)
        return found

    def updates(self, kernel: str) -> Mapping[int, int]:
        """The results of a kernel that lie in the memory of an argument: result -> argument."""
        if kernel_kind(self.known[kernel]) != "loop":
            return {}
        (region,) = self._instances(kernel)
        return region.updates

    def _instances(self, kernel: str) -> list[Region]:
        """The instances of a kernel of loops; none for a template or an extern."""
        if kernel not in self._regions:
            function = self.known[kernel]
            kind = kernel_kind(function)
            self._regions[kernel] = (
                read_instances(function)
                if kind == "multi"
                else [read_region(function)]
                if kind == "loop"
                else []
            )
        return self._regions[kernel]


def _elementwise(regions: Sequence[Region], argument: int, result: int) -> bool:
    """Whether a kernel reads element i of the argument only while it makes element i of the result.

    No later stage may read the argument, since a stage may store what it computes at once.
    """
    if not regions:
        return False
    i, argument = divmod(argument, len(regions[0].arguments))
    j, result = divmod(result, len(regions[0].results))
    region = regions[i]
    if result in region.updates or argument in region.looked_up:
        return False
    writer = next(store.stage for store in region.stores if store.result == result)
    if i != j or region.stages[writer].kind not in (("row",) if region.reduction else ("full",)):
        return False
    for number, stage in enumerate(region.stages):
        for read in stage.reads:
            if (read.source, read.index) != ("argument", argument):
                continue
            dims = tuple(dim for dim in read.dims if dim is not None)
            own_place = dims == tuple(range(len(region.parallel)))
            if number > writer or stage.kind != region.stages[writer].kind or not own_place:
                return False
    return True


def _could_share(program: Program, old: Part, new: Part) -> bool:
    """Whether two parts are whole values of as many elements, equally long."""
    return (
        old.type.size == new.type.size
        and old.type.torch_dtype.itemsize == new.type.torch_dtype.itemsize
        and program.is_whole(old)
        and program.is_whole(new)
    )


@dataclass(frozen=True)
class _Moments:
    """Which loop of a kernel is the last to read each argument (-1: none), and makes each result. It may
    store that at once.
    """

    read: Sequence[int]
    made: Sequence[int]


def _pointwise(function: ir.OpView) -> _Moments | None:
    """None of a kernel that reads anything as large as its results but where it makes the element in that
    place. (A region would tell it too, and takes a hundred times as long to read.)
    """
    block = function.regions[0].blocks[0]
    ops = [view.operation for view in block.operations]
    generics = [op for op in ops if op.name == "linalg.generic"]
    made, read = dict[ir.Value, int](), dict[ir.Value, int]()
    for number, op in enumerate(generics):
        maps = [map_dims(each) for each in op.attributes["indexing_maps"]]
        whole = tuple(range(len(op.attributes["iterator_types"])))
        inner = op.regions[0].blocks[0].operations
        if maps[-1] != whole or any(each.operation.name == "tensor.extract" for each in inner):
            return None
        extents = TensorType.of(op.results[0]).size
        for value, dims in zip(op.operands, maps, strict=True):
            if dims != whole and TensorType.of(value).size == extents:
                return None
        made |= dict.fromkeys(op.results, number)
        read |= dict.fromkeys(op.operands, number)
    if len({TensorType.of(op.results[0]).size for op in generics}) != 1:
        return None
    if not all(value in made for value in ops[-1].operands):
        return None
    last = [read.get(argument, -1) for argument in block.arguments]
    return _Moments(last, [made[value] for value in ops[-1].operands])
