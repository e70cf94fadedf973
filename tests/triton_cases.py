"""Loop regions as text, and a check of their Triton kernels against the reference interpreter."""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch

from keras_triton.lowering import emit_triton, interpret, mlir
from keras_triton.lowering.mlir import TensorType

NEUTRAL = {
    "arith.addf": "0.0", "arith.mulf": "1.0", "arith.maximumf": "0xFF800000",
    "arith.minimumf": "0x7F800000", "arith.addi": "0", "arith.muli": "1", "arith.ori": "0",
    "arith.andi": "-1", "arith.maxsi": "-2147483648", "arith.minsi": "2147483647",
}  # fmt: skip
# Rounding of one result to its type, in units of the largest result, times the length of a body.
TOLERANCE = {
    torch.float64: 1e-11, torch.float32: 4e-6, torch.bfloat16: 1e-2, torch.float16: 2e-3,
}  # fmt: skip


@dataclass(frozen=True)
class Generic:
    """One linalg.generic: ``out = (in(dims), ...) -> type``; `body` ends in a yield of %r.

    ``body`` names its inputs %x0, %x1...; a reduction gives `combiner` and lets %r be folded. The
    result's axes are the dims ``axes``, or all in order.
    """

    out: str
    reads: tuple[tuple[str, tuple[int | None, ...]], ...]
    type: str
    body: str
    combiner: str = ""
    axes: tuple[int, ...] = ()


def scalar(kind: str) -> str:
    return re.search(r"(\w+)>$", kind)[1].split("x")[-1]


def shape(kind: str) -> tuple[int, ...]:
    return tuple(int(extent) for extent in re.findall(r"(\d+)x", kind))


def affine(rank: int, dims: tuple[int | None, ...]) -> str:
    axes = ", ".join(f"d{i}" for i in range(rank))
    return f"affine_map<({axes}) -> ({', '.join('0' if d is None else f'd{d}' for d in dims)})>"


def generic_text(generic: Generic, types: dict[str, str], domain: tuple[int, int]) -> str:
    """The op, for a domain of `domain` = (parallel dims, reduction dims)."""
    kept = len(shape(generic.type))
    rank = sum(domain) if generic.combiner else kept
    element = scalar(generic.type)
    maps = [affine(rank, dims) for _, dims in generic.reads]
    maps.append(affine(rank, generic.axes or tuple(range(kept))))
    kinds = ['"parallel"'] * kept + ['"reduction"'] * (rank - kept)
    ins = ", ".join(f"%{name}" for name, _ in generic.reads)
    in_types = ", ".join(types[name] for name, _ in generic.reads)
    given = "".join(f"%x{i}: {scalar(types[name])}, " for i, (name, _) in enumerate(generic.reads))
    out, fill = f"%{generic.out}_empty", ""
    body = generic.body
    if generic.combiner:
        out = f"%{generic.out}_fill"
        neutral = NEUTRAL[generic.combiner]
        if element == "i1" and generic.combiner == "arith.andi":
            neutral = "true"
        elif element == "i1":
            neutral = "false"
        typed = neutral if element == "i1" else f"{neutral} : {element}"
        fill = (
            f"%{generic.out}_start = arith.constant {typed}\n"
            f"{out} = linalg.fill ins(%{generic.out}_start : {element}) "
            f"outs(%{generic.out}_empty : {generic.type}) -> {generic.type}\n"
        )
        body += f"\n%folded = {generic.combiner} %acc, %r : {element}"
    reads = f"ins({ins} : {in_types}) " if generic.reads else ""
    return (
        f"%{generic.out}_empty = tensor.empty() : {generic.type}\n{fill}"
        f"%{generic.out} = linalg.generic {{indexing_maps = [{', '.join(maps)}], "
        f"iterator_types = [{', '.join(kinds)}]}} {reads}outs({out} : {generic.type}) {{\n"
        f"^bb0({given}%acc: {element}):\n{body}\n"
        f"linalg.yield %{'folded' if generic.combiner else 'r'} : {element}\n}} -> {generic.type}"
        f' loc("model/{generic.out}")\n'
    )


def module_text(
    name: str,
    kind: str,
    arguments: dict[str, str],
    ops: str,
    results: dict[str, str],
    extra: str = "",
) -> str:
    """A module of stage regions with one kernel, called by main."""
    given = ", ".join(f"%{arg}: {type}" for arg, type in arguments.items())
    types, returned = ", ".join(arguments.values()), ", ".join(results.values())
    names = ", ".join(f"%{arg}" for arg in arguments)
    call = f"func.call @{name}({names}) : ({types}) -> ({returned})"
    taken = f"%called:{len(results)}" if len(results) > 1 else "%called"
    gives = (
        ", ".join(f"%called#{i}" for i in range(len(results))) if len(results) > 1 else "%called"
    )
    return (
        'module attributes {keras.stage = "regions"} {\n'
        f"func.func private @{name}({given}) -> ({returned}) "
        f'attributes {{keras.kernel = "{kind}", keras.layers = ["model"]{extra}}} {{\n{ops}'
        f"return {', '.join('%' + result for result in results)} : {returned}\n}}\n"
        f"func.func @main({given}) -> ({returned}) {{\n{taken} = {call}\n"
        f"return {gives} : {returned}\n}}\n}}\n"
    )


def region_text(
    name: str,
    arguments: dict[str, str],
    generics: list[Generic],
    results: list[str],
    domain: tuple[int, int] = (1, 0),
) -> str:
    types = dict(arguments)
    ops = ""
    for generic in generics:
        ops += generic_text(generic, types, domain)
        types[generic.out] = generic.type
    return module_text(name, "loop", arguments, ops, {result: types[result] for result in results})


def tensor_of(kind: TensorType, generator: torch.Generator) -> torch.Tensor:
    if kind.dtype == "i1":
        return torch.rand(kind.shape, generator=generator) < 0.5
    if not kind.is_float:
        return torch.randint(-50, 50, kind.shape, generator=generator, dtype=kind.torch_dtype)
    return torch.randn(kind.shape, generator=generator, dtype=torch.float64).to(kind.torch_dtype)


def inputs_of(function) -> list[torch.Tensor]:
    """Random tensors for a kernel's arguments, the same ones every time."""
    generator = torch.Generator().manual_seed(0)
    return [tensor_of(TensorType.of(arg), generator) for arg in function.arguments]


def kernel_of(text: str):
    """The module of `text` and its one kernel function."""
    module = mlir.parse(text)
    return module, next(f for name, f in mlir.functions(module).items() if name != "main")


def check(text, config=None, inputs=None, elementwise=False):
    """Interprets the kernel of `text` and compares with the module's meaning; returns it loaded."""
    module, function = kernel_of(text)
    inputs = inputs_of(function) if inputs is None else inputs
    loaded = emit_triton.load(emit_triton.emit(function, config))
    types = [TensorType.of(kind) for kind in function.type.results]
    outputs = [torch.full(t.shape, 77).to(t.torch_dtype) for t in types]
    loaded.run([*inputs, *outputs], interpret=True)
    for output, expected in zip(outputs, interpret.run(module, inputs), strict=True):
        compare(output, expected, elementwise)
    return loaded


def compare(output: torch.Tensor, expected: torch.Tensor, elementwise: bool = False) -> None:
    """Equal within rounding: of each element, or of the largest one."""
    if not output.dtype.is_floating_point:
        assert torch.equal(output, expected)
        return
    if elementwise:
        torch.testing.assert_close(
            output.double(),
            expected.double(),
            atol=1e-38,
            rtol=TOLERANCE[output.dtype],
            equal_nan=True,
        )
        return
    finite = expected.double()[expected.double().isfinite()]
    scale = float(finite.abs().max()) if finite.numel() else 1.0
    limit = TOLERANCE[output.dtype] * max(scale, 1e-3)
    torch.testing.assert_close(
        output.double(), expected.double(), atol=limit, rtol=0, equal_nan=True
    )


def multi_text(
    name: str, kinds: dict[str, str], shapes: list[tuple[int, ...]], body: dict[str, str]
) -> str:
    """A "multi" kernel: for each shape an instance that reads `kinds` (name -> dtype).

    A name in capitals is one element. `body` gives each result of an instance, all of type f32.
    """
    arguments, ops, results = {}, "", {}
    for i, extents in enumerate(shapes):
        rank = len(extents)
        spelled = "".join(f"{extent}x" for extent in extents)
        mine = {
            f"{arg}{i}": f"tensor<{'' if arg.isupper() else spelled}{dtype}>"
            for arg, dtype in kinds.items()
        }
        arguments |= mine
        every = tuple(range(rank))
        reads = tuple((arg, () if arg[0].isupper() else every) for arg in mine)
        types = dict(mine)
        for result, text in body.items():
            out = f"{result}{i}"
            kind = f"tensor<{spelled}f32>"
            ops += generic_text(Generic(out, reads, kind, text), types, (rank, 0))
            types[out] = results[out] = kind
    extra = f", keras.instances = {len(shapes)} : i64"
    return module_text(name, "multi", arguments, ops, results, extra)
