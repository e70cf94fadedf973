"""The driver's MLIR; what it does and what its tables hold is told in driver.py."""

from __future__ import annotations

from collections.abc import Collection

WORD, POINTER = "i64", "!llvm.ptr"
LAUNCH = "%row: !llvm.ptr, %threads: i32, %record: !llvm.ptr"
INSTRUCTION = "%state: !llvm.ptr, %operand: i64"


def text(parts: Collection[str], version: int, depth: int, rounds: int) -> str:
    """The module.

    Args:
        parts: "gemm", "torch": what beside native kernels it launches.
        version: of torch's C interface.
        depth: words on the stack of arguments.
        rounds: of a loop with a condition before it asks whether to go on.
    """
    functions = [_RUN, _LAUNCH, _COPY, _POINT, _REPEAT, _until(rounds)]
    if "gemm" in parts:
        functions += [_gemm("sgemm"), _gemm("dgemm")]
    if "torch" in parts:
        functions += [_TORCH, _torch(depth), _VIEWS, _LISTS, _call(version), _STORE]
    return "\n".join(functions)


def _words(pointer: str, **kinds: str) -> str:
    """Names the words at an address in order: %name, of its type, which lies at %name_at."""
    lines = []
    for number, (name, kind) in enumerate(kinds.items()):
        place = f"%{name}_at"
        lines += [
            f"{place} = llvm.getelementptr {pointer}[{number}] : (!llvm.ptr) -> !llvm.ptr, i64",
            f"%{name} = llvm.load {place} : !llvm.ptr -> {kind}",
        ]
    return "\n  ".join(lines)


def _each(count: str, body: str, end: str = "llvm.return %status : i32") -> str:
    """`for %k in range(count)`: the body gives a %status; if that is a failure, `end` ends the function.
    %next is %k + 1.
    """
    return f"""cf.br ^test(%first : i64)
^test(%k: i64):
  %more = arith.cmpi slt, %k, {count} : i64
  cf.cond_br %more, ^body, ^done
^body:
  %next = arith.addi %k, %one : i64
  {body}
  %fine = arith.cmpi eq, %status, %zero : i32
  cf.cond_br %fine, ^test(%next : i64), ^failed
^failed:
  {end}
^done:"""


_NUMBERS = """%first = arith.constant 0 : i64
  %one = arith.constant 1 : i64
  %zero = arith.constant 0 : i32
  %bad = arith.constant 1 : i32"""

_CALL_NODE = f"""%node = llvm.getelementptr %nodes[%k] : (!llvm.ptr, i64) -> !llvm.ptr, !llvm.array<4 x i64>
  {_words("%node", function=POINTER, start=WORD, pitch=WORD, own=POINTER)}
  %moved = arith.muli %iteration, %pitch : i64
  %place = arith.addi %start, %moved : i64
  %row = llvm.inttoptr %place : i64 to !llvm.ptr
  %status = llvm.call %function(%row, %threads, %own) : !llvm.ptr, (!llvm.ptr, i32, !llvm.ptr) -> i32"""
_GIVE_NUMBER = """%number = arith.trunci %next : i64 to i32
  llvm.return %number : i32"""
_RUN = f"""
llvm.func @run(%nodes: !llvm.ptr, %count: i64, %iteration: i64, %threads: i32) -> i32 {{
  {_NUMBERS}
  {_each("%count", _CALL_NODE, end=_GIVE_NUMBER)}
  llvm.return %zero : i32
}}"""

_LAUNCH = f"""
llvm.func @launch({LAUNCH}) -> i32 {{
  {_words("%record", kernel=POINTER)}
  llvm.call %kernel(%row, %threads) : !llvm.ptr, (!llvm.ptr, i32) -> ()
  %zero = arith.constant 0 : i32
  llvm.return %zero : i32
}}"""

_COPY = f"""
llvm.func @copy({LAUNCH}) -> i32 {{
  {_words("%record", bytes=WORD)}
  {_words("%row", source=POINTER, target=POINTER)}
  "llvm.intr.memmove"(%target, %source, %bytes) <{{isVolatile = false}}>
      : (!llvm.ptr, !llvm.ptr, i64) -> ()
  %zero = arith.constant 0 : i32
  llvm.return %zero : i32
}}"""

_LOOP = {
    "entries": WORD, "bases": POINTER, "offsets": POINTER, "table": POINTER, "nodes": POINTER,
    "count": WORD,
}  # fmt: skip
_POINT = """
llvm.func internal @point(%row: !llvm.ptr, %entries: i64, %bases: !llvm.ptr, %offsets: !llvm.ptr,
                          %table: !llvm.ptr) {
  %first = arith.constant 0 : i64
  %one = arith.constant 1 : i64
  scf.for %k = %first to %entries step %one : i64 {
    %base_at = llvm.getelementptr %bases[%k] : (!llvm.ptr, i64) -> !llvm.ptr, i64
    %base = llvm.load %base_at : !llvm.ptr -> i64
    %from_at = llvm.getelementptr %row[%base] : (!llvm.ptr, i64) -> !llvm.ptr, i64
    %from = llvm.load %from_at : !llvm.ptr -> i64
    %offset_at = llvm.getelementptr %offsets[%k] : (!llvm.ptr, i64) -> !llvm.ptr, i64
    %offset = llvm.load %offset_at : !llvm.ptr -> i64
    %entry = arith.addi %from, %offset : i64
    %entry_at = llvm.getelementptr %table[%k] : (!llvm.ptr, i64) -> !llvm.ptr, i64
    llvm.store %entry, %entry_at : i64, !llvm.ptr
  }
  llvm.return
}"""
_CALL_POINT = """llvm.call @point(%row, %entries, %bases, %offsets, %table)
      : (!llvm.ptr, i64, !llvm.ptr, !llvm.ptr, !llvm.ptr) -> ()"""
_CALL_RUN = ": (!llvm.ptr, i64, i64, i32) -> i32"

_CALL_ROUND = f"%status = llvm.call @run(%nodes, %count, %k, %threads) {_CALL_RUN}"
_KEEP_NUMBER = """%number = arith.extui %status : i32 to i64
  llvm.store %number, %failed_at : i64, !llvm.ptr
  llvm.return %bad : i32"""
_REPEAT = f"""
llvm.func @repeat({LAUNCH}) -> i32 {{
  {_NUMBERS}
  {_words("%record", **_LOOP, rounds=WORD, failed=WORD)}
  {_CALL_POINT}
  {_each("%rounds", _CALL_ROUND, end=_KEEP_NUMBER)}
  llvm.return %zero : i32
}}"""


def _until(rounds: int) -> str:
    words = _words("%record", **_LOOP, tested=WORD, flag=POINTER, ask=POINTER, failed=WORD)
    return f"""
llvm.func @until({LAUNCH}) -> i32 {{
  {_NUMBERS}
  %rounds = arith.constant {rounds} : i64
  %no = arith.constant 0 : i8
  {words}
  {_CALL_POINT}
  %others = arith.subi %count, %tested : i64
  %body = llvm.getelementptr %nodes[%tested] : (!llvm.ptr, i64) -> !llvm.ptr, !llvm.array<4 x i64>
  %later = arith.trunci %tested : i64 to i32
  cf.br ^round(%one : i64)
^round(%round: i64):
  %status = llvm.call @run(%nodes, %tested, %first, %threads) {_CALL_RUN}
  %fine = arith.cmpi eq, %status, %zero : i32
  cf.cond_br %fine, ^read, ^failed(%status : i32)
^read:
  %byte_at = llvm.load %flag : !llvm.ptr -> !llvm.ptr
  %byte = llvm.load %byte_at : !llvm.ptr -> i8
  %over = arith.cmpi eq, %byte, %no : i8
  cf.cond_br %over, ^done, ^go
^go:
  %ran = llvm.call @run(%body, %others, %first, %threads) {_CALL_RUN}
  %well = arith.cmpi eq, %ran, %zero : i32
  %number = arith.addi %ran, %later : i32
  cf.cond_br %well, ^count, ^failed(%number : i32)
^count:
  %following = arith.addi %round, %one : i64
  %rest = arith.remui %round, %rounds : i64
  %due = arith.cmpi eq, %rest, %first : i64
  cf.cond_br %due, ^ask, ^round(%following : i64)
^ask:
  %answer = llvm.call %ask(%first, %threads, %record) : !llvm.ptr, (i64, i32, !llvm.ptr) -> i32
  %on = arith.cmpi eq, %answer, %zero : i32
  cf.cond_br %on, ^round(%following : i64), ^failed(%zero : i32)
^failed(%which: i32):
  %kept = arith.extui %which : i32 to i64
  llvm.store %kept, %failed_at : i64, !llvm.ptr
  llvm.return %bad : i32
^done:
  llvm.return %zero : i32
}}"""


def _gemm(name: str) -> str:
    """BLAS's product, which takes everything by address."""
    scalars = ("transa", "transb", "m", "n", "k", "alpha", "lda", "ldb", "beta", "ldc")
    entries = ("a_entry", "b_entry", "c_entry")
    operands = "\n  ".join(
        f"%{x}_place = llvm.getelementptr %row[%{x}_entry] : (!llvm.ptr, i64) -> !llvm.ptr, i64\n"
        f"  %{x} = llvm.load %{x}_place : !llvm.ptr -> !llvm.ptr"
        for x in "abc"
    )
    kinds = ", ".join([POINTER] * 13)
    return f"""
llvm.func @{name}_({kinds})
llvm.func @{name}({LAUNCH}) -> i32 {{
  {_words("%record", **dict.fromkeys(scalars + entries, WORD))}
  {operands}
  llvm.call @{name}_(%transa_at, %transb_at, %m_at, %n_at, %k_at, %alpha_at, %a, %lda_at, %b, %ldb_at,
      %beta_at, %c, %ldc_at) : ({kinds}) -> ()
  %zero = arith.constant 0 : i32
  llvm.return %zero : i32
}}"""


# The state of a launch of torch: the address behind the last argument, and the row.
_TOP, _BELOW = (
    f"""%top = llvm.load %state : !llvm.ptr -> !llvm.ptr
  %last = llvm.getelementptr %top[-{n}] : (!llvm.ptr) -> !llvm.ptr, i64"""
    for n in (1, 2)
)
_PUSHED = """%behind = llvm.getelementptr %top[1] : (!llvm.ptr) -> !llvm.ptr, i64
  llvm.store %behind, %state : !llvm.ptr, !llvm.ptr"""
_AT = "%words = llvm.inttoptr %operand : i64 to !llvm.ptr"
_VIEW = "!llvm.ptr, i64, !llvm.ptr, !llvm.ptr, i64, i32, i32, i32, !llvm.ptr"

_TORCH = f"""
llvm.func @aoti_torch_create_tensor_from_blob({_VIEW}) -> i32
llvm.func @aoti_torch_delete_tensor_object(!llvm.ptr) -> i32
llvm.func @aoti_torch_copy_(!llvm.ptr, !llvm.ptr, i32) -> i32
llvm.func @torch_new_list_reserve_size(i64, !llvm.ptr) -> i32
llvm.func @torch_list_push_back(!llvm.ptr, i64) -> i32
llvm.func @torch_new_string_handle(!llvm.ptr, i64, !llvm.ptr) -> i32
llvm.func @torch_new_stable_ivalue(!llvm.ptr) -> i32
llvm.func @torch_call_dispatcher(!llvm.ptr, !llvm.ptr, !llvm.ptr, i64) -> i32

llvm.func @push({INSTRUCTION}) -> i32 {{
  {_TOP}
  llvm.store %operand, %top : i64, !llvm.ptr
  {_PUSHED}
  %zero = arith.constant 0 : i32
  llvm.return %zero : i32
}}

llvm.func @wrap({INSTRUCTION}) -> i32 {{
  {_TOP}
  %value = llvm.load %last : !llvm.ptr -> i64
  %status = llvm.call @torch_new_stable_ivalue(%last) : (!llvm.ptr) -> i32
  %zero = arith.constant 0 : i32
  %fine = arith.cmpi eq, %status, %zero : i32
  cf.cond_br %fine, ^keep, ^end
^keep:
  %box = llvm.load %last : !llvm.ptr -> !llvm.ptr
  llvm.store %value, %box : i64, !llvm.ptr
  cf.br ^end
^end:
  llvm.return %status : i32
}}

llvm.func @drop({INSTRUCTION}) -> i32 {{
  {_TOP}
  %tensor = llvm.load %last : !llvm.ptr -> !llvm.ptr
  %status = llvm.call @aoti_torch_delete_tensor_object(%tensor) : (!llvm.ptr) -> i32
  llvm.store %last, %state : !llvm.ptr, !llvm.ptr
  llvm.return %status : i32
}}"""


def _torch(depth: int) -> str:
    body = f"""%node = llvm.getelementptr %instructions[%k]
      : (!llvm.ptr, i64) -> !llvm.ptr, !llvm.array<2 x i64>
  {_words("%node", function=POINTER, operand=WORD)}
  %status = llvm.call %function(%state, %operand) : !llvm.ptr, (!llvm.ptr, i64) -> i32"""
    return f"""
llvm.func @torch({LAUNCH}) -> i32 {{
  {_NUMBERS}
  %two = arith.constant 2 : i64
  %depth = arith.constant {depth} : i64
  %state = llvm.alloca %two x i64 : (i64) -> !llvm.ptr
  %stack = llvm.alloca %depth x i64 : (i64) -> !llvm.ptr
  llvm.store %stack, %state : !llvm.ptr, !llvm.ptr
  %second = llvm.getelementptr %state[1] : (!llvm.ptr) -> !llvm.ptr, i64
  llvm.store %row, %second : !llvm.ptr, !llvm.ptr
  {_words("%record", count=WORD, instructions=POINTER)}
  {_each("%count", body)}
  llvm.return %zero : i32
}}"""


_VIEWS = f"""
llvm.func @view({INSTRUCTION}) -> i32 {{
  {_AT}
  {_words("%state", top=POINTER, row=POINTER)}
  {_words("%words", entry=WORD, dtype="i32", rank=WORD)}
  %data_at = llvm.getelementptr %row[%entry] : (!llvm.ptr, i64) -> !llvm.ptr, i64
  %data = llvm.load %data_at : !llvm.ptr -> !llvm.ptr
  %sizes = llvm.getelementptr %words[3] : (!llvm.ptr) -> !llvm.ptr, i64
  %strides = llvm.getelementptr %sizes[%rank] : (!llvm.ptr, i64) -> !llvm.ptr, i64
  %offset = arith.constant 0 : i64
  %cpu = arith.constant 0 : i32
  %status = llvm.call @aoti_torch_create_tensor_from_blob(
      %data, %rank, %sizes, %strides, %offset, %dtype, %cpu, %cpu, %top) : ({_VIEW}) -> i32
  {_PUSHED}
  llvm.return %status : i32
}}"""

_APPEND = """%number_at = llvm.getelementptr %words[%next] : (!llvm.ptr, i64) -> !llvm.ptr, i64
  %number = llvm.load %number_at : !llvm.ptr -> i64
  %status = llvm.call @torch_list_push_back(%list, %number) : (!llvm.ptr, i64) -> i32"""
_LISTS = f"""
llvm.func @string({INSTRUCTION}) -> i32 {{
  {_AT}
  %top = llvm.load %state : !llvm.ptr -> !llvm.ptr
  {_words("%words", bytes=POINTER, length=WORD)}
  %status = llvm.call @torch_new_string_handle(%bytes, %length, %top)
      : (!llvm.ptr, i64, !llvm.ptr) -> i32
  {_PUSHED}
  llvm.return %status : i32
}}

llvm.func @integers({INSTRUCTION}) -> i32 {{
  {_NUMBERS}
  {_AT}
  %top = llvm.load %state : !llvm.ptr -> !llvm.ptr
  %count = llvm.load %words : !llvm.ptr -> i64
  %made = llvm.call @torch_new_list_reserve_size(%count, %top) : (i64, !llvm.ptr) -> i32
  %there = arith.cmpi eq, %made, %zero : i32
  cf.cond_br %there, ^fill, ^none
^none:
  llvm.return %made : i32
^fill:
  %list = llvm.load %top : !llvm.ptr -> !llvm.ptr
  {_each("%count", _APPEND)}
  {_PUSHED}
  llvm.return %zero : i32
}}"""


def _call(version: int) -> str:
    return f"""
llvm.func @call({INSTRUCTION}) -> i32 {{
  {_AT}
  {_words("%words", name=POINTER, overload=POINTER, arguments=WORD, results=WORD)}
  %top = llvm.load %state : !llvm.ptr -> !llvm.ptr
  %zero = arith.constant 0 : i64
  %back = arith.subi %zero, %arguments : i64
  %base = llvm.getelementptr %top[%back] : (!llvm.ptr, i64) -> !llvm.ptr, i64
  %version = arith.constant {version} : i64
  %status = llvm.call @torch_call_dispatcher(%name, %overload, %base, %version)
      : (!llvm.ptr, !llvm.ptr, !llvm.ptr, i64) -> i32
  %behind = llvm.getelementptr %base[%results] : (!llvm.ptr, i64) -> !llvm.ptr, i64
  llvm.store %behind, %state : !llvm.ptr, !llvm.ptr
  llvm.return %status : i32
}}"""


_STORE = f"""
llvm.func @store({INSTRUCTION}) -> i32 {{
  %zero = arith.constant 0 : i32
  %bad = llvm.call @view(%state, %operand) : (!llvm.ptr, i64) -> i32
  %there = arith.cmpi eq, %bad, %zero : i32
  cf.cond_br %there, ^copy, ^none
^none:
  llvm.return %bad : i32
^copy:
  {_BELOW}
  %target_at = llvm.getelementptr %last[1] : (!llvm.ptr) -> !llvm.ptr, i64
  %value = llvm.load %last : !llvm.ptr -> !llvm.ptr
  %target = llvm.load %target_at : !llvm.ptr -> !llvm.ptr
  %status = llvm.call @aoti_torch_copy_(%target, %value, %zero) : (!llvm.ptr, !llvm.ptr, i32) -> i32
  %gone = llvm.call @aoti_torch_delete_tensor_object(%target) : (!llvm.ptr) -> i32
  %also = llvm.call @aoti_torch_delete_tensor_object(%value) : (!llvm.ptr) -> i32
  llvm.store %last, %state : !llvm.ptr, !llvm.ptr
  llvm.return %status : i32
}}"""
