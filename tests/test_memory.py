"""Where values of a plan live, and in which order its launches need the least memory."""

import random

import pytest
import torch
from golden_files import golden_input

from keras_triton.lowering import interpret
from keras_triton.lowering.arena import Arena
from keras_triton.lowering.errors import LoweringError
from keras_triton.lowering.fusion.cut_instances import cut_instances
from keras_triton.lowering.loops import donations
from keras_triton.lowering.memory.fit import AGAIN, Fit
from keras_triton.lowering.memory.footprint import footprint
from keras_triton.lowering.memory.overwrite import Overwriting
from keras_triton.lowering.memory.schedule import best_order
from keras_triton.lowering.mlir import TensorType, callee, functions, parse
from keras_triton.lowering.passes.fit_memory import FitMemory
from keras_triton.lowering.passes.group_instances import GroupInstances
from keras_triton.lowering.passes.order_launches import OrderLaunches
from keras_triton.lowering.passes.plan_buffers import PlanBuffers
from keras_triton.lowering.pipeline import lower
from keras_triton.lowering.plan import Copy
from keras_triton.lowering.plan_reader import read_plan
from keras_triton.runtime import Program
from keras_triton.targets.choice import choose

CPU = torch.device("cpu")


def footprint_of(module):
    known = functions(module)
    return footprint(known, "main", donations(known), Overwriting(known))


@pytest.mark.parametrize("seed", range(20))
def test_buffers_in_use_together_do_not_overlap(seed):
    draw, arena, held = random.Random(seed), Arena(), []
    for _ in range(60):
        if held and draw.random() < 0.45:
            arena.give(held.pop(draw.randrange(len(held))))
        else:
            held.append(arena.take(draw.choice([0, 1, 64, 100, 1000, 5000, 20000])))
    packing = arena.pack()
    places = list(zip(packing.offsets, arena.sizes, arena.first, arena.last, strict=True))
    for n, (start, size, first, last) in enumerate(places):
        assert start % 64 == 0
        assert start + size <= packing.size
        for other, length, begin, end in places[:n]:
            apart = start + size <= other or other + length <= start
            assert apart or last <= begin or end <= first or not size or not length
    assert arena.least <= packing.size <= 1.3 * arena.least


def test_an_arena_of_nothing():
    assert Arena().pack().size == 0


def test_an_update_runs_as_soon_as_its_gradient_is_there():
    module = parse(golden_input("order-launches"))
    steps = footprint_of(module)
    own, order = list(range(5)), best_order(steps)
    named = [steps.program.steps[n].callee for n in order]
    assert named.index("optimizer_sub_3") == named.index("dense_matmul_0") + 1
    # Exponential and two gradients at once; or one gradient with either.
    assert (steps.peak(own), steps.peak(order)) == (16384, 12288)


def test_the_ordered_plan_needs_less_and_copies_nothing():
    module = parse(golden_input("order-launches"))
    before, after = (
        read_plan(PlanBuffers().run(each)) for each in (module, OrderLaunches().run(module))
    )
    assert after.arena_bytes < before.arena_bytes
    assert not any(isinstance(step, Copy) for step in after.steps)


def test_order_launches_refuses_what_is_no_launch():
    module = parse("""module attributes {keras.stage = "regions"} {
      func.func @main(%a: tensor<4xf32>) -> tensor<4xf32> {
        %0 = arith.addf %a, %a : tensor<4xf32>
        return %0 : tensor<4xf32> } }""")
    with pytest.raises(
        LoweringError, match=r"arith.addf cannot stand in a caller of stage regions"
    ):
        OrderLaunches().run(module)


def test_calls_that_draw_random_numbers_keep_their_order():
    """What they draw follows from how many were drawn before."""
    module = parse("""module attributes {keras.stage = "regions"} {
      func.func private @small(tensor<64xf32>) -> tensor<64xf32> attributes {keras.extern =
        {target = "aten.bernoulli.default", args = "[[{\\22t\\22: 0}]]", reason = "torch draws"}}
      func.func private @large(tensor<64xf32>) -> tensor<4096xf32> attributes {keras.extern =
        {target = "aten.rand.default", args = "[[[4096]]]", reason = "torch draws"}}
      func.func private @sum(tensor<4096xf32>) -> tensor<64xf32> attributes {keras.extern =
        {target = "aten.neg.default", args = "[[{\\22t\\22: 0}]]", reason = "a stand-in"}}
      func.func @main(%a: tensor<64xf32>) -> (tensor<64xf32>, tensor<64xf32>) {
        %0 = call @large(%a) : (tensor<64xf32>) -> tensor<4096xf32>
        %1 = call @small(%a) : (tensor<64xf32>) -> tensor<64xf32>
        %2 = call @sum(%0) : (tensor<4096xf32>) -> tensor<64xf32>
        return %1, %2 : tensor<64xf32>, tensor<64xf32> } }""")
    steps = footprint_of(module)
    assert steps.needs == [frozenset(), frozenset({0}), frozenset({0})]
    order = best_order(steps)
    assert order.index(0) < order.index(1)


def launches(module):
    return [
        (callee(op), AGAIN in op.operation.attributes)
        for op in functions(module)["main"].regions[0].blocks[0].operations
        if callee(op)
    ]


def test_the_cheapest_value_is_made_again():
    """What waits from first to last is an exponential; at 0.9 of the memory it is made twice."""
    module = parse(golden_input("fit-memory"))
    fitted = FitMemory(0.9).run(module)
    assert [name for name, again in launches(fitted) if again] == ["first_exp_0"]
    fit = Fit.of(fitted)
    assert fit.after <= fit.budget < fit.before
    plans = [read_plan(PlanBuffers().run(each)) for each in (module, fitted)]
    assert fit.before - fit.after == plans[0].arena_bytes - plans[1].arena_bytes
    assert Fit.of(plans[1].module) == fit
    assert sum(bool(step.again) for step in plans[1].steps) == 1
    inputs = [torch.rand(argument.type.shape) for argument in plans[0].arguments]
    first, second = (interpret.run(each, inputs, exact=False) for each in (module, fitted))
    assert torch.equal(first[0], second[0])


def test_a_budget_that_is_met_changes_nothing():
    module = parse(golden_input("fit-memory"))
    assert FitMemory(1 << 30).run(module) is module


def test_of_a_budget_that_cannot_be_met_the_least_is_told():
    fit = Fit.of(FitMemory(1000).run(parse(golden_input("fit-memory"))))
    assert 1000 == fit.budget < fit.after < fit.before
    assert not fit.is_within


def test_a_step_that_launches_nothing_has_nothing_to_make_again():
    view = lower(
        parse("""module attributes {keras.stage = "keras"} {
          func.func @main(%a: tensor<4xf32>) -> tensor<2x2xf32> {
            %0 = "keras.reshape"(%a) {shape = array<i64: 2, 2>} : (tensor<4xf32>) -> tensor<2x2xf32>
            return %0 : tensor<2x2xf32> } }"""),
        budget=0.5,
    )
    assert not Fit.of(view).is_within


def test_gradients_need_not_wait_for_one_another():
    """A kernel over many tensors is cut where that lets its parts run sooner."""
    module = parse(golden_input("group-instances"))
    cut = cut_instances(module, 8)
    inputs = [torch.rand(TensorType.of(kind).shape) for kind in functions(cut)["main"].type.inputs]
    grouped = GroupInstances().run(module)
    parts = cut_instances(grouped, 8)
    assert len(launches(parts)) > len(launches(grouped))
    wanted, found = (interpret.run(each, inputs) for each in (grouped, parts))
    assert all(map(torch.equal, wanted, found))


def test_fit_memory_refuses_what_is_no_launch():
    module = parse("""module attributes {keras.stage = "regions"} {
      func.func @main(%a: tensor<4xf32>) -> tensor<4xf32> {
        %0 = arith.addf %a, %a : tensor<4xf32>
        return %0 : tensor<4xf32> } }""")
    with pytest.raises(LoweringError, match=r"arith\.addf cannot stand"):
        FitMemory(0.5).run(module)


SQUARE = "tensor<32x32xf32>"
ONE, PAIR = f": ({SQUARE}) -> {SQUARE}", f": ({SQUARE}, {SQUARE}) -> {SQUARE}"
PRODUCT = f"{{transpose_a = false, transpose_b = false}} {PAIR}"
EXP = f'%e = "keras.exp"(%d) {ONE}'
TURNED = f'%t = "keras.transpose"(%d) {{permutation = array<i64: 1, 0>}} {ONE}'


def planned(body, results):
    """The module and the plan of a product (%d), of `body`, and of a product of what that makes (%e)."""
    kinds = ", ".join([SQUARE] * len(results.split(",")))
    module = parse(f"""module attributes {{keras.stage = "keras"}} {{
      func.func @main(%x: {SQUARE} {{keras.name = "x"}}) -> ({kinds}) {{
        %d = "keras.matmul"(%x, %x) {PRODUCT}
        {body}
        %f = "keras.matmul"(%e, %x) {PRODUCT}
        return {results} : {kinds} }} }}""")
    return module, read_plan(lower(module, epilogues=False))


@pytest.mark.parametrize(
    ("body", "results", "buffers"),
    [
        (EXP, "%f", 1),
        (f'%e = "keras.add"(%d, %x) {PAIR}', "%f", 1),
        (f'%e = "keras.add"(%d, %d) {PAIR}', "%f", 1),
        # It is read again, or not where its place is.
        (f'{EXP} %g = "keras.matmul"(%d, %e) {PRODUCT}', "%f, %g", 2),
        (f'{TURNED} %e = "keras.exp"(%t) {ONE}', "%f", 2),
        (f'{TURNED} %e = "keras.add"(%t, %d) {PAIR}', "%f", 2),
        # Nothing is made in the memory of an argument that stays.
        (f'%e = "keras.exp"(%x) {ONE} %g = "keras.add"(%d, %e) {PAIR}', "%f, %g", 2),
    ],
)
def test_what_is_made_element_by_element_of_a_dying_value_takes_its_place(body, results, buffers):
    module, plan = planned(body, results)
    assert plan.arena_bytes == 4096 * buffers
    x = torch.rand(32, 32)
    made = choose("cpu", CPU).compile(plan.kernels, {})
    found = Program(plan, {name: each.executor for name, each in made.items()}, CPU)([x])
    for one, other in zip(found, interpret.run(module, [x], exact=True), strict=True):
        torch.testing.assert_close(one, other.float(), rtol=1e-5, atol=1e-5)


def test_an_argument_is_overwritten_after_all_have_read_it():
    """But for those that need the new value."""
    calls = {
        "later": "%1 = call @next(%s) : (tensor<8xf32>) -> tensor<8xf32>\n"
        "%2 = call @use(%s) : (tensor<8xf32>) -> tensor<8xf32>",
        "of both": "%1 = call @next(%s) : (tensor<8xf32>) -> tensor<8xf32>\n"
        "%2 = call @both(%s, %1) : (tensor<8xf32>, tensor<8xf32>) -> tensor<8xf32>",
    }
    for kind, copies in (("later", 0), ("of both", 1)):
        module = parse(f"""module attributes {{keras.stage = "regions"}} {{
          {elementwise("next", 1)} {elementwise("use", 1)} {elementwise("both", 2)}
          func.func @main(%s: tensor<8xf32> {{keras.name = "s", keras.donated = 0 : i64}})
              -> (tensor<8xf32>, tensor<8xf32>) {{
            {calls[kind]}
            return %1, %2 : tensor<8xf32>, tensor<8xf32> }} }}""")
        plan = read_plan(PlanBuffers().run(OrderLaunches().run(module)))
        assert sum(isinstance(step, Copy) for step in plan.steps) == copies, kind


def elementwise(name, inputs):
    """A kernel that adds one, or its two inputs."""
    names = [f"%a{i}" for i in range(inputs)]
    values = ", ".join(f"%v{i}: f32" for i in range(inputs))
    other = "%v1" if inputs == 2 else "%v0"
    maps = ", ".join(["affine_map<(i) -> (i)>"] * (inputs + 1))
    return f"""func.func private @{name}({", ".join(f"{n}: tensor<8xf32>" for n in names)}) -> tensor<8xf32>
        attributes {{keras.kernel = "loop", keras.layers = []}} {{
      %0 = tensor.empty() : tensor<8xf32>
      %1 = linalg.generic {{indexing_maps = [{maps}], iterator_types = ["parallel"]}}
          ins({", ".join(names)} : {", ".join(["tensor<8xf32>"] * inputs)}) outs(%0 : tensor<8xf32>)
          attrs = {{keras.op = "add"}} {{
      ^bb0({values}, %out: f32):
        %s = arith.addf %v0, {other} : f32
        linalg.yield %s : f32
      }} -> tensor<8xf32>
      return %1 : tensor<8xf32> }}"""
