"""Programs from handwritten plans: views of memory, copies, donated results, outputs."""

import ctypes

import pytest
import torch

from keras_triton.lowering import mlir
from keras_triton.lowering.plan_reader import read_plan
from keras_triton.runtime import NativeExecutor, Program, TensorExecutor

CPU = torch.device("cpu")


def plan(declared: str, arguments: str, body: str):
    """A plan whose kernels have no meaning: the test brings their executors."""
    return read_plan(
        mlir.parse(
            f"""
            module attributes {{keras.stage = "plan"}} {{
              module @kernels {{}}
              module @plan {{
                {declared}
                func.func @main({arguments}, %arena: memref<256xi8>) {{ {body} return }}
              }}
            }}"""
        )
    )


def doubles(reads, writes):
    torch.mul(reads[0], 2, out=writes[0])


def native_doubles(count):
    """A native kernel in Python: reads its two addresses from the table."""

    def kernel(table, threads):
        source, target = (ctypes.c_void_p * 2).from_address(table)
        floats = ctypes.POINTER(ctypes.c_float)
        read, write = ctypes.cast(source, floats), ctypes.cast(target, floats)
        for i in range(count):
            write[i] = 2 * read[i]

    return kernel


DOUBLE = "func.func private @double(memref<2x3xf32>, memref<2x3xf32>) attributes {keras.outputs = 1 : i64}"
EXECUTORS = {
    "tensors": lambda: TensorExecutor(doubles),
    "native": lambda: NativeExecutor(native_doubles(6), 0),
}


@pytest.fixture(params=EXECUTORS)
def double(request):
    return {"double": EXECUTORS[request.param]()}


def test_outputs_are_fresh_at_every_call(double):
    program = Program(
        plan(
            DOUBLE,
            '%x: memref<2x3xf32> {keras.name = "data/x"}, %out: memref<2x3xf32>',
            "func.call @double(%x, %out) : (memref<2x3xf32>, memref<2x3xf32>) -> ()",
        ),
        double,
        CPU,
    )
    x, y = torch.rand(2, 3), torch.rand(2, 3)
    (first,), (second,) = program([x]), program([y])
    assert first.data_ptr() != second.data_ptr()
    assert torch.equal(first, 2 * x)
    assert torch.equal(second, 2 * y)


def test_a_piece_of_an_argument_goes_through_the_arena_to_an_output(double):
    """Rows 2 and 3 of x, doubled into the arena at byte 64, doubled again into the output."""
    tail = "memref<2x3xf32, strided<[3, 1], offset: 6>>"
    program = Program(
        plan(
            f"""{DOUBLE}
            func.func private @first({tail}, memref<2x3xf32>) attributes {{keras.outputs = 1 : i64}}""",
            '%x: memref<4x3xf32> {keras.name = "data/x"}, %out: memref<2x3xf32>',
            f"""%start = arith.constant 64 : index
            %tail = memref.subview %x[2, 0] [2, 3] [1, 1] : memref<4x3xf32> to {tail}
            %half = memref.view %arena[%start][] : memref<256xi8> to memref<2x3xf32>
            func.call @first(%tail, %half) : ({tail}, memref<2x3xf32>) -> ()
            func.call @double(%half, %out) : (memref<2x3xf32>, memref<2x3xf32>) -> ()""",
        ),
        double | {"first": double["double"]},
        CPU,
    )
    x = torch.rand(4, 3)
    (result,) = program([x])
    assert torch.equal(result, 4 * x[2:])
    kept = program.arena[64 : 64 + 24].view(torch.float32).view(2, 3)
    assert torch.equal(kept, 2 * x[2:])


def test_reshapes_are_views(double):
    program = Program(
        plan(
            DOUBLE,
            '%x: memref<6xf32> {keras.name = "data/x"}, %out: memref<2x3x1xf32>',
            """%wide = memref.expand_shape %x [[0, 1]] output_shape [2, 3]
                : memref<6xf32> into memref<2x3xf32>
            %flat = memref.collapse_shape %out [[0], [1, 2]]
                : memref<2x3x1xf32> into memref<2x3xf32>
            func.call @double(%wide, %flat) : (memref<2x3xf32>, memref<2x3xf32>) -> ()""",
        ),
        double,
        CPU,
    )
    x = torch.rand(6)
    (result,) = program([x])
    assert torch.equal(result, 2 * x.view(2, 3, 1))


def test_a_donated_result_is_its_argument_in_the_order_of_results(double):
    """Result 0 is the state's new value, result 1 a copy of the data."""
    program = Program(
        plan(
            DOUBLE,
            """%x: memref<2x3xf32> {keras.name = "data/x"},
            %state: memref<2x3xf32> {keras.name = "state", keras.donated = 0 : i64},
            %out: memref<2x3xf32>""",
            """func.call @double(%state, %state) : (memref<2x3xf32>, memref<2x3xf32>) -> ()
            memref.copy %x, %out : memref<2x3xf32> to memref<2x3xf32>""",
        ),
        double,
        CPU,
    )
    x, state = torch.rand(2, 3), torch.ones(2, 3)
    for expected in (2.0, 4.0):
        new, copied = program([x, state])
        assert new is state
        assert torch.equal(state, torch.full((2, 3), expected))
        assert torch.equal(copied, x)
        assert copied.data_ptr() != x.data_ptr()


def test_a_state_that_requires_gradients_is_updated_without_recording():
    program = Program(
        plan(
            "",
            """%x: memref<3xf32> {keras.name = "data/x"},
            %state: memref<3xf32> {keras.name = "state", keras.donated = 0 : i64}""",
            "memref.copy %x, %state : memref<3xf32> to memref<3xf32>",
        ),
        {},
        CPU,
    )
    x, state = torch.rand(3), torch.nn.Parameter(torch.zeros(3))
    (new,) = program([x, state])
    assert new is state
    assert state.grad_fn is None
    assert torch.equal(state.detach(), x)


def test_states_that_trade_places_go_through_the_arena():
    program = Program(
        plan(
            "",
            """%a: memref<3xf32> {keras.name = "a", keras.donated = 0 : i64},
            %b: memref<3xf32> {keras.name = "b", keras.donated = 1 : i64}""",
            """%start = arith.constant 128 : index
            %aside = memref.view %arena[%start][] : memref<256xi8> to memref<3xf32>
            memref.copy %a, %aside : memref<3xf32> to memref<3xf32>
            memref.copy %b, %a : memref<3xf32> to memref<3xf32>
            memref.copy %aside, %b : memref<3xf32> to memref<3xf32>""",
        ),
        {},
        CPU,
    )
    a, b = torch.zeros(3), torch.ones(3)
    assert [result.tolist() for result in program([a, b])] == [[1.0] * 3, [0.0] * 3]


def test_the_pointer_table_follows_bases_and_offsets():
    """Three entries of one launch: an argument, a piece of it, the arena."""
    piece = "memref<1x3xf32, strided<[3, 1], offset: 3>>"
    seen = []

    def look(table, threads):
        seen.append([*(ctypes.c_void_p * 3).from_address(table)])

    program = Program(
        plan(
            f"""func.func private @look(memref<2x3xf32>, {piece}, memref<2x3xf32>)
                attributes {{keras.outputs = 1 : i64}}""",
            '%x: memref<2x3xf32> {keras.name = "data/x"}',
            f"""%start = arith.constant 192 : index
            %row = memref.subview %x[1, 0] [1, 3] [1, 1] : memref<2x3xf32> to {piece}
            %temporary = memref.view %arena[%start][] : memref<256xi8> to memref<2x3xf32>
            func.call @look(%x, %row, %temporary)
                : (memref<2x3xf32>, {piece}, memref<2x3xf32>) -> ()""",
        ),
        {"look": NativeExecutor(look, 0)},
        CPU,
    )
    arena = program.arena.data_ptr()
    for x in (torch.rand(2, 3), torch.rand(2, 3)):
        assert program([x]) == []
        assert seen.pop() == [x.data_ptr(), x.data_ptr() + 12, arena + 192]
