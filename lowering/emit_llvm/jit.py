"""From MLIR text to callable addresses: MLIR's conversions, LLVM's optimizer and the ORC JIT.

LLVM is reached through its C API, in the very library that the MLIR bindings are linked with, so
both are always of one version. The machine code is a function of the text, of the build and of the
host alone, so it can be kept.
"""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from ctypes import POINTER, byref, c_char_p, c_int, c_size_t, c_uint8, c_uint64, c_void_p
from functools import cache
from pathlib import Path

import torch
from mlir import ir
from mlir.passmanager import PassManager

from ..errors import EmitError
from ..mlir import context

CONVERSIONS = "builtin.module(convert-scf-to-cf,convert-arith-to-llvm,convert-cf-to-llvm)"
# Unrolling and SLP cost compile time and gain nothing on these loops; the vectorizer interleaves by
# itself.
OPTIMIZER = b"default<O2>"
_TARGETS = {"x86_64": "X86", "aarch64": "AArch64", "arm64": "AArch64"}
# Polynomials on 512-bit vectors take 0.8 of the time even where LLVM prefers 256 bits (Emerald
# Rapids).
_TUNING = {"X86": ",-prefer-256-bit"}
# Runtime functions of torch's own OpenMP, so that kernels and ATen share one pool of threads.
OPENMP_SYMBOLS = ("GOMP_parallel", "omp_get_thread_num", "omp_get_num_threads")


def host() -> str:
    """All that machine code depends on besides its text."""
    llvm = _llvm()
    return "\n".join(
        [CONVERSIONS, OPTIMIZER.decode(), llvm.version, llvm.triple, llvm.cpu, llvm.features]
    )


def build() -> str:
    """Which build of MLIR and LLVM this is."""
    found = library_path().stat()
    return f"{found.st_size} bytes of {found.st_mtime_ns}"


def compile_objects(texts: Sequence[str]) -> list[bytes]:
    """An object file for each MLIR module in the llvm, scf and arith dialects, optimized for the host.

    Raises:
        EmitError: a module does not parse or does not convert; the sentence is MLIR's.
    """
    with ExitStack() as stack:
        modules = [stack.enter_context(_Module(text)) for text in texts]
        # LLVM works without Python's lock, each module in a context of its own.
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return list(pool.map(_object_of, modules))


def _object_of(module: _Module) -> bytes:
    module.optimize()
    return module.emit()


def llvm_ir(text: str, *, optimized: bool = True) -> str:
    """LLVM IR of the same module, for reading."""
    with _Module(text) as module:
        if optimized:
            module.optimize()
        return module.text()


class Library:
    """Machine code loaded into this process; its addresses live as long as the object. It may call what
    the process exports and, first, functions at the addresses that are given (torch's OpenMP if None).
    """

    def __init__(
        self, objects: Sequence[bytes], addresses: Mapping[str, int] | None = None
    ) -> None:
        llvm = _llvm()
        self._llvm = llvm
        self._jit = c_void_p()
        llvm.check(llvm.c.LLVMOrcCreateLLJIT(byref(self._jit), None))
        self._dylib = c_void_p(llvm.c.LLVMOrcLLJITGetMainJITDylib(self._jit))
        llvm.define(self._jit, self._dylib, openmp_addresses() if addresses is None else addresses)
        llvm.search_process(self._jit, self._dylib)
        for code in objects:
            buffer = llvm.c.LLVMCreateMemoryBufferWithMemoryRangeCopy(code, len(code), b"kernels")
            llvm.check(llvm.c.LLVMOrcLLJITAddObjectFile(self._jit, self._dylib, buffer))

    def address(self, symbol: str) -> int:
        """The address of a function.

        Raises:
            EmitError: the code has no such symbol, or calls one that the process does not have.
        """
        found = c_uint64()
        self._llvm.check(self._llvm.c.LLVMOrcLLJITLookup(self._jit, byref(found), symbol.encode()))
        return found.value

    def __del__(self) -> None:
        if getattr(self, "_jit", None):
            self._llvm.c.LLVMOrcDisposeLLJIT(self._jit)
            self._jit = c_void_p()


@cache
def openmp_addresses() -> dict[str, int]:
    """Entry points of torch's OpenMP runtime (the process may hold another copy)."""
    return torch_addresses(OPENMP_SYMBOLS)


@cache
def torch_addresses(names: tuple[str, ...]) -> dict[str, int]:
    """Entry points of torch's library, as many of these as it has."""
    torch_cpu = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))
    return {
        name: ctypes.cast(getattr(torch_cpu, name), c_void_p).value or 0
        for name in names
        if hasattr(torch_cpu, name)
    }


class _Module:
    """An LLVM module made from MLIR text, in an LLVM context of its own."""

    def __init__(self, text: str) -> None:
        self.llvm = _llvm()
        self.context = c_void_p(self.llvm.c.LLVMContextCreate())
        with context(), ir.Location.unknown():
            try:
                module = ir.Module.parse(text)
                PassManager.parse(CONVERSIONS).run(module.operation)
                _annotate_loops(module)
            except ir.MLIRError as error:
                raise EmitError(f"the loops do not lower to LLVM: {error}") from None
            operation = _capsule_pointer(module.operation._CAPIPtr)
            self.machine = self.llvm.target_machine()
            self.module = c_void_p(self.llvm.c.mlirTranslateModuleToLLVMIR(operation, self.context))
        if not self.module:
            raise EmitError("the converted module does not translate to LLVM IR")

    def __enter__(self) -> _Module:
        return self

    def __exit__(self, *_: object) -> None:
        self.llvm.c.LLVMDisposeModule(self.module)
        self.llvm.c.LLVMContextDispose(self.context)
        self.llvm.c.LLVMDisposeTargetMachine(self.machine)

    def optimize(self) -> None:
        c, machine = self.llvm.c, self.machine
        c.LLVMSetTarget(self.module, self.llvm.triple.encode())
        layout = c_void_p(c.LLVMCreateTargetDataLayout(machine))
        c.LLVMSetModuleDataLayout(self.module, layout)
        c.LLVMDisposeTargetData(layout)
        options = c_void_p(c.LLVMCreatePassBuilderOptions())
        c.LLVMPassBuilderOptionsSetLoopVectorization(options, 1)
        c.LLVMPassBuilderOptionsSetLoopInterleaving(options, 1)
        c.LLVMPassBuilderOptionsSetLoopUnrolling(options, 0)
        c.LLVMPassBuilderOptionsSetSLPVectorization(options, 0)
        self.llvm.check(c.LLVMRunPasses(self.module, OPTIMIZER, machine, options))
        c.LLVMDisposePassBuilderOptions(options)

    def text(self) -> str:
        shown = self.llvm.c.LLVMPrintModuleToString(self.module)
        try:
            return ctypes.string_at(shown).decode()
        finally:
            self.llvm.c.LLVMDisposeMessage(shown)

    def emit(self) -> bytes:
        c, message, buffer = self.llvm.c, c_char_p(), c_void_p()
        object_file = 1
        if c.LLVMTargetMachineEmitToMemoryBuffer(
            self.machine, self.module, object_file, byref(message), byref(buffer)
        ):
            raise EmitError(f"LLVM makes no machine code: {(message.value or b'').decode()}")
        try:
            return ctypes.string_at(c.LLVMGetBufferStart(buffer), c.LLVMGetBufferSize(buffer))
        finally:
            c.LLVMDisposeMemoryBuffer(buffer)


class _Symbol(ctypes.Structure):
    """LLVMOrcCSymbolMapPair: an interned name, an address and two flag bytes."""

    _fields_ = (
        ("name", c_void_p),
        ("address", c_uint64),
        ("generic", c_uint8),
        ("target", c_uint8),
    )


class _Llvm:
    """LLVM's C API, and what it calls the host."""

    def __init__(self) -> None:
        self.c = _library()
        name = _TARGETS.get(platform.machine())
        if name is None:
            raise EmitError(f"the CPU target knows {', '.join(_TARGETS)}, not {platform.machine()}")
        for part in ("TargetInfo", "Target", "TargetMC", "AsmPrinter"):
            getattr(self.c, f"LLVMInitialize{name}{part}")()
        self.triple = self._owned(self.c.LLVMGetDefaultTargetTriple())
        self.cpu = self._owned(self.c.LLVMGetHostCPUName())
        self.features = self._owned(self.c.LLVMGetHostCPUFeatures()) + _TUNING.get(name, "")
        self.version = self._version()

    def check(self, error: int | None) -> None:
        """Raises EmitError if an LLVMErrorRef is one."""
        if error:
            message = self.c.LLVMGetErrorMessage(error)
            sentence = ctypes.string_at(message).decode()
            self.c.LLVMDisposeErrorMessage(message)
            raise EmitError(f"LLVM: {sentence}")

    def define(self, jit: c_void_p, dylib: c_void_p, addresses: Mapping[str, int]) -> None:
        exported = 1
        pairs = (_Symbol * len(addresses))()
        for pair, (name, address) in zip(pairs, addresses.items(), strict=True):
            pair.name = self.c.LLVMOrcLLJITMangleAndIntern(jit, name.encode())
            pair.address, pair.generic = address, exported
        unit = self.c.LLVMOrcAbsoluteSymbols(pairs, len(addresses))
        self.check(self.c.LLVMOrcJITDylibDefine(dylib, unit))

    def search_process(self, jit: c_void_p, dylib: c_void_p) -> None:
        """Lets the code call what the process exports, libm above all."""
        prefix = self.c.LLVMOrcLLJITGetGlobalPrefix(jit)
        generator = c_void_p()
        self.check(
            self.c.LLVMOrcCreateDynamicLibrarySearchGeneratorForProcess(
                byref(generator), prefix, None, None
            )
        )
        self.c.LLVMOrcJITDylibAddGenerator(dylib, generator)

    def target_machine(self) -> c_void_p:
        """The host's; one serves one thread."""
        target, message = c_void_p(), c_char_p()
        if self.c.LLVMGetTargetFromTriple(self.triple.encode(), byref(target), byref(message)):
            raise EmitError(
                f"LLVM has no target for {self.triple}: {(message.value or b'').decode()}"
            )
        aggressive_none, position_independent, jit_default = 2, 2, 1
        return c_void_p(
            self.c.LLVMCreateTargetMachine(
                target,
                self.triple.encode(),
                self.cpu.encode(),
                self.features.encode(),
                aggressive_none,
                position_independent,
                jit_default,
            )
        )

    def _version(self) -> str:
        numbers = [ctypes.c_uint() for _ in range(3)]
        self.c.LLVMGetVersion(*map(byref, numbers))
        return ".".join(str(number.value) for number in numbers)

    def _owned(self, message: int) -> str:
        shown = ctypes.string_at(message).decode()
        self.c.LLVMDisposeMessage(message)
        return shown


@cache
def _llvm() -> _Llvm:
    return _Llvm()


_POINTER_RESULTS = [
    "LLVMContextCreate",
    "mlirTranslateModuleToLLVMIR",
    "LLVMCreateTargetDataLayout",
    "LLVMCreatePassBuilderOptions",
    "LLVMRunPasses",
    "LLVMPrintModuleToString",
    "LLVMGetBufferStart",
    "LLVMGetErrorMessage",
    "LLVMGetDefaultTargetTriple",
    "LLVMGetHostCPUName",
    "LLVMGetHostCPUFeatures",
    "LLVMCreateTargetMachine",
    "LLVMOrcCreateLLJIT",
    "LLVMOrcLLJITGetMainJITDylib",
    "LLVMCreateMemoryBufferWithMemoryRangeCopy",
    "LLVMOrcLLJITAddObjectFile",
    "LLVMOrcLLJITLookup",
    "LLVMOrcDisposeLLJIT",
    "LLVMOrcLLJITMangleAndIntern",
    "LLVMOrcAbsoluteSymbols",
    "LLVMOrcJITDylibDefine",
    "LLVMOrcCreateDynamicLibrarySearchGeneratorForProcess",
]
_POINTER_ARGUMENTS = [
    "LLVMDisposeModule",
    "LLVMContextDispose",
    "LLVMCreateTargetDataLayout",
    "LLVMDisposeTargetData",
    "LLVMDisposeTargetMachine",
    "LLVMDisposeMessage",
    "LLVMDisposePassBuilderOptions",
    "LLVMPrintModuleToString",
    "LLVMGetBufferStart",
    "LLVMGetBufferSize",
    "LLVMDisposeMemoryBuffer",
    "LLVMGetErrorMessage",
    "LLVMDisposeErrorMessage",
    "LLVMOrcDisposeLLJIT",
    "LLVMOrcLLJITGetMainJITDylib",
    "LLVMOrcLLJITGetGlobalPrefix",
]


def library_path() -> Path:
    """Where MLIR's C API lies.

    Raises:
        EmitError: the bindings have none.
    """
    import mlir._mlir_libs as libraries

    folder = Path(next(iter(libraries.__path__)))
    # Some builds add the version behind the suffix.
    found = sorted(folder.glob("libMLIRPythonCAPI.so*"))
    if not found:
        raise EmitError(f"the MLIR bindings in {folder} have no libMLIRPythonCAPI.so")
    return found[0]


@cache
def _library() -> ctypes.CDLL:
    """MLIR's C API; a look-up in it also finds the LLVM it is linked with."""
    c = ctypes.CDLL(str(library_path()))
    for name in _POINTER_RESULTS:
        getattr(c, name).restype = c_void_p
    for name in _POINTER_ARGUMENTS:
        getattr(c, name).argtypes = [c_void_p]
    c.mlirTranslateModuleToLLVMIR.argtypes = [c_void_p, c_void_p]
    c.LLVMGetBufferSize.restype = c_size_t
    c.LLVMOrcLLJITGetGlobalPrefix.restype = ctypes.c_char
    c.LLVMOrcAbsoluteSymbols.argtypes = [POINTER(_Symbol), c_size_t]
    c.LLVMOrcJITDylibDefine.argtypes = [c_void_p, c_void_p]
    c.LLVMOrcJITDylibAddGenerator.argtypes = [c_void_p, c_void_p]
    c.LLVMOrcLLJITAddObjectFile.argtypes = [c_void_p, c_void_p, c_void_p]
    c.LLVMCreateMemoryBufferWithMemoryRangeCopy.argtypes = [c_char_p, c_size_t, c_char_p]
    c.LLVMOrcCreateDynamicLibrarySearchGeneratorForProcess.argtypes = [
        c_void_p,
        ctypes.c_char,
        c_void_p,
        c_void_p,
    ]
    c.LLVMCreateTargetMachine.argtypes = [
        c_void_p,
        c_char_p,
        c_char_p,
        c_char_p,
        c_int,
        c_int,
        c_int,
    ]
    return c


def _annotate_loops(module: ir.Module) -> None:
    """Renames the loop annotations of convert-scf-to-cf to what branches call them."""
    for function in module.body.operations:
        for block in (block for region in function.operation.regions for block in region.blocks):
            branch = block.operations[len(block.operations) - 1].operation
            if "llvm.loop_annotation" in branch.attributes:
                branch.attributes["loop_annotation"] = branch.attributes["llvm.loop_annotation"]
                del branch.attributes["llvm.loop_annotation"]


def _capsule_pointer(capsule: object) -> int:
    python = ctypes.pythonapi
    python.PyCapsule_GetName.restype, python.PyCapsule_GetName.argtypes = (
        c_char_p,
        [ctypes.py_object],
    )
    python.PyCapsule_GetPointer.restype = c_void_p
    python.PyCapsule_GetPointer.argtypes = [ctypes.py_object, c_char_p]
    return python.PyCapsule_GetPointer(capsule, python.PyCapsule_GetName(capsule))
