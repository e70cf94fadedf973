"""The CPU target: kernel functions of stage "regions" as native code on torch's memory.

A kernel is a C function of one packed table of addresses (its arguments, then its outputs; instance
after instance for "multi") and a number of threads. All memory is contiguous and row-major. An
output may share memory with an argument of the same type that the region reads only at identity.

All kernels of a plan become few LLVM modules; equal kernels are compiled once. What comes of it is data
that can be kept and loaded again.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from math import prod

from mlir import ir

from ..errors import EmitError
from ..region import Read, Region, kernel_kind, read_instances, read_region
from ..sizes import is_symbolic
from . import body as cpu_body
from . import jit
from .cumulate import Cumulate, read_cumulate
from .layout import Access, Dim, Layout, layout_of
from .nest import nest_of, write_parallel
from .scatter import COLUMNS, Scatter, read_scatter
from .scope import Frame, Phases
from .share import OPENMP, SYMBOL, Work, functions_of
from .text import HEADER, Code, Units
from .top import Top, read_top

KINDS = ("loop", "multi", "scatter", "cumulate", "top")
"""The kinds of kernel functions that become native code."""

_OP_NS, _ACCESS_NS, _EXPENSIVE_NS, _TOP_NS = 0.02, 0.08, 0.4, 1.5
# The parts of what is kept: machine code, numbered; and name -> [symbol, threads] as JSON.
OBJECT, TABLE = "kernels{}.o", "kernels.json"
# Modules are compiled side by side, but each starts LLVM's passes anew and has its own helpers.
MODULE_CHARACTERS, MOST_MODULES = 50_000, 8


@dataclass(frozen=True)
class NativeKernel:
    """A compiled kernel; call it with the address of its table.

    Attributes:
        name: the kernel function's name.
        symbol: the native function; kernels of equal code share one.
        threads: the most threads its work is worth, more are not used; 0 if each call decides that.
        address: of the native function `void (void **table, int32_t threads)`.
    """

    name: str
    symbol: str
    threads: int
    address: int
    _library: jit.Library
    _call: Callable[[int, int], None] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        prototype = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int32)
        object.__setattr__(self, "_call", prototype(self.address))

    def __call__(self, table: int, threads: int = 1) -> None:
        """Runs the kernel.

        Args:
            table: address of int64 data pointers: arguments, then outputs, instance-major for
                "multi". In front of them lies the symbolic size, where there is one.
            threads: how many of torch's OpenMP threads it may use (`torch.get_num_threads()`).
        """
        self._call(table, threads)


@dataclass(frozen=True)
class _Emitted:
    """One kernel's code: helpers by symbol, and its own functions under a placeholder name."""

    helpers: Mapping[str, str]
    body: str
    threads: int

    @property
    def symbol(self) -> str:
        return "kernel_" + hashlib.sha256(self.body.encode()).hexdigest()[:16]

    def functions(self) -> str:
        return self.body.replace(SYMBOL, self.symbol)


def compile_kernels(
    functions: Mapping[str, ir.OpView], code: MutableMapping[str, bytes] | None = None
) -> dict[str, NativeKernel]:
    """Compiles kernel functions of the KINDS to native code, as one module.

    Args:
        functions: name -> func.func of stage "regions".
        code: what an earlier call put there for the same functions is loaded; if there is nothing,
            what is compiled is put there.

    Raises:
        RegionError: a function is not a loop region.
        EmitError: an op has no CPU code, or LLVM refuses the module, or `code` is of other functions.
    """
    if not functions:
        return {}
    code = {} if code is None else code
    if TABLE not in code:
        code.update(_compile(functions))
    table = json.loads(code[TABLE])
    library = jit.Library([part for name, part in code.items() if name != TABLE])
    if table.keys() != functions.keys():
        raise EmitError("the machine code is of other kernels")
    return {
        name: NativeKernel(name, symbol, threads, library.address(symbol), library)
        for name, (symbol, threads) in table.items()
    }


def _compile(functions: Mapping[str, ir.OpView]) -> dict[str, bytes]:
    emitted = {name: _emit(function) for name, function in functions.items()}
    parts = _parts(list({item.symbol: item for item in emitted.values()}.values()))
    objects = jit.compile_objects([_module(part) for part in parts])
    table = {name: [item.symbol, item.threads] for name, item in emitted.items()}
    named = {OBJECT.format(number): code for number, code in enumerate(objects)}
    return {**named, TABLE: json.dumps(table).encode()}


def _parts(kernels: Sequence[_Emitted]) -> list[list[_Emitted]]:
    """The kernels in modules of about equal length: as many for the same kernels on any machine."""
    total = sum(len(kernel.body) for kernel in kernels)
    count = min(max(1, round(total / MODULE_CHARACTERS)), MOST_MODULES, len(kernels))
    parts: list[list[_Emitted]] = [[] for _ in range(count)]
    lengths = [0] * count
    for kernel in sorted(kernels, key=lambda kernel: len(kernel.body), reverse=True):
        shortest = lengths.index(min(lengths))
        parts[shortest].append(kernel)
        lengths[shortest] += len(kernel.body)
    return parts


def loops_text(function: ir.OpView) -> str:
    """The MLIR text that a kernel function becomes before MLIR and LLVM take over: a module on its
    own, in scf, arith and llvm.
    """
    return _module([_emit(function)])


def _module(kernels: Sequence[_Emitted]) -> str:
    helpers = {symbol: text for kernel in kernels for symbol, text in kernel.helpers.items()}
    return "\n".join(
        [HEADER + OPENMP, *helpers.values(), *(kernel.functions() for kernel in kernels)]
    )


def _emit(function: ir.OpView) -> _Emitted:
    kind = kernel_kind(function)
    if kind == "loop":
        return _emit_loop(read_region(function))
    if kind == "multi":
        return _emit_multi(read_instances(function))
    if kind == "scatter":
        return _emit_scatter(read_scatter(function))
    if kind == "cumulate":
        return _emit_cumulate(read_cumulate(function))
    if kind == "top":
        return _emit_top(read_top(function))
    raise EmitError(f"the CPU emitter takes kernels of {', '.join(KINDS)}, not {kind or 'none'}")


def _emit_loop(region: Region) -> _Emitted:
    layout = layout_of(region)
    nest = nest_of(region, layout)
    frame = Frame(Code(), region, layout, cpu_body.BodyWriter())
    frame.load_pointers("%table")
    nest.write(frame, "%low", "%high")
    work = Work(nest.units, nest.align, layout.extent(range(len(layout.dims))), _point_ns(region))
    return _Emitted(frame.bodies.helpers, functions_of(frame.code, work), work.threads)


def _emit_multi(instances: Sequence[Region]) -> _Emitted:
    """One loop over the instances, each a flat loop over the part of it that lies in low..high."""
    region = instances[0]
    sizes = [_size(instance) for instance in instances]
    starts = [sum(sizes[:position]) for position in range(len(sizes) + 1)]
    code = Code()
    frame = Frame(code, region, _flat_layout(region, _moving(instances)), cpu_body.BodyWriter())
    offsets, table = _offsets(code, starts)
    with code.loop(code.integer(0), code.integer(len(instances))) as instance:
        start = code.let(f"llvm.load {code.element(offsets, instance, 'i64')} : !llvm.ptr -> i64")
        following = code.add(instance, code.integer(1))
        end = code.let(f"llvm.load {code.element(offsets, following, 'i64')} : !llvm.ptr -> i64")
        low = code.let(f"arith.maxsi {start}, %low : i64")
        high = code.let(f"arith.minsi {end}, %high : i64")
        some = code.let(f"arith.cmpi slt, {low}, {high} : i64")
        code.line(f"scf.if {some} {{")
        _load_instance(frame, instance, len(instances))
        first, last = (code.let(f"arith.subi {bound}, {start} : i64") for bound in (low, high))
        write_parallel(frame, first, last)
        code.line("}")
    work = Work(Units(starts[-1]), 64, starts[-1], _point_ns(region))
    return _Emitted(frame.bodies.helpers, table + functions_of(code, work), work.threads)


def _offsets(code: Code, starts: Sequence[int]) -> tuple[str, str]:
    """The address of where each instance begins, in elements; and the global that it is of, if any."""
    if is_symbolic(*starts):
        offsets = code.stack(len(starts), "i64")
        for position, start in enumerate(starts):
            place = code.element(offsets, code.integer(position), "i64")
            code.line(f"llvm.store {code.integer(start)}, {place} : i64, !llvm.ptr")
        return offsets, ""
    constant = f"dense<[{', '.join(map(str, starts))}]> : tensor<{len(starts)}xi64>"
    kind = f"!llvm.array<{len(starts)} x i64>"
    return (
        code.let(f"llvm.mlir.addressof @{SYMBOL}_starts : !llvm.ptr"),
        f"llvm.mlir.global internal constant @{SYMBOL}_starts({constant}) : {kind}\n",
    )


def _emit_scatter(scatter: Scatter) -> _Emitted:
    code = Code()
    scatter.write(code, "%low", "%high")
    touched = (scatter.rows + 2 * scatter.count) * scatter.columns
    # A thread goes through all indices, so it must have a line of columns to itself.
    work = Work(Units(scatter.columns), COLUMNS, touched, _ACCESS_NS, least=COLUMNS)
    return _Emitted({}, functions_of(code, work), work.threads)


def _emit_cumulate(cumulate: Cumulate) -> _Emitted:
    code = Code()
    cumulate.write(code, "%low", "%high")
    work = Work(Units(cumulate.lines), cumulate.align, 2 * cumulate.kind.size, _ACCESS_NS)
    return _Emitted({}, functions_of(code, work), work.threads)


def _emit_top(top: Top) -> _Emitted:
    code = Code()
    top.write(code, "%low", "%high")
    work = Work(Units(top.kind.shape[0]), 1, top.kind.size, _TOP_NS)
    return _Emitted({}, functions_of(code, work), work.threads)


def _size(region: Region) -> int:
    return prod(region.parallel)


def _moving(instances: Sequence[Region]) -> list[bool]:
    """Which arguments move along the flat loop; the others are one scalar in every instance."""
    for instance in instances:
        if any(cpu_body.uses_index(stage) or stage.lookups for stage in instance.stages):
            raise EmitError(
                f"{instance.name}: linalg.index or a lookup in a multi kernel, whose loops have no dims"
            )
    count = len(instances[0].arguments)
    moving = [any(instance.arguments[k].size != 1 for instance in instances) for k in range(count)]
    for instance in instances:
        for argument, moves in zip(instance.arguments, moving, strict=True):
            if moves and argument.size != _size(instance):
                raise EmitError(
                    f"{instance.name}: an instance over {instance.parallel} reads {argument}, "
                    "which is neither a scalar in every instance nor as large as the instance"
                )
    return moving


def _load_instance(frame: Frame, instance: str, count: int) -> None:
    """Reads the instance's addresses from the table: all arguments first, then all outputs."""
    code = frame.code
    sides = ("argument", len(frame.region.arguments), 0), (
        "output", len(frame.region.results), count * len(frame.region.arguments),
    )  # fmt: skip
    for base, width, begin in sides:
        first = code.add(code.mul(instance, width), code.integer(begin))
        for index in range(width):
            position = code.add(first, code.integer(index))
            entry = code.element("%table", position, "!llvm.ptr")
            frame.pointers[base, index] = code.let(f"llvm.load {entry} : !llvm.ptr -> !llvm.ptr")


def _flat_layout(region: Region, moving: Sequence[bool]) -> Layout:
    """One loop over all elements of an instance."""

    def access(read: Read) -> Access | None:
        if read.source != "argument":
            return None
        return Access(
            "argument", read.index, region.arguments[read.index].dtype, (int(moving[read.index]),)
        )

    return Layout(
        (Dim(_size(region), reduces=False),),
        tuple(tuple(access(read) for read in stage.reads) for stage in region.stages),
        tuple(Access("output", k, kind.dtype, (1,)) for k, kind in enumerate(region.results)),
        (),
        (),
    )


def _point_ns(region: Region) -> float:
    """About how long one core takes for one point of the region."""
    phases = Phases.of(region)
    stages = [region.stages[index] for index in phases.needed]
    ops = sum(len(list(stage.block.operations)) for stage in stages)
    accesses = sum(len(stage.reads) for stage in stages) + len(region.outputs)
    expensive = sum(cpu_body.is_expensive(stage) for stage in stages)
    return ops * _OP_NS + accesses * _ACCESS_NS + expensive * _EXPENSIVE_NS
