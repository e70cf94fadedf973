"""Which aten ops a captured graph may hold: the decomposition table of the capture.

Composite ops become pointwise ops and reductions, which the compiler fuses. An op that has a kernel
template, or whose forward and backward are computed by a pair of fused ops, stays one node. Both
halves of such a pair are kept, or both are decomposed: decomposing one half alone hands the other
half saved values it does not expect (measured: attention gradients wrong by up to 2500 times).
"""

import functools
import math
from collections.abc import Callable

import torch
from torch._decomp import _core_aten_decompositions_post_autograd, get_decompositions
from torch._decomp.decompositions import pw_cast_for_opmath

aten = torch.ops.aten

# Stay one node although torch can decompose them.
KEPT = (
    "_softmax",
    "_softmax_backward_data",
    "_log_softmax",
    "_log_softmax_backward_data",
    "_safe_softmax",
    "native_layer_norm",
    "native_layer_norm_backward",
    "embedding",
    "embedding_dense_backward",
    "max_pool2d_with_indices",
    "max_pool2d_with_indices_backward",
    "_scaled_dot_product_flash_attention_for_cpu",
    "index_add",
    "index_copy",
    "roll",
    "masked_fill",
)

# Decomposed although the core aten set leaves them whole, by torch's own rules. Only rules that end
# in aten ops: torch's reference rules end in `prims` ops.
ADDED = (
    "native_batch_norm",
    "_native_batch_norm_legit",
    "_native_batch_norm_legit_functional",
    "_native_batch_norm_legit_no_training",
    "_batch_norm_with_update",
    "_batch_norm_with_update_functional",
    "batch_norm_backward",
)


@functools.cache
def decomposition_table() -> dict[torch._ops.OpOverload, Callable]:
    """The table given to `make_fx`: op overload -> its decomposition. Shared; do not change it."""
    # Ops that torch composes of others need no rule: the tracer takes them apart by itself. To list
    # them, as the public table does, takes a quarter of the capture of a small model.
    rules = _core_aten_decompositions_post_autograd()
    added = [getattr(aten, name) for name in ADDED if hasattr(aten, name)]
    rules.update(get_decompositions(added))
    table: dict[torch._ops.OpOverload, Callable] = {
        op: rule
        for op, rule in rules.items()
        if isinstance(op, torch._ops.OpOverload) and _packet_name(op) not in KEPT
    }
    table.update(_foreach_decompositions())
    table.update(
        {
            aten.copy.default: _copy,
            aten.elu.default: _elu,
            aten.eye.default: _eye,
            aten.eye.m: _eye,
            aten.gelu.default: _gelu,
            aten.hardtanh.default: torch.clamp,
            aten.leaky_relu.default: _leaky_relu,
            aten.masked_fill.Scalar: _masked_fill,
            aten.masked_fill.Tensor: _masked_fill,
            aten.var.correction: _var,
            aten.var_mean.correction: _var_mean,
        }
    )
    return table


def _packet_name(op: torch._ops.OpOverload) -> str:
    return op.name().split("::")[1].split(".")[0]


def _copy(x: torch.Tensor, source: torch.Tensor, non_blocking: bool = False) -> torch.Tensor:
    # Every state of a step ends here, and mostly neither dtype nor shape change: a call costs 1 ms.
    value = source if source.dtype == x.dtype else source.to(x.dtype)
    return value if value.shape == x.shape else value.expand(x.shape)


def _masked_fill(x: torch.Tensor, mask: torch.Tensor, value: torch.Tensor | float) -> torch.Tensor:
    # torch's own rule clones a tensor value first; a plain select needs no copy.
    if not isinstance(value, torch.Tensor):
        value = torch.scalar_tensor(value, dtype=x.dtype, device=x.device)
    return torch.where(mask, value.to(x.dtype), x)


def _eye(
    n: int,
    m: int | None = None,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | None = None,
    **_layout: object,
) -> torch.Tensor:
    # torch's own rule counts in uint8 where it can, which has no arithmetic here.
    rows = torch.arange(n, device=device).unsqueeze(1)
    columns = torch.arange(n if m is None else m, device=device)
    return (rows == columns).to(dtype or torch.get_default_dtype())


@pw_cast_for_opmath
def _gelu(x: torch.Tensor, *, approximate: str = "none") -> torch.Tensor:
    if approximate == "tanh":
        inner = math.sqrt(2.0 / math.pi) * (x + 0.044715 * x * x * x)
        return 0.5 * x * (1.0 + torch.tanh(inner))
    return 0.5 * x * (1.0 + torch.erf(x * math.sqrt(0.5)))


@pw_cast_for_opmath
def _elu(
    x: torch.Tensor, alpha: float = 1.0, scale: float = 1.0, input_scale: float = 1.0
) -> torch.Tensor:
    negative = torch.expm1(x * input_scale) * (alpha * scale)
    return torch.where(x > 0, x * scale, negative)


@pw_cast_for_opmath
def _leaky_relu(x: torch.Tensor, negative_slope: float = 0.01) -> torch.Tensor:
    return torch.where(x > 0, x, x * negative_slope)


@pw_cast_for_opmath
def _var_mean(
    x: torch.Tensor,
    dim: list[int] | None = None,
    *,
    correction: float | None = None,
    keepdim: bool = False,
) -> tuple[torch.Tensor, torch.Tensor]:
    dims = dim or list(range(x.ndim))
    count = math.prod(x.shape[d] for d in dims)
    mean = torch.mean(x, dims, keepdim=True)
    centred = x - mean
    freedom = max(count - (1 if correction is None else correction), 0)
    # Zero degrees of freedom give NaN, or infinity, as 0 / 0 and x / 0 do.
    total = torch.sum(centred * centred, dims, keepdim=keepdim)
    variance = total / torch.scalar_tensor(freedom, dtype=x.dtype, device=x.device)
    if not keepdim:
        mean = mean.reshape(variance.shape)
    return variance, mean


def _var(x: torch.Tensor, dim: list[int] | None = None, **options: float) -> torch.Tensor:
    return _var_mean(x, dim, **options)[0]


def _foreach_decompositions() -> dict[torch._ops.OpOverload, Callable]:
    """Functional `_foreach_<op>` on lists of tensors as one `<op>` per tensor."""
    table: dict[torch._ops.OpOverload, Callable] = {}
    for packet_name in dir(aten):
        if not packet_name.startswith("_foreach_") or packet_name.endswith("_"):
            continue
        elementwise = getattr(torch, packet_name.removeprefix("_foreach_"), None)
        packet = getattr(aten, packet_name)
        if elementwise is None or not hasattr(packet, "overloads"):
            continue
        for overload in packet.overloads():
            if not overload.endswith("out"):
                op = getattr(packet, overload)
                table[op] = functools.partial(_each, elementwise, op._schema)
    return table


def _each(elementwise: Callable, schema: torch.FunctionSchema, *args, **kwargs) -> list:
    """Apply `elementwise` to the i-th entries of the list arguments, for every i."""
    per_item = [_is_list(argument) for argument in schema.arguments[: len(args)]]
    named = {argument.name: _is_list(argument) for argument in schema.arguments}
    length = next(len(a) for a, listed in zip(args, per_item, strict=True) if listed)
    return [
        elementwise(
            *(a[i] if listed else a for a, listed in zip(args, per_item, strict=True)),
            **{key: a[i] if named[key] else a for key, a in kwargs.items()},
        )
        for i in range(length)
    ]


def _is_list(argument: torch.Argument) -> bool:
    return isinstance(argument.type, torch.ListType)
