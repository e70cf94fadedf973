"""Operands that a product makes as it loads them: loops before a template."""

from __future__ import annotations

from keras_triton.kernels import spec

from ..emit_triton.template import problem_of
from ..linalg.body import Body
from ..operands import meetings
from .graph import Loop, Node, squeezed, squeezed_dims
from .grouping import Grouping, Refusal

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
    if node.kind != "call" or node.op is None or node.call not in spec.all_specs():
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
    size = max(grouping.graph.types[value].size, 1)
    for number in (i for i, operand in enumerate(node.inputs) if operand == value):
        met, loads = meetings(node.op, number)
        if price * loads > max(met / MULTIPLY_ADDS, nbytes / size / BYTES):
            raise Refusal(
                f"stored: {price} operations an element, {loads} times, do not hide behind "
                f"{met} multiply-adds"
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
    grouping.of[number] = group
    return number
