"""Operands that a product makes as it loads them: loops before a template.

Where others read the operand, too, the first product that can keeps it for them as it loads it.
"""

from __future__ import annotations

from keras_triton.kernels import spec

from ..emit_triton.template import problem_of
from ..linalg.body import Body
from ..linalg.write import attribute_text
from ..operands import meetings
from ..products import KINDS
from .graph import Loop, Node, squeezed, squeezed_dims
from .group import Group, Refusal
from .grouping import Grouping
from .inline import cost

# What hides one operation of a GPU's other units: so many multiply-adds of its tensor cores, or the
# loading of so much of a byte (an H200 does 989 and 67 TFLOP/s, and loads 4.8 TB/s).
MULTIPLY_ADDS, BYTES = 8, 1 / 8


def check_prologue(
    grouping: Grouping, user: int, value: int, price: int | None, nbytes: int
) -> None:
    """Whether a node that is no loop can make its operand `value` of `nbytes` from memory, in `price`
    operations an element (None: nobody can make it again).

    Raises:
        Refusal: why not.
    """
    node = grouping.graph.nodes[user]
    if node.kind != "call" or node.op is None or not spec.has(node.call):
        raise Refusal("different kinds of kernel")
    template = spec.get(node.call)
    problem = problem_of(node.op, node.call)
    if not grouping.limits.epilogues or template.supports(problem):
        raise Refusal("different kinds of kernel")
    operands = template.names(problem)
    read = [operands[i] for i, operand in enumerate(node.inputs) if operand == value]
    for operand in read:
        if operand not in template.prologues:
            raise Refusal(f"stored: {node.call} loads its operand {operand} as it is")
    if price is None:
        raise Refusal("stored: it cannot be made again from what is in memory")
    if _has_sibling(grouping, node, value):
        raise Refusal("stored: products that share a launch load their operands as they are")
    size = max(int(grouping.graph.types[value].size), 1)
    for number in (i for i, operand in enumerate(node.inputs) if operand == value):
        met, loads = meetings(node.op, number)
        if price * loads > max(met / MULTIPLY_ADDS, int(nbytes) / size / BYTES):
            raise Refusal(
                f"stored: {price} operations an element, {loads} times, do not hide behind "
                f"{met} multiply-adds"
            )


def _has_sibling(grouping: Grouping, node: Node, own: int) -> bool:
    """Whether another product of the same shapes and attributes multiplies the other operand of a product
    beside its `own`, in the same place: those become one kernel.
    """
    if node.call not in KINDS:
        return False
    nodes, types = grouping.graph.nodes, grouping.graph.types

    def shown(product: Node) -> tuple[object, ...]:
        assert product.op is not None  # it is a product
        return attribute_text(product.op), *(types[value] for value in product.inputs)

    return any(
        nodes[user] is not node
        and nodes[user].call == node.call
        and nodes[user].inputs[place] == value
        and shown(nodes[user]) == shown(node)
        for place, value in enumerate(node.inputs)
        if value != own
        for user in grouping.users[value]
    )


def make_prologue(grouping: Grouping, template: int, value: int) -> int:
    """Puts a loop that copies the operand `value` before a template's kernel; its node."""
    graph, group = grouping.graph, grouping.of[template]
    kind, node = graph.types[value], graph.nodes[template]
    number, body = len(graph.nodes), Body()
    made = graph.add_value(kind, number)
    extents = squeezed(kind).shape
    read = body.read(value, squeezed_dims(kind.shape), kind.dtype)
    maker = graph.producer[value]
    assert maker is not None
    source = graph.nodes[maker]
    assert source.loop is not None
    loop = Loop(extents, len(extents), body, read, "", source.loop.op)
    copy = Node("loop", None, [value], [made], source.location, source.layer, loop)
    graph.nodes.append(copy)
    grouping.add(copy)
    node.inputs = [made if operand == value else operand for operand in node.inputs]
    group.template = template
    group.nodes.append(number)
    group.before.append(number)
    group.mask |= 1 << number
    group.places[number] = tuple(range(len(extents)))
    grouping.take(number, group)
    return number


def keep_operands(grouping: Grouping) -> None:
    """Merges kernels that only make one operand into the first product that can make and keep it."""
    for number, node in enumerate(grouping.graph.nodes):
        group = grouping.of[number]
        if node.loop is None or not _makes_only(grouping, group, number):
            continue
        for user in grouping.users[node.outputs[0]]:
            try:
                _check_keeping(grouping, user, number)
            except Refusal as refusal:
                grouping.stored.setdefault(number, str(refusal))
                continue
            grouping.absorb(user, group)
            break


def _makes_only(grouping: Grouping, group: Group, number: int) -> bool:
    """Whether a group is a kernel of loops that stores the value of this one for others, and nothing
    else.
    """
    if not group.is_loop or group.template is not None or group.reduction or group.is_update:
        return False
    (value,) = grouping.graph.nodes[number].outputs
    leaving = [other for other in group.nodes if grouping.escapes(other, group.mask)]
    joined = any(grouping.graph.nodes[user].kind == "join" for user in grouping.users[value])
    return leaving == [number] and value not in grouping.returned and not joined


def _check_keeping(grouping: Grouping, user: int, number: int) -> None:
    """Whether a node can make, and keep, the operand that a loop is.

    Raises:
        Refusal: why not.
    """
    graph, group, into = grouping.graph, grouping.of[number], grouping.of[user]
    (value,) = graph.nodes[number].outputs
    loops = [loop for loop in (graph.nodes[other].loop for other in group.nodes) if loop]
    prices = [cost(loop) for loop in loops]
    sources = {source for other in group.nodes for source in graph.nodes[other].inputs}
    outside = [s for s in sources if graph.producer[s] not in group.nodes]
    nbytes = sum(graph.types[source].nbytes for source in outside)
    tables = any(loop.tables() for loop in loops)
    price = None if None in prices or tables else sum(p for p in prices if p is not None)
    check_prologue(grouping, user, value, price, nbytes)
    node = graph.nodes[user]
    assert node.op is not None  # it is a product
    problem = problem_of(node.op, node.call)
    if node.inputs.count(value) > 1 or not spec.get(node.call).keeps(problem):
        raise Refusal(f"stored: {node.call} loads elements of it more than once")
    if any(value in graph.nodes[other].inputs for other in into.nodes if other != user):
        raise Refusal("stored: it is read behind the product, too")
    if grouping.makes_cycle(group, into):
        raise Refusal("would make a cycle")
