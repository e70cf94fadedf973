"""The reference interpreter: runs a module of any stage on torch tensors, op by op.

It defines what a module means. Passes are tested by running the module before and after them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from mlir import ir

from .. import dialect
from ..errors import DialectError
from ..extern import Extern, call_extern
from ..loops import loop_of
from ..mlir import TensorType, callee, functions, layer_of, stage_of
from .body import constant_tensor, scalar_dtype
from .linalg import LINALG
from .loops import run_loop
from .values import Environment, Number


def run(
    module: ir.Module, inputs: Sequence[torch.Tensor], *, exact: bool = True
) -> list[torch.Tensor]:
    """The results of the module's `main`.

    Args:
        module: of stage keras, linalg, regions or plan.
        inputs: a CPU tensor for each argument that has a `keras.name`, of its type. Not changed.
        exact: compute floats in float64 and round to the declared dtypes at the end only (a plan
            stores its buffers in their declared dtypes all the same). Otherwise each op rounds to
            its declared dtype.

    Raises:
        DialectError: inputs that are not the arguments' types, or an op without a meaning here.
    """
    if stage_of(module) == "plan":
        from .plan import run_plan

        return run_plan(module, inputs, exact)
    known = functions(module)
    main = known["main"]
    types = [TensorType.of(argument) for argument in main.arguments]
    check_inputs(types, inputs)
    results = call(known, "main", inputs, exact)
    declared = [TensorType.of(kind).torch_dtype for kind in main.type.results]
    return [value.to(dtype) for value, dtype in zip(results, declared, strict=True)]


def check_inputs(types: Sequence[TensorType], inputs: Sequence[torch.Tensor]) -> None:
    """Raises DialectError unless the inputs have these types."""
    given = [TensorType.of_torch(tensor) for tensor in inputs]
    if given != list(types):
        wanted = ", ".join(map(str, types))
        raise DialectError(f"main takes ({wanted}), not ({', '.join(map(str, given))})")


def call(
    known: dict[str, ir.OpView], name: str, inputs: Sequence[torch.Tensor], exact: bool
) -> list[torch.Tensor]:
    """The results of the function `name`, be it defined, a declared extern or a loop."""
    function = known[name]
    extern = Extern.of(function)
    number = Number(exact)
    if extern is not None:
        declared = [TensorType.of(kind).dtype for kind in function.type.results]
        results = call_extern(extern, [number.settle(value) for value in inputs])
        return [number.settle(x, dtype) for x, dtype in zip(results, declared, strict=True)]
    loop = loop_of(function)
    if loop is not None:
        count = len(function.type.results)
        return run_loop(loop, inputs, count, lambda body, given: call(known, body, given, exact))
    env = Environment(number)
    block = function.regions[0].blocks[0]
    for argument, value in zip(block.arguments, inputs, strict=True):
        env[argument] = number.settle(value)
    for view in block.operations:
        op = view.operation
        if op.name == "func.return":
            return [env[value] for value in op.operands]
        operands = [env[value] for value in op.operands]
        if op.name == "func.call":
            results = call(known, callee(op), operands, exact)
        else:
            results = evaluate(op, operands, env)
        for result, value in zip(op.results, results, strict=True):
            env[result] = number.settle(value, scalar_dtype(result.type))
    raise DialectError(f"the function {name} does not return")


def evaluate(
    op: ir.Operation, operands: Sequence[torch.Tensor], env: Environment
) -> list[torch.Tensor]:
    """The results of one op on tensors; `env` is for the values that its regions use."""
    if op.name.startswith("keras."):
        return dialect.evaluate(op, operands)
    if op.name not in OPS:
        raise DialectError(f"{op.name} has no meaning here (layer {layer_of(op) or '?'})")
    return OPS[op.name](op, operands, env)


def _reshaped(
    op: ir.Operation, operands: Sequence[torch.Tensor], env: Environment
) -> list[torch.Tensor]:
    return [operands[0].reshape(TensorType.of(op.results[0]).shape)]


def _constant(
    op: ir.Operation, operands: Sequence[torch.Tensor], env: Environment
) -> list[torch.Tensor]:
    return [constant_tensor(op.attributes["value"])]


OPS: dict[str, Callable[..., list[torch.Tensor]]] = {
    "arith.constant": _constant,
    "tensor.collapse_shape": _reshaped,
    "tensor.expand_shape": _reshaped,
    "tensor.reshape": _reshaped,
    **LINALG,
}
