"""One native call a step: the same values as launch by launch, what Python is called back for, failures."""

import signal

import keras
import pytest
import torch
from loop_cases import CASES

import keras_triton
from keras_triton import vendor
from keras_triton.bench.blocks import BLOCKS, example
from keras_triton.compile import compile_module, compile_quietly
from keras_triton.explanation import capture_example
from keras_triton.lowering.emit_llvm.driver import driver
from keras_triton.lowering.extern import Extern, call_extern
from keras_triton.lowering.mlir import TensorType, parse
from keras_triton.lowering.plan_reader import read_plan
from keras_triton.native.census import NativeCalls
from keras_triton.native.entry import NoEntryError
from keras_triton.native.torch_calls import View
from keras_triton.native.vendor_calls import extern_entry, vendor_entry
from keras_triton.native.words import Words
from keras_triton.runtime import Program, TensorExecutor
from keras_triton.targets.choice import choose

CPU = torch.device("cpu")


def compiled(module, name="step"):
    return compile_module(module, choose("cpu", CPU), CPU, name=name)


def drawn(kind):
    """Random numbers in [0, 1), which may be variances, and zeros where they are integers."""
    if kind.torch_dtype.is_floating_point:
        return torch.rand(kind.shape).to(kind.torch_dtype)
    return torch.zeros(kind.shape, dtype=kind.torch_dtype)


def assert_as_one_by_one(program, arguments, size=0):
    """Results and donated arguments are those of Python's launches, bit by bit; twice, since the second
    call meets other data at other addresses."""
    plan = program.plan
    python = Program(plan, program.executors, CPU, size=size)
    for _ in range(2):
        ours, theirs = ([tensor.clone() for tensor in arguments] for _ in range(2))
        for made, expected in zip([*program(ours), *ours], [*python(theirs), *theirs], strict=True):
            torch.testing.assert_close(made, expected, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("name", BLOCKS)
def test_a_train_step_is_one_call_with_equal_values(name, seed):
    made = compile_quietly(capture_example(*example(name)))
    assert str(made.report.calls) == "1 native call a step"
    assert_as_one_by_one(made.program, [drawn(arg.type) for arg in made.program.plan.arguments])


@pytest.fixture
def seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("name", CASES)
def test_loops_have_equal_values(name, seed):
    case = CASES[name]
    made = compiled(case.module())
    assert (made.report.calls.count, made.report.calls.python) == (1, ())
    assert_as_one_by_one(made.program, case.inputs())


def test_every_size_has_equal_values(seed):
    fast = keras_triton.jit(lambda x: keras.ops.softmax(x @ keras.ops.transpose(x)))
    with torch.no_grad():
        for size in (3, 9, 5):
            x = torch.rand(size, 4)
            torch.testing.assert_close(fast(x), torch.softmax(x @ x.T, -1))
    sized = next(
        found[-1]._program.program for found in fast._programs.values() if found[-1].captured.size
    )
    for size, (program, number) in sized.known.items():
        assert_as_one_by_one(program, [torch.rand(size, 4), number], size)
    assert set(sized.known) >= {9, 5}


# Each takes [operands], attributes and the shapes of its results.
LONG = {"strides": (2, 2), "dilations": (1, 1), "groups": 1}
WINDOW = LONG | {"pads": (1, 1, 1, 1)}
LOPSIDED = LONG | {"pads": (0, 1, 0, 1)}
PLAIN = {"transpose_a": False, "transpose_b": False}
HEADS = {"scale": 0.5, "causal": True}
OPS = {
    "matmul": ("matmul", [(5, 7), (7, 3)], PLAIN, [(5, 3)]),
    "matmul of transposed": (
        "matmul", [(7, 5), (3, 7)], {"transpose_a": True, "transpose_b": True}, [(5, 3)],
    ),
    "matmul of a transposed right": (
        "matmul", [(64, 33), (17, 33)], PLAIN | {"transpose_b": True}, [(64, 17)],
    ),
    "matmul of a row": ("matmul", [(1, 7), (7, 3)], PLAIN, [(1, 3)]),
    "matmul of nothing": ("matmul", [(2, 0), (0, 3)], PLAIN, [(2, 3)]),
    "batch_matmul": (
        "batch_matmul", [(2, 5, 7), (2, 3, 7)], PLAIN | {"transpose_b": True}, [(2, 5, 3)],
    ),
    "conv2d": ("conv2d", [(2, 7, 8, 3), (3, 3, 3, 5)], WINDOW, [(2, 4, 4, 5)]),
    "conv2d, lopsided": ("conv2d", [(2, 8, 8, 3), (3, 3, 3, 5)], LOPSIDED, [(2, 4, 4, 5)]),
    "conv2d of 1 x 1": (
        "conv2d", [(2, 4, 4, 8), (1, 1, 8, 16)],
        LONG | {"strides": (1, 1), "pads": (0, 0, 0, 0)}, [(2, 4, 4, 16)],
    ),
    "conv2d_input_grad": (
        "conv2d_input_grad", [(2, 4, 4, 5), (3, 3, 3, 5)], WINDOW, [(2, 7, 8, 3)],
    ),
    "conv2d_kernel_grad": (
        "conv2d_kernel_grad", [(2, 4, 4, 5), (2, 7, 8, 3)], WINDOW, [(3, 3, 3, 5)],
    ),
    "conv2d_kernel_grad, lopsided": (
        "conv2d_kernel_grad", [(2, 4, 4, 5), (2, 8, 8, 3)], LOPSIDED, [(3, 3, 3, 5)],
    ),
    "sort": ("sort", [(3, 40)], {"descending": True}, [(3, 40), (3, 40)]),
    "attention": (
        "attention", [(2, 6, 4, 8)] * 3 + [(1, 1, 6)], HEADS, [(2, 6, 4, 8), (2, 4, 6)],
    ),
    "attention_grad": (
        "attention_grad", [(2, 6, 4, 8)] * 4 + [(1, 1, 6), (2, 6, 4, 8), (2, 4, 6)], HEADS,
        [(2, 6, 4, 8)] * 3,
    ),
}  # fmt: skip


def launched(entry, tensors):
    """Makes one launch; the number of the node that failed, or 0."""
    row = Words(0, *(tensor.data_ptr() for tensor in tensors))
    node = Words(driver().address(entry.function), row.address + 8, 0, entry.record)
    return driver().run(node.address, 1, 0, torch.get_num_threads())


def typed(tensors):
    return [View.of(i, TensorType.of_torch(tensor)) for i, tensor in enumerate(tensors)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("case", OPS)
def test_vendor_calls_have_equal_values(case, dtype, seed):
    op, shapes, attributes, results = OPS[case]
    if op.startswith("attention") and dtype == torch.float64:
        pytest.skip("torch has no kernel for it, and the next test says so")
    xs, outs = ([torch.rand(shape).to(dtype) for shape in of] for of in (shapes, results))
    if op == "attention":
        outs[1] = outs[1].float()
    if op == "sort":
        outs[1] = outs[1].long()
    if op == "attention_grad":
        xs[6] = xs[6].float()
    if op.endswith("_grad") and op.startswith("conv"):
        attributes = attributes | {"shape": results[0]}
    expected = [torch.empty_like(out) for out in outs]
    vendor.CALLS[op][1](xs, expected, attributes)
    views = typed([*xs, *outs])
    entry = vendor_entry(op, views[: len(xs)], views[len(xs) :], attributes)
    assert entry.function == (
        {torch.float32: "sgemm", torch.float64: "dgemm"}.get(dtype, "torch")
        if op == "matmul" and min(*shapes[0], *shapes[1]) > 1
        else "torch"
    )
    assert launched(entry, [*xs, *outs]) == 0
    for out, wanted in zip(outs, expected, strict=True):
        torch.testing.assert_close(out, wanted, rtol=0, atol=0, equal_nan=True)


REFUSED = {
    "keras.max_pool2d is more than one op of torch": ("max_pool2d", [(2, 8, 8, 3)], {}),
    "torch has no kernel for attention of these shapes": (
        "attention", [(2, 5, 4, 8), *[(2, 6, 4, 8)] * 2, (1,)], HEADS,
    ),
    "the gradient of an image that is padded lopsidedly is cut out of another": (
        "conv2d_input_grad", [(2, 4, 4, 5), (3, 3, 3, 5)], LOPSIDED,
    ),
}  # fmt: skip


@pytest.mark.parametrize("reason", REFUSED)
def test_what_has_no_entry_says_why(reason):
    op, shapes, attributes = REFUSED[reason]
    views = typed([torch.rand(shape) for shape in shapes])
    with pytest.raises(NoEntryError, match=reason):
        vendor_entry(op, views, [views[0]] * 2, attributes)


EXTERNS = {
    "aten.topk.default": ('[[{"t": 0}, 2, -1, true, true]]', [(3, 2), (3, 2)]),
    "aten.sort.stable": ('[[{"t": 0}], {"stable": true, "dim": 1}]', [(3, 4), (3, 4)]),
    "aten.cumsum.default": ('[[{"t": 0}, 1], {"dtype": {"dtype": "float64"}}]', [(3, 4)]),
    "aten.linalg_vector_norm.default": None,  # takes a Scalar
    "aten.index.Tensor": None,  # takes a list of tensors
    "aten.add.Tensor": None,  # is called with no tensor
    "keras_triton.barrier.default": None,
}


@pytest.mark.parametrize("target", EXTERNS)
def test_externs_have_equal_values_or_a_reason(target):
    x = torch.rand(3, 4)
    args, shapes = EXTERNS[target] or ('[[{"t": 0}, [1]]]', [(3,)])
    extern = Extern(target, args, "")
    outs = [torch.zeros(shape) for shape in shapes]
    outs[1:] = [out.long() for out in outs[1:]]
    kinds = list(map(TensorType.of_torch, [x, *outs]))
    if EXTERNS[target] is None:
        with pytest.raises(NoEntryError, match=target.split(".")[1]):
            extern_entry(extern, kinds, len(outs))
        return
    assert launched(extern_entry(extern, kinds, len(outs)), [x, *outs]) == 0
    for out, wanted in zip(outs, call_extern(extern, [x]), strict=True):
        assert torch.equal(out, wanted.to(out.dtype))


def extern_module(target, args, shape="3x3xf32"):
    """The op between two tanh."""
    args = args.replace('"', "\\22")
    return parse(f"""module attributes {{keras.stage = "keras"}} {{
      func.func private @op(tensor<{shape}>) -> tensor<{shape}>
        attributes {{keras.extern = {{target = "{target}", args = "{args}", reason = "a test"}}}}
      func.func @main(%x: tensor<{shape}> {{keras.name = "x"}}) -> tensor<{shape}> {{
        %0 = "keras.tanh"(%x) : (tensor<{shape}>) -> tensor<{shape}>
        %1 = call @op(%0) : (tensor<{shape}>) -> tensor<{shape}> loc("factor")
        %2 = "keras.tanh"(%1) : (tensor<{shape}>) -> tensor<{shape}>
        return %2 : tensor<{shape}>
      }}
    }}""")


def test_python_is_called_back_in_between():
    made = compiled(extern_module("aten.clamp.default", '[[{"t": 0}, 0, 1]]'))
    reason = "aten.clamp.default takes Optional[number] for min"
    assert [(found.reason, found.times) for found in made.report.calls.python] == [(reason, 1)]
    assert made.report.launching().startswith("1 native call a step; Python is called back for ")
    x = torch.randn(3, 3)
    torch.testing.assert_close(made([x])[0], x.tanh().clamp(0, 1).tanh())


def test_an_op_that_fails_raises_with_its_layer():
    made = compiled(extern_module("aten.linalg_cholesky.default", '[[{"t": 0}]]'))
    assert made.report.launching() == "1 native call a step"
    good = torch.eye(3)
    expected = torch.linalg.cholesky(good.tanh()).tanh()
    torch.testing.assert_close(made([good])[0], expected)
    with pytest.raises(RuntimeError, match=r"factor: .*positive-definite"):
        made([-good])
    torch.testing.assert_close(made([good])[0], expected)


LOOP = """module attributes {keras.stage = "plan"} {
  module @kernels {}
  module @plan {
    func.func private @look(memref<i64>, memref<i64>) attributes {keras.outputs = 1 : i64}
    func.func @main(%x: memref<i64> {keras.name = "x"}, %out: memref<i64>, %arena: memref<64xi8>) {
      %first = arith.constant 0 : index
      %one = arith.constant 1 : index
      %last = arith.constant 3 : index
      scf.for %i = %first to %last step %one {
        func.call @look(%x, %out) : (memref<i64>, memref<i64>) -> ()
      }
      return
    }
  }
}"""


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt()], ids=repr)
def test_what_python_raises_comes_out(error):
    """From a loop, which Python iterates: one native call a round, beside that of the step."""
    rounds = []

    def look(reads, writes):
        rounds.append(int(reads[0]))
        if len(rounds) == 5:
            raise error
        writes[0].copy_(reads[0])

    executors = {"look": TensorExecutor(look)}
    plan = read_plan(parse(LOOP))
    assert NativeCalls.of(plan.steps, executors).count == 1 + 3
    program = Program(plan, executors, CPU, native=True)
    assert program([torch.tensor(7)]) == [torch.tensor(7)]
    with pytest.raises(type(error)):
        program([torch.tensor(8)])
    assert rounds == [7, 7, 7, 8, 8]
    assert program([torch.tensor(9)]) == [torch.tensor(9)]


def test_a_long_loop_can_be_interrupted():
    """Now and then it goes through Python, where a signal's handler raises."""

    def handle(*_):
        raise TimeoutError

    fast = keras_triton.jit(
        lambda x: keras.ops.while_loop(lambda x: x[0] > 0, lambda x: (x - 1,), (x,))
    )
    before = signal.signal(signal.SIGALRM, handle)
    try:
        with torch.no_grad():
            fast(torch.tensor([2]))
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            with pytest.raises(TimeoutError):
                fast(torch.tensor([10**8]))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_profiled_step_names_its_launches():
    made = compiled(extern_module("aten.cumsum.default", '[[{"t": 0}, 1]]'))
    x = torch.randn(3, 3)
    (expected,) = made([x])
    with torch.profiler.profile() as profile:
        (result,) = made([x])
    assert torch.equal(result, expected)
    names = {event.name for event in profile.events()}
    assert set(made.program.plan.kernels) <= {name.split()[0] for name in names if name}


def test_a_torch_that_lacks_entry_points_is_told_of(monkeypatch):
    monkeypatch.setitem(driver().lacks, "torch", "torch_call_dispatcher")
    monkeypatch.setitem(driver().lacks, "gemm", "sgemm_")
    made = compiled(CASES["product of a carry"].module())
    (launch,) = made.report.calls.python
    assert launch.reason == f"torch {torch.__version__} has no torch_call_dispatcher"
    assert (launch.times, made.report.calls.count) == (4, 1 + 4)
    inputs = CASES["product of a carry"].inputs()
    assert_as_one_by_one(made.program, inputs)
