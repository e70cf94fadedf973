"""Compiles launches for a GPU that is not there, and reports what the compiler made of them."""

from __future__ import annotations

import re
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from .interpret import LANGUAGE_LOCK
from .launch import Launch

CAPABILITIES = (80, 90, 100)
"""Compute capabilities kernels are checked for."""

POINTERS = {
    "float64": "*fp64", "float32": "*fp32", "float16": "*fp16", "bfloat16": "*bf16",
    "int64": "*i64", "int32": "*i32", "int16": "*i16", "int8": "*i8", "uint8": "*u8", "bool": "*i1",
}  # fmt: skip
"""Triton's spelling of a pointer, by dtype name."""

_TENSOR_CORE = re.compile(r"\b(wgmma|tcgen05|mma)\.(?:mma_async|mma|sync)\b")


@dataclass(frozen=True)
class Report:
    """One compiled kernel: registers of a thread, bytes of spills of a thread (stack and local
    memory), bytes of shared memory of a program, the tensor core instructions used ("wgmma",
    "tcgen05", "mma" or ""), the texts, the binary, and the seconds the compilation took (near zero
    when Triton's disk cache had it)."""

    name: str
    capability: int
    registers: int
    spills: int
    shared: int
    tensor_core: str
    ttir: str
    ptx: str
    cubin: bytes
    seconds: float


def compile_offline(launch: Launch, dtypes: Mapping[str, str], capability: int) -> Report:
    """Compiles ``launch`` for compute capability ``capability`` (80, 90 or 100), with no device.

    ``dtypes`` maps the names of operands, results and scratch to dtype names; pointers are taken to
    be 16-byte aligned, as every buffer of the runtime is.  Raises Triton's own error where the
    kernel does not compile, ValueError for a capability that is not checked.
    """
    if capability not in CAPABILITIES:
        raise ValueError(f"compute capability {capability}; allowed: {CAPABILITIES}")
    target = GPUTarget("cuda", capability, 32)
    start = time.perf_counter()
    with LANGUAGE_LOCK:
        source = _source(launch, dtypes)
        compiled = triton.compile(source, target=target, options=launch.options)
    seconds = time.perf_counter() - start
    registers, spills = _resources(compiled.asm["cubin"])
    return Report(
        name=compiled.name,
        capability=capability,
        registers=registers,
        spills=spills,
        shared=compiled.metadata.shared,
        tensor_core=_tensor_core(compiled.asm["ptx"]),
        ttir=compiled.asm["ttir"],
        ptx=compiled.asm["ptx"],
        cubin=compiled.asm["cubin"],
        seconds=seconds,
    )


def _source(launch: Launch, dtypes: Mapping[str, str]) -> ASTSource:
    """The kernel with the types, constants and pointer alignment of the launch."""
    bound = launch.bind({name: POINTERS[dtype] for name, dtype in dtypes.items()})
    arguments = {name: bound[name] for name in launch.kernel.arg_names}
    signature = {name: _type_of(name, value, launch) for name, value in arguments.items()}
    aligned = [["tt.divisibility", 16]]
    attributes: dict[tuple[int, ...], list[Any]] = {}
    alike = launch.scalars.keys() - launch.specialised
    for position, (name, value) in enumerate(arguments.items()):
        if name in launch.constexprs:
            continue
        places = enumerate(value) if isinstance(value, tuple) else [(None, value)]
        for item, part in places:
            divisible = isinstance(part, int) and part % 16 == 0
            if isinstance(part, str) or (divisible and name not in alike):
                attributes[(position,) if item is None else (position, item)] = aligned
    return ASTSource(launch.kernel, signature, dict(launch.constexprs), attributes)


def _type_of(name: str, value: Any, launch: Launch) -> Any:
    if name in launch.constexprs:
        return "constexpr"
    if isinstance(value, tuple):
        return tuple(_type_of("", part, launch) for part in value)
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return "fp32"
    return "i32" if -(2**31) <= value < 2**31 else "i64"


def _tensor_core(ptx: str) -> str:
    found = _TENSOR_CORE.search(ptx)
    return found[1] if found else ""


def _resources(cubin: bytes) -> tuple[int, int]:
    """(registers, bytes of stack and local memory) of the one kernel in a binary."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        dump = subprocess.run(
            [triton.knobs.nvidia.cuobjdump.path, "--dump-resource-usage", file.name],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
    found = re.search(r"REG:(\d+) STACK:(\d+) SHARED:\d+ LOCAL:(\d+)", dump)
    if found is None:
        raise RuntimeError(f"cuobjdump printed no resource usage: {dump!r}")
    registers, stack, local = map(int, found.groups())
    return registers, stack + local
