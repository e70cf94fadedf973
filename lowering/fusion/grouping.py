"""Which loops become one kernel: groups of nodes that share a domain, merged while no cycle arises.

A group runs over kept extents P and folded extents R. `places` says for each loop which of the
group's dims its own dims are. A merge that is refused says why in words that a person reads in a
report.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable
from math import prod

from keras_triton.kernels import spec

from ..emit_triton.template import problem_of
from ..indexing import Dims, plain, rename
from .graph import Graph, Loop, Node, squeezed_dims
from .group import Group, Limits, Places, Refusal

EPILOGUES = (
    *("matmul", "batch_matmul", "conv2d", "conv2d_input_grad", "conv2d_kernel_grad", "attention"),
)
FEW, MANY = 32, 1000
KEPT_APART = "kept apart so that the updates of all parameters make one kernel"


def takes_epilogue(node: Node) -> bool:
    """Whether loops may finish a call: one that its template does not support runs on torch, which
    computes nothing else.
    """
    if node.call not in EPILOGUES or node.op is None:
        return False
    return spec.get(node.call).supports(problem_of(node.op, node.call)) is None


class Grouping:
    """The groups of a graph. `merge` is the only way they change."""

    def __init__(self, graph: Graph, updates: frozenset[int], limits: Limits) -> None:
        self.graph, self.limits = graph, limits
        self.users = graph.users()
        self.returned = set(graph.results)
        self.updates = updates
        self.of: list[Group] = []
        self._alive: dict[Group, None] = {}
        # Node -> why a product reads its value from memory.
        self.stored: dict[int, str] = {}
        for node in graph.nodes:
            self.add(node)

    def add(self, node: Node) -> None:
        """Gives a node of the graph, the next one, a group of its own."""
        number, above = len(self.of), 0
        for maker in self.graph.makers(node):
            above |= self.of[maker].above | (1 << maker)
        group = Group([number], 1 << number, above)
        if node.loop:
            loop = node.loop
            group.is_loop = True
            group.is_update = node.outputs[0] in self.updates
            group.parallel, group.reduction = (
                loop.extents[: loop.parallel],
                loop.extents[loop.parallel :],
            )
            group.places = {number: tuple(range(len(loop.extents)))}
        elif self.limits.epilogues and takes_epilogue(node):
            group.template = number
        self.of.append(group)
        self._alive[group] = None

    def take(self, number: int, group: Group) -> None:
        """Makes a group the one that a node is in."""
        self._alive.pop(self.of[number], None)
        self.of[number] = group
        self._alive[group] = None

    def reread(self, number: int, before: Iterable[int]) -> None:
        """Keeps `users` true when the inputs of a node are no longer those of `before`."""
        self.users += [[] for _ in range(len(self.graph.types) - len(self.users))]
        for value in set(before):
            self.users[value].remove(number)
        for value in set(self.graph.nodes[number].inputs):
            insort(self.users[value], number)

    def groups(self) -> list[Group]:
        """The groups in order of their first node."""
        return [group for group in dict.fromkeys(self.of) if group.nodes]

    def try_merge(self, first: Group, second: Group) -> str:
        """Merges two, `first` feeding or standing beside `second`; "" or why not."""
        try:
            merged = self._merged(first, second)
        except Refusal as refusal:
            return str(refusal)
        self._join(merged, 0, 0)
        return ""

    def absorb(self, product: int, group: Group) -> None:
        """Puts all loops of a group before a product, into its kernel."""
        into = self.of[product]
        into.template = product
        into.nodes += group.nodes
        into.before += group.nodes
        into.places |= group.places
        self._join(into, group.mask, group.above)

    def _join(self, group: Group, mask: int, above: int) -> None:
        """Adds nodes to what a group is, and depends on."""
        group.mask |= mask
        group.above = (group.above | above) & ~group.mask
        for number in group.nodes:
            self.take(number, group)
        # What depends on a part of the group now depends on all that the group depends on.
        mask, beyond = group.mask, group.above | group.mask
        for other in self._below(group):
            if other.above & mask and other is not group:
                other.above |= beyond

    def _below(self, group: Group) -> Iterable[Group]:
        """The groups that depend on a group; all there are unless that are many and those few, as where a
        parameter's new value is made: to look at one costs less than to find it.
        """
        if len(self._alive) < MANY:
            return self._alive
        found: dict[Group, None] = {}
        stack = [group]
        while stack:
            for number in stack.pop().nodes:
                for value in self.graph.nodes[number].outputs:
                    new = {self.of[user] for user in self.users[value]} - found.keys() - {group}
                    found.update(dict.fromkeys(new))
                    stack += new
            if len(found) > FEW:
                return self._alive
        return found

    def why_not(self, first: Group, second: Group) -> str:
        """Why `try_merge` would refuse; nothing changes."""
        try:
            self._merged(first, second)
        except Refusal as refusal:
            return str(refusal)
        return ""

    def _merged(self, a: Group, b: Group) -> Group:
        if a.is_update != b.is_update:
            raise Refusal(KEPT_APART)
        shape = self._region(a, b) if a.template is None else self._epilogue(a, b)
        if self.makes_cycle(a, b) or self.makes_cycle(b, a):
            raise Refusal("would make a cycle")
        parallel, reduction, places = shape
        nodes = sorted(a.nodes + b.nodes)
        mask = a.mask | b.mask
        merged = Group(
            nodes,
            mask,
            (a.above | b.above) & ~mask,
            parallel,
            reduction,
            places,
            a.template,
            True,
            a.is_update,
        )
        self._check_escapes(merged)
        return merged

    def makes_cycle(self, a: Group, b: Group) -> bool:
        """Whether a path leads from `a` through another group to `b`."""
        for number in b.nodes:
            for value in self.graph.nodes[number].inputs:
                maker = self.graph.producer[value]
                if maker is None or (a.mask | b.mask) >> maker & 1:
                    continue
                if self.of[maker].above & a.mask:
                    return True
        return False

    def escapes(self, number: int, mask: int) -> bool:
        """Whether a value of the node is used outside the nodes of `mask`."""
        return any(
            value in self.returned or any(not mask >> user & 1 for user in self.users[value])
            for value in self.graph.nodes[number].outputs
        )

    def _region(self, a: Group, b: Group) -> tuple[tuple[int, ...], tuple[int, ...], Places]:
        if not (a.is_loop and b.is_loop) or b.template is not None:
            raise Refusal("different kinds of kernel")
        if a.reduction and b.reduction:
            if (a.parallel, a.reduction) != (b.parallel, b.reduction):
                raise Refusal("different reduction domain")
            fixed, other = a, b
        else:
            fixed, other = (b, a) if b.reduction else (a, b)
        places = fixed.places | self._placed(fixed, other)
        for producer, consumer in ((a, b), (b, a)):
            self._check_reads(producer, consumer, fixed, places)
        return fixed.parallel, fixed.reduction, places

    def _placed(self, fixed: Group, other: Group) -> Places:
        """The places of `other`'s loops among the dims of `fixed`."""
        if other.reduction or other.parallel == fixed.parallel:
            return other.places
        if sorted(other.parallel) != sorted(fixed.domain):
            raise Refusal(f"different domain: {_shown(other.parallel)} and {_shown(fixed.domain)}")
        if not fixed.reduction:
            raise Refusal("read in another order than it is made")
        order = self._order(fixed, other)
        return {
            number: tuple(order[dim] for dim in place) for number, place in other.places.items()
        }

    def _order(self, fixed: Group, other: Group) -> tuple[int, ...]:
        """Which dim of `fixed` each dim of `other` is, as the reads between the two demand."""
        order: dict[int, int] = {}
        for reader, maker in ((fixed, other), (other, fixed)):
            for mine, theirs in self._pairs(reader, maker):
                pairs = zip(mine, theirs, strict=True)
                order.update(dict(pairs) if reader is other else {t: m for m, t in pairs})
        free = [dim for dim in range(len(fixed.domain)) if dim not in order.values()]
        for dim, extent in enumerate(other.parallel):
            if dim not in order and free:
                order[dim] = free.pop(0)
            if dim not in order or fixed.domain[order[dim]] != extent:
                raise Refusal("read in another order than it is made")
        if sorted(order.values()) != list(range(len(fixed.domain))):
            raise Refusal("read in another order than it is made")
        return tuple(order[dim] for dim in range(len(other.parallel)))

    def _pairs(
        self, reader: Group, maker: Group
    ) -> Iterable[tuple[tuple[int, ...], tuple[int, ...]]]:
        """For each read between the groups, the dims it is read at and made at, each in its own
        group.
        """
        for number in reader.nodes:
            loop = self.graph.nodes[number].loop
            for source, dims in loop.reads() if loop else []:
                producer = self.graph.producer[source]
                if producer is None or not maker.mask >> producer & 1:
                    continue
                made = self._made_at(producer, maker.places)
                read = _read_at(reader.places[number], dims)
                if read is None:
                    raise Refusal("only a part of it is read")
                if len(read) != len(made):
                    raise Refusal("read at one place for all")
                yield read, made

    def _made_at(self, number: int, places: Places) -> tuple[int, ...]:
        loop = self.graph.nodes[number].loop
        assert loop is not None
        return places[number][: loop.parallel]

    def _check_reads(self, maker: Group, reader: Group, fixed: Group, places: Places) -> None:
        """Values made inside are read where they are made, row values anywhere in their row."""
        for number in reader.nodes:
            loop = self.graph.nodes[number].loop
            if loop and any(self._is_made_in(maker, table) for table in loop.tables()):
                raise Refusal("its elements are looked up, so it is stored first")
            for source, dims in loop.reads() if loop else []:
                producer = self.graph.producer[source]
                if producer is None or not maker.mask >> producer & 1:
                    continue
                read = _read_at(places[number], dims)
                if read is None:
                    raise Refusal("only a part of it is read")
                if read != self._made_at(producer, places):
                    raise Refusal("read in another order than it is made")
                if len(places[number]) < len(read):
                    raise Refusal("a row reads elements of itself")

    def _is_made_in(self, group: Group, value: int) -> bool:
        producer = self.graph.producer[value]
        return producer is not None and bool(group.mask >> producer & 1)

    def _check_escapes(self, group: Group) -> None:
        """Full values leave a region in their own order, and only where a row fits fast memory."""
        if group.template is not None or not group.reduction:
            return
        for number in group.nodes:
            loop = self.graph.nodes[number].loop
            assert loop is not None
            full = not loop.combiner and len(loop.extents) == len(group.domain)
            if not full or not self.escapes(number, group.mask):
                continue
            if group.places[number] != tuple(range(len(group.domain))):
                self._check_order(group, number)
                continue
            if prod(group.reduction) > (self.limits.max_row if group.parallel else 1024):
                raise Refusal(f"rows of {prod(group.reduction)} elements are too long to keep")

    def _check_order(self, group: Group, number: int) -> None:
        """A value that is stored in another order than a reduction goes is made while it is reduced: a row
        of it lies scattered, so to read it again is to read memory again.
        """
        if not self.limits.reorders:
            raise Refusal("stored in another order than the reduction goes")
        waiting = [number]
        while waiting:
            makers = self.graph.makers(self.graph.nodes[waiting.pop()])
            inside = [maker for maker in makers if group.mask >> maker & 1]
            loops = (self.graph.nodes[maker].loop for maker in inside)
            if any(loop and loop.combiner for loop in loops):
                raise Refusal("stored in another order than the reduction goes that it waits for")
            waiting += inside

    def _epilogue(self, a: Group, b: Group) -> tuple[tuple[int, ...], tuple[int, ...], Places]:
        """What fits behind a template joins its kernel: loops over its result, sums of columns of
        that, and what follows from them for each column.
        """
        assert a.template is not None
        if not b.is_loop or b.template is not None:
            raise Refusal("different kinds of kernel")
        template = self.graph.nodes[a.template]
        shape = self.graph.types[template.outputs[0]].shape
        axes = tuple(axis for axis, dim in enumerate(squeezed_dims(shape)) if dim is not None)
        onto = self._behind(b, shape, axes)
        places = a.places | {
            number: tuple(onto[dim] for dim in place) for number, place in b.places.items()
        }
        for number in b.nodes:
            self._check_behind(a, number, axes, places)
        return shape, (), places

    def _behind(
        self, group: Group, shape: tuple[int, ...], axes: tuple[int, ...]
    ) -> tuple[int, ...]:
        """For each dim of a group the axis of a template's result that it runs over."""
        *others, last = axes or (None,)
        sums = (last, *others) if others and last == len(shape) - 1 else ()
        for order in (axes, sums, sums[:1]):
            if group.domain == tuple(shape[axis] for axis in order) and (
                bool(group.reduction) == (order is sums)
            ):
                return order
        if group.reduction:
            raise Refusal("only pointwise loops and sums of columns fit behind a template")
        raise Refusal(f"different domain: {_shown(group.parallel)} behind {_shown(shape)}")

    def _check_behind(self, a: Group, number: int, axes: tuple[int, ...], places: Places) -> None:
        """Whether a loop can read what it does behind a template."""
        loop = self.graph.nodes[number].loop
        assert loop is not None
        if loop.tables():
            raise Refusal("nothing is looked up behind a template")
        if loop.combiner and not self._is_partial(loop):
            raise Refusal("of folds behind a template only float sums are made of partial ones")
        if len(places[number]) == len(axes) and not loop.combiner and places[number] != axes:
            raise Refusal("stored in another order than the template's result")
        for source, dims in loop.reads():
            producer = self.graph.producer[source]
            if producer is None or (producer not in places and producer != a.template):
                continue
            made = axes if producer == a.template else self._made_at(producer, places)
            if _read_at(places[number], dims) != made:
                raise Refusal("read in another order than it is made")
            if len(places[number]) > len(made):
                raise Refusal("the sums of columns are known when all tiles are done")
            if len(places[number]) < len(made):
                raise Refusal("a column reads elements of itself")

    def _is_partial(self, loop: Loop) -> bool:
        return loop.combiner == "arith.addf" and loop.body.types[loop.value] in (
            "f32",
            "bf16",
            "f16",
        )


def _read_at(places: tuple[int, ...], dims: Dims) -> tuple[int, ...] | None:
    """The group's dims that a loop at `places` reads a value at; None if it reads a part of it."""
    return plain(rename(dims, places))


def _shown(extents: tuple[int, ...]) -> str:
    return "x".join(map(str, extents)) or "a scalar"
