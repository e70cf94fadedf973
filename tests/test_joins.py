"""Concatenation, padding and windows: pieces are stored where they belong, and read where they lie."""

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from keras_triton.compile import compile_module
from keras_triton.lowering import interpret
from keras_triton.lowering.errors import LoweringError, RegionError
from keras_triton.lowering.importer import ImportInput, import_graph
from keras_triton.lowering.mlir import functions, parse, stage_of
from keras_triton.lowering.passes.plan_buffers import PlanBuffers
from keras_triton.lowering.pipeline import lower
from keras_triton.lowering.region import kernel_kind, read_region
from keras_triton.targets.base import asked_by
from keras_triton.targets.choice import choose

CPU = torch.device("cpu")
# Sums in another order, and polynomials of tanh and exp.
CLOSE = {"rtol": 1e-5, "atol": 1e-5}
cat = torch.cat


def pad(x, *widths):
    return torch.nn.functional.pad(x, widths, value=3.0)


CASES = {
    "computed pieces": lambda x, y: [cat([x.tanh(), y.exp(), x * y], 1)],
    "arguments": lambda x, y: [cat([x, y], 0), cat([y, x], 1)],
    "a product and an argument": lambda x, y: [cat([x @ y.t(), y], 1)],
    "the same twice": lambda x, y: [cat([x, x], 1), cat([x.tanh()] * 3, 0)],
    "a piece that is read too": lambda x, y: (lambda a: [cat([a, y], 1), a * 2, a])(x.tanh()),
    "rows that reduce": lambda x, y: [cat([x.softmax(1), y], 1), cat([x.sum(1), y.sum(1)], 0)],
    "stacked": lambda x, y: [torch.stack([x[0], y[1] * 3, x[2].tanh()]), torch.stack([x, y], 2)],
    "nested": lambda x, y: [cat([cat([x, y], 0), cat([x * 2, y + 1], 0)], 1)],
    "reshaped": lambda x, y: [cat([x.reshape(2, 2, 6), y.reshape(2, 2, 6)], 2)],
    "numbers": lambda x, y: [cat([x, torch.zeros(4, 2), y], 1), cat([torch.ones(3), x[:, 0]])],
    "padded": lambda x, y: [pad(x * 2, 1, 2, 0, 1), pad(x, 0, 0, 1, 0), pad(x[:, :2], 1, 1)],
    "read in part": lambda x, y: [cat([x.tanh(), y], 1)[:, 3:9] * 2, cat([x, y], 1).sum(1)],
    "a part scattered": lambda x, y: [torch.slice_scatter(x, y[:, :2].tanh(), 1, 2, 4)],
    "every second and third place scattered": lambda x, y: [
        torch.slice_scatter(x, y[:, :3].tanh(), 1, 0, 6, 2), x.slice_scatter(y[:2], 0, 1, 4, 2),
        torch.slice_scatter(x.exp(), y[:, :2], 1, 2, 6, 3), x.slice_scatter(y[:1], 0, 2, 3, 3),
    ],
    "windows": lambda x, y: [x[:, 1:4] * y[:, ::2], x[:, :3] @ y[1:, 3:].t(), x[1:3, 2:].sum(1)],
    "one place of a middle axis": lambda x, y: [
        x.reshape(4, 3, 2)[:, 1] * 2, x.reshape(2, 2, 3, 2)[:, :, 2].exp() + y[:, :2].reshape(2, 2, 2),
        x.reshape(2, 2, 6)[:, 1].sum(1),
    ],
    "one place beside what is reshaped": lambda x, y: [
        (x.exp().reshape(2, 2, 6) * (x @ y.t()).reshape(2, 2, 4)[:, :, :1]).tanh(),
    ],
    "reversed": lambda x, y: [x.flip(1) + y, x.flip(0, 1)[:, 1:], cat([x.flip(0), y], 0)],
    "windows of numbers made inside": lambda x, y: [
        (torch.arange(6.0) + x)[:, 1:5:3], x[:, 1:3] * torch.arange(6.0)[2:4],
    ],
    "scalars": lambda x, y: [torch.stack([x.sum(), y.mean(), x.max()]), x[2, 3] * y[0, 1]],
}  # fmt: skip


def case(name):
    inputs = [torch.randn(4, 6), torch.randn(4, 6)]
    graph = make_fx(lambda *xs: list(CASES[name](*xs)), tracing_mode="fake")(*inputs)
    graph.graph.eliminate_dead_code()
    return import_graph(graph, [ImportInput("data/x"), ImportInput("data/y")], {}), inputs


@pytest.mark.parametrize("target", ["reference", "cpu", "interpret"])
@pytest.mark.parametrize("name", CASES)
def test_every_stage_and_every_target_agree_with_torch(name, target):
    module, inputs = case(name)
    expected, chosen, seen = CASES[name](*inputs), choose(target, CPU), []
    lower(module, "plan", seen.append, **asked_by(chosen))
    for stage in seen:
        for got, want in zip(interpret.run(stage, inputs), expected, strict=True):
            torch.testing.assert_close(got, want, **CLOSE)
    compiled = compile_module(module, chosen, CPU, name="join")
    assert not compiled.report.fallbacks
    for got, want in zip(compiled(inputs), expected, strict=True):
        torch.testing.assert_close(got, want, **CLOSE)


def loops(name):
    """The loop kernels of a case."""
    module = lower(case(name)[0], "regions")
    return [read_region(f) for f in functions(module).values() if kernel_kind(f) == "loop"]


def test_one_kernel_stores_all_pieces_that_it_makes():
    (region,) = loops("computed pieces")
    assert [store.result for store in region.stores] == [0, 0, 0]
    assert list(region.updates) == [0]
    assert [kind.shape for kind in region.results] == [(4, 18)]


def test_a_piece_that_others_read_is_stored_twice():
    (region,) = [r for r in loops("a piece that is read too") if len(r.results) > 1]
    assert len(region.updates) == 1
    assert {kind.shape for kind in region.results} == {(4, 6), (4, 12)}


KERNEL = """func.func private @put(%x: tensor<4xf32>, %all: tensor<8xf32>) -> tensor<8xf32>
      attributes {keras.kernel = "loop"} {
    %e = tensor.empty() : tensor<4xf32>
    %y = linalg.generic {indexing_maps = [affine_map<(d0) -> (d0)>, affine_map<(d0) -> (d0)>],
        iterator_types = ["parallel"]} ins(%x : tensor<4xf32>) outs(%e : tensor<4xf32>) {
      ^bb0(%in: f32, %out: f32):
        linalg.yield %in : f32
    } -> tensor<4xf32>
    %r = tensor.insert_slice %y into %all[AT] [4] [STEP] : tensor<4xf32> into tensor<8xf32>
    return %r : tensor<8xf32>
  }"""


def test_regions_refuse_pieces_that_are_no_windows():
    module = parse(f"module {{ {KERNEL} }}".replace("AT", "0").replace("STEP", "2"))
    with pytest.raises(RegionError, match="no window of a parallel stage"):
        read_region(functions(module)["put"])


def test_plans_refuse_to_update_what_others_read():
    module = parse(f"""module attributes {{keras.stage = "regions"}} {{
      {KERNEL.replace("AT", "4").replace("STEP", "1")}
      func.func @main(%x: tensor<4xf32> {{keras.name = "data/x"}}, %y: tensor<8xf32> {{keras.name = "data/y"}})
          -> tensor<8xf32> {{
        %0 = call @put(%x, %y) : (tensor<4xf32>, tensor<8xf32>) -> tensor<8xf32>
        return %0 : tensor<8xf32> }} }}""")
    assert stage_of(module) == "regions"
    with pytest.raises(LoweringError, match="is updated by a kernel, but others read it as it was"):
        PlanBuffers().run(module)
