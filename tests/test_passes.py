"""Every pass: its golden file, an input that it refuses, and what it is there for.

That values are equal before and after every pass is for test_random_programs.py.
"""
# ruff: noqa: E501 (MLIR text)

import pytest
import torch
from golden_files import compare, golden_input

from keras_triton.lowering import interpret
from keras_triton.lowering.errors import LoweringError
from keras_triton.lowering.mlir import functions, parse, text
from keras_triton.lowering.passes.fuse_regions import FuseRegions
from keras_triton.lowering.passes.group_instances import GroupInstances
from keras_triton.lowering.passes.lower_to_linalg import LowerToLinalg
from keras_triton.lowering.passes.plan_buffers import PlanBuffers
from keras_triton.lowering.pipeline import lower, pipeline
from keras_triton.lowering.plan import Copy
from keras_triton.lowering.plan_reader import read_plan
from keras_triton.lowering.region import kernel_kind, read_instances, read_region

PASSES = {step.name: step for step in pipeline(decompose=True, budget=0.9, precision="tf32")}
# A plan's buffers round to float32.
ROUNDED = {"rtol": 1e-4, "atol": 1e-4}


def stages(module, **options):
    seen = []
    lower(module, on_stage=seen.append, **options)
    return seen


def main_text(signature, body):
    return parse(
        f'module attributes {{keras.stage = "keras"}} {{ func.func @main({signature}) {body} }}'
    )


def kernels(module, **options):
    """Name -> kind of the kernels that a module's regions have."""
    regions = lower(module, "regions", **options)
    return {n: kernel_kind(f) for n, f in functions(regions).items() if kernel_kind(f)}


@pytest.mark.parametrize("name", PASSES)
def test_golden(name, request):
    source = golden_input(name)
    module = PASSES[name].run(parse(source))
    compare(name, str(module), request.config.getoption("--update-golden"))


@pytest.mark.parametrize("name", PASSES)
def test_pass_spells_itself_and_leaves_its_input_alone(name):
    assert str(PASSES[name]).startswith(name)
    module = parse(golden_input(name))
    before = text(module)
    PASSES[name].run(module)
    assert text(module) == before


@pytest.mark.parametrize("name", PASSES)
def test_pass_refuses_another_stage(name):
    step = PASSES[name]
    other = parse('module attributes {keras.stage = "unheard of"} {}')
    with pytest.raises(LoweringError, match=f"{step.name} takes a module of stage '{step.takes}'"):
        step.run(other)


def test_lower_to_linalg_refuses_to_decompose_what_has_no_decomposition():
    source = golden_input("lower-to-linalg")
    with pytest.raises(LoweringError, match="no decomposition"):
        LowerToLinalg(decompose=frozenset({"matmul"})).run(parse(source))


def test_fuse_regions_refuses_a_generic_that_reads_its_result():
    module = parse("""module attributes {keras.stage = "linalg"} {
      func.func @main(%a: tensor<4xf32>) -> tensor<4xf32> {
        %0 = linalg.generic {indexing_maps = [affine_map<(d0) -> (d0)>], iterator_types = ["parallel"]}
            outs(%a : tensor<4xf32>) {
        ^bb0(%old: f32):
          %1 = arith.addf %old, %old : f32
          linalg.yield %1 : f32
        } -> tensor<4xf32> loc("model/odd")
        return %0 : tensor<4xf32> } }""")
    with pytest.raises(LoweringError, match="model/odd reads the old value of its result"):
        FuseRegions().run(module)


def test_plan_buffers_refuses_a_slice_that_is_not_one_piece():
    module = parse("""module attributes {keras.stage = "regions"} {
      func.func @main(%a: tensor<4x4xf32>) -> tensor<4x2xf32> {
        %0 = tensor.extract_slice %a[0, 0] [4, 2] [1, 1] : tensor<4x4xf32> to tensor<4x2xf32>
        return %0 : tensor<4x2xf32> } }""")
    with pytest.raises(LoweringError, match="not one piece of memory"):
        PlanBuffers().run(module)


def test_softmax_becomes_one_region():
    module = main_text(
        "%x: tensor<8x5xf32>",
        """-> tensor<8x5xf32> {
        %0 = "keras.softmax"(%x) : (tensor<8x5xf32>) -> tensor<8x5xf32>
        return %0 : tensor<8x5xf32> }""",
    )
    regions = lower(module, "regions", decompose=True)
    (region,) = [read_region(f) for f in functions(regions).values() if kernel_kind(f)]
    assert (region.parallel, region.reduction) == ((8,), (5,))
    assert [stage.kind for stage in region.stages] == ["reduce", "full", "reduce", "full"]
    assert list(kernels(module).values()) == ["softmax"]


def test_layer_norm_becomes_one_region():
    module = main_text(
        "%x: tensor<2x4x8xf32>, %w: tensor<8xf32>, %b: tensor<8xf32>",
        """-> (tensor<2x4x8xf32>, tensor<2x4xf32>) {
        %y, %m, %r = "keras.layer_norm"(%x, %w, %b) {epsilon = 1.0e-3}
            : (tensor<2x4x8xf32>, tensor<8xf32>, tensor<8xf32>)
            -> (tensor<2x4x8xf32>, tensor<2x4xf32>, tensor<2x4xf32>)
        return %y, %r : tensor<2x4x8xf32>, tensor<2x4xf32> }""",
    )
    regions = lower(module, "regions", decompose=True)
    (region,) = [read_region(f) for f in functions(regions).values() if kernel_kind(f)]
    assert (region.parallel, region.reduction) == ((2, 4), (8,))
    assert len(region.outputs) == 2


def test_batch_statistics_become_one_region_over_columns():
    module = main_text(
        "%x: tensor<6x4xf32>",
        """-> (tensor<4xf32>, tensor<4xf32>) {
        %0 = "keras.sum"(%x) {axes = array<i64: 0>} : (tensor<6x4xf32>) -> tensor<4xf32>
        %n = "keras.full"() {value = 6.0 : f64, shape = array<i64>, dtype = "f32"} : () -> tensor<f32>
        %1 = "keras.div"(%0, %n) : (tensor<4xf32>, tensor<f32>) -> tensor<4xf32>
        %2 = "keras.sub"(%x, %1) : (tensor<6x4xf32>, tensor<4xf32>) -> tensor<6x4xf32>
        %3 = "keras.mul"(%2, %2) : (tensor<6x4xf32>, tensor<6x4xf32>) -> tensor<6x4xf32>
        %4 = "keras.sum"(%3) {axes = array<i64: 0>} : (tensor<6x4xf32>) -> tensor<4xf32>
        return %1, %4 : tensor<4xf32>, tensor<4xf32> }""",
    )
    regions = lower(module, "regions")
    (region,) = [read_region(f) for f in functions(regions).values() if kernel_kind(f)]
    assert (region.parallel, region.reduction) == ((4,), (6,))
    assert [stage.kind for stage in region.stages] == ["reduce", "row", "reduce"]


def test_updates_of_all_parameters_become_one_kernel_in_place():
    module = parse(golden_input("lower-to-linalg"))
    regions = lower(module, "regions")
    (update,) = [f for f in functions(regions).values() if kernel_kind(f) == "multi"]
    assert [region.parallel for region in read_instances(update)] == [(3, 2), (2,)]
    assert "kept apart" in str(update.operation.attributes["keras.reason"])
    plan = read_plan(lower(regions))
    assert not [step for step in plan.steps if isinstance(step, Copy)]
    last = plan.steps[-1]
    assert {ref.base for ref in last.operands[-last.outputs :]} == {"argument"}


def test_a_product_with_its_bias_and_activation_is_one_kernel_unless_epilogues_are_off():
    module = main_text(
        "%x: tensor<4x3xf32>, %w: tensor<3x2xf32>, %b: tensor<2xf32>",
        """-> tensor<4x2xf32> {
        %0 = "keras.matmul"(%x, %w) {transpose_a = false, transpose_b = false}
            : (tensor<4x3xf32>, tensor<3x2xf32>) -> tensor<4x2xf32> loc("model/dense")
        %1 = "keras.add"(%0, %b) : (tensor<4x2xf32>, tensor<2xf32>) -> tensor<4x2xf32> loc("model/dense")
        %2 = "keras.relu"(%1) : (tensor<4x2xf32>) -> tensor<4x2xf32> loc("model/dense")
        return %2 : tensor<4x2xf32> }""",
    )
    assert kernels(module) == {"dense_matmul_add_relu_0": "matmul"}
    assert list(kernels(module, epilogues=False).values()) == ["matmul", "loop"]


@pytest.mark.parametrize(("groups", "kinds"), [(1, ["conv2d"]), (4, ["conv2d", "loop"])])
def test_a_convolution_without_a_template_leaves_its_bias_to_a_kernel(groups, kinds):
    """Torch runs it, and computes nothing else."""
    module = main_text(
        f"%x: tensor<1x5x5x8xf32>, %w: tensor<3x3x{8 // groups}x8xf32>, %b: tensor<8xf32>",
        f"""-> (tensor<1x3x3x8xf32>) {{
        %0 = "keras.conv2d"(%x, %w) {{strides = array<i64: 1, 1>, pads = array<i64: 0, 0, 0, 0>,
            dilations = array<i64: 1, 1>, groups = {groups} : i64}}
            : (tensor<1x5x5x8xf32>, tensor<3x3x{8 // groups}x8xf32>) -> tensor<1x3x3x8xf32>
        %1 = "keras.add"(%0, %b) : (tensor<1x3x3x8xf32>, tensor<8xf32>) -> tensor<1x3x3x8xf32>
        %2 = "keras.relu"(%1) : (tensor<1x3x3x8xf32>) -> tensor<1x3x3x8xf32>
        return %2 : tensor<1x3x3x8xf32> }}""",
    )
    assert list(kernels(module).values()) == kinds


def test_random_masks_never_reach_memory():
    module = main_text(
        "%x: tensor<4x3xf32>, %key: tensor<2xi64>",
        """-> (tensor<4x3xf32>, tensor<3xf32>) {
        %0 = "keras.random_uniform"(%key) {shape = array<i64: 4, 3>} : (tensor<2xi64>) -> tensor<4x3xf32>
        %1 = "keras.mul"(%x, %0) : (tensor<4x3xf32>, tensor<4x3xf32>) -> tensor<4x3xf32>
        %2 = "keras.transpose"(%0) {permutation = array<i64: 1, 0>} : (tensor<4x3xf32>) -> tensor<3x4xf32>
        %3 = "keras.sum"(%2) {axes = array<i64: 1>} : (tensor<3x4xf32>) -> tensor<3xf32>
        return %1, %3 : tensor<4x3xf32>, tensor<3xf32> }""",
    )
    regions = lower(module, "regions")
    for function in functions(regions).values():
        if kernel_kind(function):
            assert all("4x3xf32" not in str(t) for t in function.type.inputs[1:])


def test_unfused_edges_carry_a_reason():
    module = main_text(
        "%x: tensor<4x6xf32>, %b: tensor<8xf32>",
        """-> tensor<3x8xf32> {
        %0 = "keras.exp"(%x) : (tensor<4x6xf32>) -> tensor<4x6xf32>
        %1 = "keras.sum"(%0) {axes = array<i64: 1>} : (tensor<4x6xf32>) -> tensor<4xf32>
        %2 = "keras.reshape"(%1) {shape = array<i64: 4, 1>} : (tensor<4xf32>) -> tensor<4x1xf32>
        %3 = "keras.div"(%0, %2) : (tensor<4x6xf32>, tensor<4x1xf32>) -> tensor<4x6xf32>
        %4 = "keras.reshape"(%3) {shape = array<i64: 3, 8>} : (tensor<4x6xf32>) -> tensor<3x8xf32>
        %5 = "keras.add"(%4, %b) : (tensor<3x8xf32>, tensor<8xf32>) -> tensor<3x8xf32>
        return %5 : tensor<3x8xf32> }""",
    )
    regions = lower(module, "regions")
    last = [f for f in functions(regions).values() if kernel_kind(f)][-1]
    assert "reshape between" in str(last.operation.attributes["keras.reason"])


def test_a_reshape_between_a_product_and_its_bias_does_not_keep_them_apart():
    module = main_text(
        "%x: tensor<6x4xf32>, %w: tensor<4x2xf32>, %b: tensor<2xf32>",
        """-> tensor<2x3x2xf32> {
        %0 = "keras.matmul"(%x, %w) {transpose_a = false, transpose_b = false}
            : (tensor<6x4xf32>, tensor<4x2xf32>) -> tensor<6x2xf32>
        %1 = "keras.reshape"(%0) {shape = array<i64: 2, 3, 2>} : (tensor<6x2xf32>) -> tensor<2x3x2xf32>
        %2 = "keras.add"(%1, %b) : (tensor<2x3x2xf32>, tensor<2xf32>) -> tensor<2x3x2xf32>
        %3 = "keras.tanh"(%2) : (tensor<2x3x2xf32>) -> tensor<2x3x2xf32>
        return %3 : tensor<2x3x2xf32> }""",
    )
    assert list(kernels(module).values()) == ["matmul"]
    assert list(kernels(module, epilogues=False).values()) == ["matmul", "loop"]


STATE = '{keras.name = "%s", keras.donated = %d : i64}'
PLANS = {
    "states that swap": """%b, %a : tensor<3xf32>, tensor<3xf32>""",
    "states that stay": """%a, %b : tensor<3xf32>, tensor<3xf32>""",
    "an old value that is the other's new one": """%0, %a : tensor<3xf32>, tensor<3xf32>""",
}


@pytest.mark.parametrize("returned", PLANS.values(), ids=PLANS)
def test_donated_states_end_as_they_should(returned):
    module = main_text(
        f"%a: tensor<3xf32> {STATE % ('a', 0)}, %b: tensor<3xf32> {STATE % ('b', 1)}",
        f"""-> (tensor<3xf32>, tensor<3xf32>) {{
        %0 = "keras.neg"(%a) : (tensor<3xf32>) -> tensor<3xf32>
        return {returned} }}""",
    )
    inputs = [torch.tensor([1.0, 2.0, 3.0]), torch.tensor([4.0, 5.0, 6.0])]
    for produced, wanted in zip(
        interpret.run(lower(module), inputs), interpret.run(module, inputs), strict=True
    ):
        torch.testing.assert_close(produced, wanted, rtol=0, atol=0)


def test_slices_of_one_piece_are_views_and_others_are_read_where_they_lie():
    module = main_text(
        "%x: tensor<4x6xf32>",
        """-> (tensor<2x6xf32>, tensor<4x3xf32>) {
        %0 = "keras.slice"(%x) {starts = array<i64: 1, 0>, limits = array<i64: 3, 6>, strides = array<i64: 1, 1>}
            : (tensor<4x6xf32>) -> tensor<2x6xf32>
        %1 = "keras.relu"(%0) : (tensor<2x6xf32>) -> tensor<2x6xf32>
        %2 = "keras.slice"(%x) {starts = array<i64: 0, 0>, limits = array<i64: 4, 6>, strides = array<i64: 1, 2>}
            : (tensor<4x6xf32>) -> tensor<4x3xf32>
        return %1, %2 : tensor<2x6xf32>, tensor<4x3xf32> }""",
    )
    assert sorted(kernels(module).values()) == ["loop", "loop"]
    x = torch.randn(4, 6)
    for stage in stages(module):
        cut, strided = interpret.run(stage, [x])
        assert torch.equal(cut, x[1:3].relu())
        assert torch.equal(strided, x[:, ::2])


def test_a_window_and_what_it_is_cut_of_are_one_kernel_if_the_rest_is_cheap():
    """The four gates of an LSTM: one product, and one kernel that reads it at four places; or that kernel
    is the product's epilogue.
    """
    cuts = "\n".join(
        f"""%g{i} = "keras.slice"(%z) {{starts = array<i64: 0, {3 * i}>, limits = array<i64: 4, {3 * i + 3}>,
            strides = array<i64: 1, 1>}} : (tensor<4x12xf32>) -> tensor<4x3xf32>
            %t{i} = "keras.tanh"(%g{i}) : (tensor<4x3xf32>) -> tensor<4x3xf32>"""
        for i in range(4)
    )
    kind = "(tensor<4x3xf32>, tensor<4x3xf32>) -> tensor<4x3xf32>"
    module = main_text(
        "%x: tensor<4x6xf32>, %w: tensor<6x12xf32>, %b: tensor<12xf32>",
        f"""-> (tensor<4x3xf32>) {{
        %m = "keras.matmul"(%x, %w) {{transpose_a = false, transpose_b = false}}
            : (tensor<4x6xf32>, tensor<6x12xf32>) -> tensor<4x12xf32>
        %z = "keras.add"(%m, %b) : (tensor<4x12xf32>, tensor<12xf32>) -> tensor<4x12xf32>
        {cuts}
        %0 = "keras.mul"(%t0, %t1) : {kind}
        %1 = "keras.mul"(%t2, %t3) : {kind}
        %2 = "keras.add"(%0, %1) : {kind}
        return %2 : tensor<4x3xf32> }}""",
    )
    inputs = [torch.randn(4, 6), torch.randn(6, 12), torch.randn(12)]
    for decompose in (False, True):
        assert list(kernels(module, decompose=decompose).values()) == ["gates"]
        alone = kernels(module, decompose=decompose, epilogues=False)
        assert sorted(alone.values()) == ["loop", "matmul"]
        a, b, c, d = torch.addmm(inputs[2], inputs[0], inputs[1]).tanh().split(3, 1)
        for stage in stages(module, decompose=decompose):
            (result,) = interpret.run(stage, inputs)
            torch.testing.assert_close(result, a * b + c * d, **ROUNDED)


def test_reversed_axes_and_windows_of_them_fuse_into_a_reduction():
    module = main_text(
        "%x: tensor<4x6xf32>",
        """-> (tensor<4xf32>) {
        %0 = "keras.reverse"(%x) {axes = array<i64: 1>} : (tensor<4x6xf32>) -> tensor<4x6xf32>
        %1 = "keras.slice"(%0) {starts = array<i64: 0, 1>, limits = array<i64: 4, 4>, strides = array<i64: 1, 2>}
            : (tensor<4x6xf32>) -> tensor<4x2xf32>
        %2 = "keras.sum"(%1) {axes = array<i64: 1>} : (tensor<4x2xf32>) -> tensor<4xf32>
        return %2 : tensor<4xf32> }""",
    )
    assert list(kernels(module).values()) == ["loop"]
    x = torch.randn(4, 6)
    for stage in stages(module):
        torch.testing.assert_close(interpret.run(stage, [x])[0], x.flip(1)[:, 1:4:2].sum(1))


def test_a_function_of_no_arguments_has_a_meaning_at_every_stage():
    module = main_text(
        "",
        """-> tensor<3xi32> {
        %0 = "keras.iota"() {shape = array<i64: 3>, axis = 0 : i64, dtype = "i32"} : () -> tensor<3xi32>
        return %0 : tensor<3xi32> }""",
    )
    for stage in stages(module):
        assert interpret.run(stage, [])[0].tolist() == [0, 1, 2]


def test_grouping_leaves_dependent_kernels_apart():
    source = golden_input("group-instances")
    grouped = GroupInstances().run(parse(source))
    assert [kernel_kind(f) for f in functions(grouped).values() if kernel_kind(f) == "multi"]
    alone = GroupInstances(least=99).run(parse(source))
    assert "multi" not in {kernel_kind(f) for f in functions(alone).values()}


def test_grouping_leaves_out_kernels_that_read_a_part_of_an_argument():
    """The flat loop over an instance has no axes to pick the part by."""
    cuts = "\n".join(
        f"""%{i} = "keras.slice"(%x{i}) {{starts = array<i64: 0, 0>, limits = array<i64: {n}, 1>,
            strides = array<i64: 1, 1>}} : (tensor<{n}x2xf32>) -> tensor<{n}x1xf32>
            %t{i} = "keras.tanh"(%{i}) : (tensor<{n}x1xf32>) -> tensor<{n}x1xf32>"""
        for i, n in enumerate((4, 5))
    )
    module = main_text(
        "%x0: tensor<4x2xf32>, %x1: tensor<5x2xf32>",
        f"""-> (tensor<4x1xf32>, tensor<5x1xf32>) {{
        {cuts}
        return %t0, %t1 : tensor<4x1xf32>, tensor<5x1xf32> }}""",
    )
    assert list(kernels(module).values()) == ["loop", "loop"]


def test_a_split_sum_leaves_out_what_its_condition_does():
    """The factor of a channel that is off everywhere is infinite, and counts nothing."""
    module = parse(golden_input("split-sums"))
    x = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    x[0, :, :, 0] = -1.0
    inputs = [x, torch.zeros_like(x)]
    wanted, made = (
        interpret.run(each, inputs) for each in (module, PASSES["split-sums"].run(module))
    )
    assert wanted[1].isfinite().all()
    for want, got in zip(wanted, made, strict=True):
        torch.testing.assert_close(got, want, equal_nan=True)


def test_sums_of_what_depends_on_the_late_factor_are_not_split():
    """The gradient of a gate by the channel, as in squeeze and excitation."""
    x, g = "tensor<2x3x5xf32>", "tensor<2x5xf32>"
    module = main_text(
        f"%x: {x}, %g: {g}, %d: {x}",
        f"""-> tensor<5xf32> {{
        %0 = "keras.broadcast_in_dim"(%g) {{dims = array<i64: 0, 2>, shape = array<i64: 2, 3, 5>}} : ({g}) -> {x}
        %1 = "keras.exp"(%d) : ({x}) -> {x}
        %2 = "keras.mul"(%0, %1) : ({x}, {x}) -> {x}
        %3 = "keras.sum"(%2) {{axes = array<i64: 0, 1>}} : ({x}) -> tensor<5xf32>
        return %3 : tensor<5xf32> }}""",
    )
    assert text(PASSES["split-sums"].run(module)) == text(module)
