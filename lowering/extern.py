"""Calls of torch ops that no dialect op expresses: their spelling in a module, and their execution.

Such a call is a `func.call` of a private declaration with `keras.extern = {target, args, reason}`.
`args` is JSON, `[positional]` or `[positional, keywords]`: {"t": i} is the i-th operand,
{"dtype": "float32"} a dtype, {"complex": [0.0, 1.0]} a number, {"device": true} the device of the
data; all else stands for itself.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from mlir import ir

from .errors import DialectError, ImportGraphError

ATTRIBUTE = "keras.extern"
# How tensors lie in memory is the compiler's choice, so these say nothing in a module.
DROPPED = ("layout", "memory_format", "pin_memory", "non_blocking")


@dataclass(frozen=True)
class Extern:
    """What a declaration's `keras.extern` says.

    Attributes:
        target: the op, e.g. "aten.topk.default".
        args: its arguments as JSON.
        reason: why the dialect does not express it.
    """

    target: str
    args: str
    reason: str

    @classmethod
    def of(cls, function: ir.OpView) -> Extern | None:
        """The extern that a declaration names, or None for any other function."""
        if ATTRIBUTE not in function.operation.attributes:
            return None
        fields = ir.DictAttr(function.operation.attributes[ATTRIBUTE])
        return cls(*(ir.StringAttr(fields[key]).value for key in ("target", "args", "reason")))

    @property
    def is_repeatable(self) -> bool:
        """Whether equal calls give equal results, whenever they are made. What draws torch's random
        numbers does not; of an op from elsewhere nobody can say.
        """
        ours = self.target.split(".")[0] in ("aten", "prims", "keras_triton")
        return ours and torch.Tag.nondeterministic_seeded not in parse_target(self.target).tags

    def to_attribute(self) -> ir.Attribute:
        """The dictionary attribute, in the current context."""
        fields = {"target": self.target, "args": self.args, "reason": self.reason}
        return ir.DictAttr.get({key: ir.StringAttr.get(text) for key, text in fields.items()})


def target_name(target: Any) -> str:
    """ "aten.topk.default" for that overload.

    Raises:
        ImportGraphError: not an overload of a torch op, so no module can name it.
    """
    if not isinstance(target, torch._ops.OpOverload):
        raise ImportGraphError(f"{target} is no overload of a torch op, so a module cannot call it")
    return f"{target.namespace}.{target._opname}.{target._overloadname}"


def parse_target(target: str) -> torch._ops.OpOverload:
    """The overload that a name such as "aten.topk.default" means.

    Raises:
        DialectError: torch has no such op.
    """
    namespace, _, rest = target.partition(".")
    packet, _, overload = rest.rpartition(".")
    try:
        return getattr(getattr(getattr(torch.ops, namespace), packet), overload)
    except AttributeError:
        raise DialectError(f"torch has no op {target!r} (namespace.name.overload)") from None


def encode_args(
    args: Sequence[Any], kwargs: Mapping[str, Any], index_of: Callable[[Any], int | None]
) -> str:
    """The JSON of a call; `index_of` gives a tensor's operand number, and None for anything else.

    Raises:
        ImportGraphError: an argument that JSON cannot hold.
    """

    def encode(value: Any) -> Any:
        index = index_of(value)
        if index is not None:
            return {"t": index}
        if isinstance(value, torch.dtype):
            return {"dtype": str(value).removeprefix("torch.")}
        if isinstance(value, torch.device):
            return {"device": True}
        if isinstance(value, complex):
            return {"complex": [value.real, value.imag]}
        if isinstance(value, list | tuple):
            return [encode(item) for item in value]
        if value is None or isinstance(value, bool | int | float | str):
            return value
        raise ImportGraphError(f"an argument {value!r} of {type(value).__name__} cannot be written")

    kept = {key: encode(value) for key, value in kwargs.items() if key not in DROPPED}
    return json.dumps([encode(list(args)), kept] if kept else [encode(list(args))])


def arguments_of(
    extern: Extern, known: Callable[[str, Any], Any]
) -> tuple[list[Any], dict[str, Any]]:
    """What an op is called with, by position and by name; `known` gives what {"t": i}, {"device": true} and
    {"complex": [re, im]} stand for, by kind and content.
    """

    def decode(value: Any) -> Any:
        if isinstance(value, list):
            return [decode(item) for item in value]
        if not isinstance(value, dict):
            return value
        ((kind, content),) = value.items()
        return getattr(torch, content) if kind == "dtype" else known(kind, content)

    args, kwargs = (*json.loads(extern.args), {})[:2]
    return decode(args), {key: decode(value) for key, value in kwargs.items()}


def call_extern(
    extern: Extern, tensors: Sequence[torch.Tensor], device: torch.device | None = None
) -> list[torch.Tensor]:
    """Runs the op on torch; its tensor results in order.

    Args:
        extern: the call.
        tensors: the operands that {"t": i} counts.
        device: what {"device": true} means; that of the first operand (CPU without any) if None.
    """
    if device is None:
        device = tensors[0].device if tensors else torch.device("cpu")

    def known(kind: str, content: Any) -> Any:
        if kind == "complex":
            return complex(*content)
        return tensors[content] if kind == "t" else device

    args, kwargs = arguments_of(extern, known)
    result = parse_target(extern.target)(*args, **kwargs)
    results = result if isinstance(result, list | tuple) else [result]
    return [item for item in results if isinstance(item, torch.Tensor)]
