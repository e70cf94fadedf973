"""The driver: native code that makes the launches of a whole step, loops among them, in one call.

It walks tables, so it is compiled once a process. All is in words of 64 bits:

* A **node** is a launch: the function that makes it, the address of its row, the bytes from its row in one
  iteration to that in the next, and the address of its record. Such a function takes the row, a number of
  threads and the record, and returns 0, or another number if it failed.
* A **row** is a kernel's table: the address of each operand, and the symbolic size in front.
* A **record** is what else the function needs, as `RECORDS` lists it.

Torch's ops are called through its stable C interface. The record of such a launch names a list of
**instructions**, pairs of a function and its operand, which work on a stack of arguments.
"""

from __future__ import annotations

import ctypes
from ctypes import c_char_p, c_int32, c_int64, c_uint64, c_void_p

from . import jit
from .driver_text import text

RECORDS: dict[str, tuple[str, ...]] = {
    "launch": ("kernel",),
    "copy": ("bytes",),
    # Entry i of a loop's own table is `offsets[i]` behind the address at `bases[i]` of the loop's row.
    "repeat": ("entries", "bases", "offsets", "table", "nodes", "count", "rounds", "failed"),
    # The condition's nodes are the first `tested`; the word at `flag` is where the byte lies.
    "until": (
        "entries", "bases", "offsets", "table", "nodes", "count", "tested", "flag", "ask", "failed",
    ),
    # BLAS takes everything by address: the words themselves. The last three are entries of the row.
    "gemm": ("transa", "transb", "m", "n", "k", "alpha", "lda", "ldb", "beta", "ldc", "a", "b", "c"),
    "torch": ("count", "instructions"),
}  # fmt: skip
"""For each kind of launch, what its record holds; the functions for "gemm" are "sgemm" and "dgemm"."""
INSTRUCTIONS = {
    "push": "a word",
    "view": "pushes a tensor at an entry of the row: (entry, dtype, rank, *sizes, *strides)",
    "integers": "pushes a list: (count, *integers)",
    "string": "pushes one: (bytes, length)",
    "wrap": "makes the last argument one for an optional parameter",
    "call": "an op on the last arguments, which become its results: (name, overload, arguments, results)",
    "store": "copies the last tensor to one as `view` names it, and lets go of both",
    "drop": "lets go of the last tensor",
}
"""What the instructions do with their operand; the words in brackets lie at an address."""
DEPTH = 64
"""Words on the stack of arguments."""
ROUNDS = 1024
"""So often runs a loop whose end its values decide before it calls `ask`, whose result ends it if not 0."""

BLAS = ("sgemm_", "dgemm_")
TORCH = (
    "aoti_torch_create_tensor_from_blob",
    "aoti_torch_delete_tensor_object",
    "aoti_torch_copy_",
    "torch_new_list_reserve_size",
    "torch_list_push_back",
    "torch_new_string_handle",
    "torch_new_stable_ivalue",
    "torch_call_dispatcher",
    "torch_exception_get_what_without_backtrace",
)


class Driver:
    """The driver in machine code.

    Attributes:
        code: that of an equal driver, or compiled here.
        lacks: for "gemm" and "torch", the entry point that this torch does not have, or "".
    """

    def __init__(self, code: bytes | None = None) -> None:
        found = jit.torch_addresses((*BLAS, *TORCH))
        self.lacks = {
            kind: next((name for name in names if name not in found), "")
            for kind, names in (("gemm", BLAS), ("torch", TORCH))
        }
        self.code = code or jit.compile_objects([self._text()])[0]
        self._library = jit.Library([self.code], found)
        prototype = ctypes.CFUNCTYPE(c_int32, c_void_p, c_int64, c_int64, c_int32)
        self._run = prototype(self.address("run"))

    def _text(self) -> str:
        parts = {kind for kind, lacking in self.lacks.items() if not lacking}
        return text(parts, _version() if "torch" in parts else 0, DEPTH, ROUNDS)

    def address(self, name: str) -> int:
        """The address of a function that makes launches, or of an instruction."""
        return self._library.address(name)

    def run(self, nodes: int, count: int, iteration: int, threads: int) -> int:
        """Makes the launches of nodes, for an iteration; 0, or the number of the one that failed, counted
        from 1. Other Python threads go on meanwhile.
        """
        return self._run(nodes, count, iteration, threads)

    def torch_error(self) -> str:
        """What torch says of the last op that failed in this thread."""
        address = jit.torch_addresses(TORCH)["torch_exception_get_what_without_backtrace"]
        return (ctypes.CFUNCTYPE(c_char_p)(address)() or b"").decode(errors="replace")


_made: list[Driver] = []


def driver(code: bytes | None = None) -> Driver:
    """The process's driver; `code`, which an earlier process compiled for the same host and torch, saves
    compiling it.

    Raises:
        EmitError: LLVM does not compile it, or `code` is of something else.
    """
    if not _made:
        _made.append(Driver(code))
    return _made[0]


def dtype_code(name: str) -> int | None:
    """The number of a dtype ("float32") in torch's C interface; None if that has no such dtype."""
    address = jit.torch_addresses((f"aoti_torch_dtype_{name}",))
    return next((ctypes.CFUNCTYPE(c_int32)(found)() for found in address.values()), None)


def _version() -> int:
    """The version of torch's C interface; torch adapts calls to it."""
    address = jit.torch_addresses(("aoti_torch_abi_version",))["aoti_torch_abi_version"]
    return ctypes.CFUNCTYPE(c_uint64)(address)()
