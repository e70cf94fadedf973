"""Where values of a plan live, and in which order its launches need the least memory."""

import random

import pytest
from golden_files import golden_input

from keras_triton.lowering.arena import Arena
from keras_triton.lowering.errors import LoweringError
from keras_triton.lowering.loops import donations
from keras_triton.lowering.memory.footprint import footprint
from keras_triton.lowering.memory.overwrite import Overwriting
from keras_triton.lowering.memory.schedule import best_order
from keras_triton.lowering.mlir import functions, parse
from keras_triton.lowering.passes.order_launches import OrderLaunches
from keras_triton.lowering.passes.plan_buffers import PlanBuffers
from keras_triton.lowering.plan import Copy
from keras_triton.lowering.plan_reader import read_plan


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
