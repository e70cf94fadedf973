"""The CPU target: kernel functions of stage "regions" as native code on torch's memory.

A kernel is a C function of one packed table of addresses (its arguments, then its outputs; instance
after instance for "multi") and a number of threads. All memory is contiguous and row-major. An
output may share memory with an argument of the same type that the region reads only at identity.

All kernels of a plan become one LLVM module; equal kernels are compiled once. What comes of it is data
that can be kept and loaded again.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field

from mlir import ir

from ..errors import EmitError
from ..region import Read, Region, kernel_kind, read_instances, read_region
from . import body as cpu_body
from . import jit
from .layout import Access, Dim, Layout, layout_of
from .nest import nest_of, write_parallel
from .scatter import COLUMNS, Scatter, read_scatter
from .scope import Frame, Phases
from .text import HEADER, Code

KINDS = ("loop", "multi", "scatter")
"""The kinds of kernel functions that become native code."""

# What a thread must have to do before another is woken: about 20 µs split in two.
_THREAD_NS = 10_000.0
_OP_NS, _ACCESS_NS, _EXPENSIVE_NS = 0.02, 0.08, 0.4
_SYMBOL = "KERNEL"
# The parts of what is kept: machine code of all kernels; and name -> [symbol, threads] as JSON.
OBJECT, TABLE = "kernels.o", "kernels.json"
_OPENMP = """llvm.func @GOMP_parallel(!llvm.ptr, !llvm.ptr, i32, i32)
llvm.func @omp_get_thread_num() -> i32
llvm.func @omp_get_num_threads() -> i32
"""


@dataclass(frozen=True)
class NativeKernel:
    """A compiled kernel; call it with the address of its table.

    Attributes:
        name: the kernel function's name.
        symbol: the native function; kernels of equal code share one.
        threads: the most threads its work is worth; more are not used.
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
                "multi".
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
        return self.body.replace(_SYMBOL, self.symbol)


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
    if OBJECT not in code:
        code.update(_compile(functions))
    table, library = json.loads(code[TABLE]), jit.Library(code[OBJECT])
    if table.keys() != functions.keys():
        raise EmitError("the machine code is of other kernels")
    return {
        name: NativeKernel(name, symbol, threads, library.address(symbol), library)
        for name, (symbol, threads) in table.items()
    }


def _compile(functions: Mapping[str, ir.OpView]) -> dict[str, bytes]:
    emitted = {name: _emit(function) for name, function in functions.items()}
    text = _module(list({item.symbol: item for item in emitted.values()}.values()))
    table = {name: [item.symbol, item.threads] for name, item in emitted.items()}
    return {OBJECT: jit.compile_object(text), TABLE: json.dumps(table).encode()}


def loops_text(function: ir.OpView) -> str:
    """The MLIR text that a kernel function becomes before MLIR and LLVM take over: a module on its
    own, in scf, arith and llvm.
    """
    return _module([_emit(function)])


def _module(kernels: Sequence[_Emitted]) -> str:
    helpers = {symbol: text for kernel in kernels for symbol, text in kernel.helpers.items()}
    return "\n".join(
        [HEADER + _OPENMP, *helpers.values(), *(kernel.functions() for kernel in kernels)]
    )


def _emit(function: ir.OpView) -> _Emitted:
    kind = kernel_kind(function)
    if kind == "loop":
        return _emit_loop(read_region(function))
    if kind == "multi":
        return _emit_multi(read_instances(function))
    if kind == "scatter":
        return _emit_scatter(read_scatter(function))
    raise EmitError(f"the CPU emitter takes kernels of {', '.join(KINDS)}, not {kind or 'none'}")


def _emit_loop(region: Region) -> _Emitted:
    layout = layout_of(region)
    nest = nest_of(region, layout)
    frame = Frame(Code(), region, layout, cpu_body.BodyWriter())
    frame.load_pointers("%table")
    nest.write(frame, "%low", "%high")
    points = layout.extent(range(len(layout.dims)))
    threads = min(nest.units, int(points * _point_ns(region) / _THREAD_NS))
    return _Emitted(
        frame.bodies.helpers,
        _functions(frame.code, nest.units, nest.align, threads),
        max(1, threads),
    )


def _emit_multi(instances: Sequence[Region]) -> _Emitted:
    """One loop over the instances, each a flat loop over the part of it that lies in low..high."""
    region = instances[0]
    sizes = [_size(instance) for instance in instances]
    starts = [sum(sizes[:position]) for position in range(len(sizes) + 1)]
    code = Code()
    frame = Frame(code, region, _flat_layout(region, _moving(instances)), cpu_body.BodyWriter())
    offsets = code.let(f"llvm.mlir.addressof @{_SYMBOL}_starts : !llvm.ptr")
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
    threads = min(starts[-1], int(starts[-1] * _point_ns(region) / _THREAD_NS))
    constant = f"dense<[{', '.join(map(str, starts))}]> : tensor<{len(starts)}xi64>"
    kind = f"!llvm.array<{len(starts)} x i64>"
    table = f"llvm.mlir.global internal constant @{_SYMBOL}_starts({constant}) : {kind}\n"
    return _Emitted(
        frame.bodies.helpers, table + _functions(code, starts[-1], 64, threads), max(1, threads)
    )


def _emit_scatter(scatter: Scatter) -> _Emitted:
    code = Code()
    scatter.write(code, "%low", "%high")
    touched = (scatter.rows + 2 * scatter.count) * scatter.columns
    # A thread goes through all indices, so it must have a line of columns to itself.
    threads = min(scatter.columns // COLUMNS, int(touched * _ACCESS_NS / _THREAD_NS))
    return _Emitted({}, _functions(code, scatter.columns, COLUMNS, threads), max(1, threads))


def _size(region: Region) -> int:
    count = 1
    for extent in region.parallel:
        count *= extent
    return count


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


def _functions(code: Code, units: int, align: int, threads: int) -> str:
    """The kernel around the code of units low..high, shared out to at most `threads` threads.

    Shares are fixed by the number of threads, and no unit depends on another: results do not depend
    on it.
    """
    span = f"""llvm.func internal @{_SYMBOL}_span(%table: !llvm.ptr, %low: i64, %high: i64) {{
{code.text()}
  llvm.return
}}
"""
    if threads < 2:
        return f"""{span}llvm.func @{_SYMBOL}(%table: !llvm.ptr, %threads: i32) {{
  %low = arith.constant 0 : i64
  %high = arith.constant {units} : i64
  llvm.call @{_SYMBOL}_span(%table, %low, %high) : (!llvm.ptr, i64, i64) -> ()
  llvm.return
}}
"""
    return f"""{span}llvm.func internal @{_SYMBOL}_share(%table: !llvm.ptr) {{
  %align = arith.constant {align} : i64
  %groups = arith.constant {-(-units // align)} : i64
  %end = arith.constant {units} : i64
  %me32 = llvm.call @omp_get_thread_num() : () -> i32
  %all32 = llvm.call @omp_get_num_threads() : () -> i32
  %me = arith.extui %me32 : i32 to i64
  %all = arith.extui %all32 : i32 to i64
  %share = arith.ceildivui %groups, %all : i64
  %step = arith.muli %share, %align : i64
  %first = arith.muli %me, %step : i64
  %last = arith.addi %first, %step : i64
  %low = arith.minui %first, %end : i64
  %high = arith.minui %last, %end : i64
  llvm.call @{_SYMBOL}_span(%table, %low, %high) : (!llvm.ptr, i64, i64) -> ()
  llvm.return
}}
llvm.func @{_SYMBOL}(%table: !llvm.ptr, %threads: i32) {{
  %most = arith.constant {threads} : i32
  %none = arith.constant 0 : i32
  %used = arith.minsi %threads, %most : i32
  %share = llvm.mlir.addressof @{_SYMBOL}_share : !llvm.ptr
  llvm.call @GOMP_parallel(%share, %table, %used, %none) : (!llvm.ptr, !llvm.ptr, i32, i32) -> ()
  llvm.return
}}
"""
