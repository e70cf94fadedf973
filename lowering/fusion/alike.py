"""Products that can be the instances of one kernel: which are alike, which belong together."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import replace

from mlir import ir

from keras_triton.kernels import spec

from ..emit_triton.products import problem_of_products
from ..errors import RegionError
from ..linalg.write import op_text
from ..mlir import context
from ..products import KINDS, read_products
from ..region import kernel_kind
from .graph import RESHAPES
from .joined import Made, Part, attributes_of_kernels, join


def key_of(function: ir.OpView) -> str | None:
    """Two kernels of one instance with equal keys are alike; None for what the template does not run
    in instances.
    """
    if kernel_kind(function) not in KINDS:
        return None
    try:
        instances = read_products(function)
    except RegionError:
        return None
    if len(instances) > 1 or most_of(function) < 2:
        return None
    problem = problem_of_products(function)
    several = tuple(
        (name, most_of(function) if name == "instances" else value)
        for name, value in problem.attributes
    )
    many = replace(problem, operands=problem.operands * most_of(function), attributes=several)
    if spec.get("products").supports(many):
        return None
    text = function.operation.get_asm(enable_debug_info=False, use_local_scope=True)
    return f"{function.type} {text.partition(chr(10))[2]}"


def most_of(function: ir.OpView) -> int:
    """How many kernels like this one fit in a launch."""
    from keras_triton.kernels.products import MOST

    return MOST // len(read_products(function)[0].products)


def multiplied(call: ir.Operation, function: ir.OpView) -> Iterator[ir.Value]:
    """The operands of a call's products, as what they were before they were reshaped."""
    arguments = list(function.regions[0].blocks[0].arguments)
    for instance in read_products(function):
        for value in (value for op in instance.products for value in op.operands):
            operand = call.operands[arguments.index(value)]
            while not isinstance(operand.owner, ir.Block) and operand.owner.name in RESHAPES:
                operand = operand.owner.operands[0]
            yield operand


def is_template(function: ir.OpView | None) -> bool:
    """Whether a function is a kernel, and no loops."""
    return function is not None and kernel_kind(function) not in ("loop", "multi", "")


def join_alike(
    name: str, calls: Sequence[ir.Operation], kernels: Sequence[ir.OpView]
) -> tuple[str, list[ir.Value]]:
    """The text of a kernel that does what several calls of alike kernels do, and what it takes. Its
    results are theirs, one call's after another's.

    An operand that calls have in the same place is one argument.
    """
    with context(), ir.Location.unknown():
        holder = ir.Module.create()
        parts = [
            Part(kernel, list(enumerate(call.operands)))
            for call, kernel in zip(calls, kernels, strict=True)
        ]
        operands: dict[Hashable, ir.Value] = {
            item: item[1] for call in calls for item in enumerate(call.operands)
        }
        returned = [Made(i, j) for i, call in enumerate(calls) for j in range(len(call.results))]
        joined = join(name, parts, returned, ir.InsertionPoint(holder.body))
        attributes = joined.function.operation.attributes
        attributes["keras.kernel"] = ir.StringAttr.get("products")
        for key, value in attributes_of_kernels(kernels).items():
            attributes[key] = value
        return op_text(joined.function), [operands[name] for name in joined.parameters]
