"""What a compiled program depends on: the structure, shapes, dtypes and plain values of a call."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import optree
import torch
from keras.src import backend
from keras.src.backend import KerasTensor, Variable
from keras.src.backend.torch.ops.core import convert_to_tensor, get_device

# Leaves that are no tensors and mean the same whenever they are equal; bools, ints and strings of
# equal value differ by type, floats by their digits (0.0 equals -0.0, NaN equals nothing).
PLAIN = (bool, int, float, complex, str, bytes)
ARRAYS = (np.ndarray, np.generic)
Shapes: TypeAlias = tuple[torch.Size, ...]


class NotExpressible(ValueError):
    """An argument that no program can depend on; the message says which and why."""


class Symbolic(Exception):
    """An argument is a `KerasTensor`: a model is being built, and nothing is to be computed."""


@dataclass(frozen=True, eq=False)
class Same:
    """A static argument that is compared by identity. Holds it, so that its id stays its own."""

    value: object

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


@dataclass(frozen=True)
class Arguments:
    """The arguments of one call.

    Attributes:
        form: all that a program depends on but the shapes.
        shapes: of the tensors. Calls of equal form and shapes can be served by one program.
        leaves: all leaves in flattening order, arrays replaced by tensors on the backend's device.
        tensors: the leaves that are tensors, all contiguous.
    """

    form: Hashable
    shapes: Shapes
    spec: optree.PyTreeSpec
    leaves: list[Any]
    tensors: list[torch.Tensor]

    @property
    def key(self) -> Hashable:
        """Form and shapes."""
        return self.form, self.shapes

    def structure(self) -> Any:
        """The arguments with tensors in place of arrays."""
        return self.spec.unflatten(self.leaves)


def flatten(structure: Any) -> tuple[list[Any], optree.PyTreeSpec]:
    """Leaves and tree of nested Python containers; None is a leaf."""
    return optree.tree_flatten(structure, none_is_leaf=True, namespace="keras")


def sign(structure: Any, *, static_objects: bool, differentiable: bool) -> Arguments:
    """The signature of a call.

    Args:
        structure: nested containers of tensors, arrays and static values.
        static_objects: whether any hashable object may be a static value, compared by its own `==`
            (Keras variables and torch modules by identity); if not, only numbers, strings and None.
        differentiable: whether it matters which tensors require gradients.

    Raises:
        NotExpressible: a leaf is neither a tensor nor such a value.
        Symbolic: a leaf is a `KerasTensor`.
    """
    leaves, spec = flatten(structure)
    device = str(get_device()).partition(":")[0]
    key: list[Hashable] = [device, backend.floatx(), torch.get_float32_matmul_precision()]
    tensors: list[torch.Tensor] = []
    for position, leaf in enumerate(leaves):
        if isinstance(leaf, ARRAYS):
            leaf = _tensor(leaf)
        if isinstance(leaf, torch.Tensor):
            if leaf.layout != torch.strided:
                raise NotExpressible(f"a tensor of layout {leaf.layout} is an argument")
            if leaf.device.type != device:
                leaf = leaf.to(device, non_blocking=True)
            leaf = leaf if leaf.is_contiguous() else leaf.contiguous()
            leaves[position] = leaf
            tensors.append(leaf)
            key += (leaf.ndim, leaf.dtype)
            if differentiable:
                key.append(leaf.requires_grad)
        else:
            key.append(type(leaf).__qualname__)
            key.append(_static(leaf, static_objects))
    shapes = tuple(tensor.shape for tensor in tensors)
    return Arguments((spec, *key), shapes, spec, leaves, tensors)


def _tensor(array: np.ndarray | np.generic) -> torch.Tensor:
    if array.dtype.kind not in "biufc":
        raise NotExpressible(f"an array of dtype {array.dtype} is an argument")
    return convert_to_tensor(array)


def _static(leaf: Any, static_objects: bool) -> Hashable:
    if isinstance(leaf, float | complex):
        return repr(leaf)
    if leaf is None or isinstance(leaf, PLAIN):
        return leaf
    if isinstance(leaf, KerasTensor):
        raise Symbolic
    if static_objects:
        if isinstance(leaf, Variable | torch.nn.Module):
            return Same(leaf)
        if type(leaf).__hash__ is not None:
            return leaf
    raise NotExpressible(
        f"an argument of type {type(leaf).__name__} is neither a tensor nor a fixed value"
    )
