"""A last product and its cross-entropy without logits: the pass, its kernels, and whole models."""
# ruff: noqa: E501 (MLIR text)

import keras
import numpy as np
import pytest
import torch
from golden_files import golden_input
from kernel_cases import check, inputs

import keras_triton
from keras_triton import pipeline
from keras_triton.compile import import_captured
from keras_triton.explanation import capture_example
from keras_triton.kernels import Problem, get
from keras_triton.kernels.linear_loss import LinearLossConfig
from keras_triton.kernels.linear_loss_grad import LinearLossGradConfig
from keras_triton.lowering import interpret
from keras_triton.lowering.errors import LoweringError
from keras_triton.lowering.heads import told_of
from keras_triton.lowering.mlir import parse
from keras_triton.lowering.passes.recompute_logits import RecomputeLogits
from keras_triton.lowering.pipeline import lower
from keras_triton.lowering.plan import Call, walk
from keras_triton.lowering.plan_reader import read_plan
from keras_triton.lowering.region import kernel_kind

HEADS = [
    "linear_cross_entropy",
    *(f"linear_cross_entropy_{part}_grad" for part in ("input", "weight")),
]
NAN, INF = float("nan"), float("inf")


def problem(name, rows, classes, depth):
    operands = [((rows, depth), "float32"), ((depth, classes), "float32"), ((classes,), "float32")]
    operands += [((rows,), "int64"), *([((rows,), "float32")] * 2 if "grad" in name else [])]
    return Problem.of(operands, transpose_w=False)


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("linear_cross_entropy", LinearLossConfig(16, 16, 16, 4, 4, 1)),
        ("linear_cross_entropy_input_grad", LinearLossGradConfig(16, 16, 16, 16, 4, 4, 1)),
        ("linear_cross_entropy_weight_grad", LinearLossGradConfig(16, 16, 16, 16, 1, 4, 1)),
    ],
)
def test_programs_share_the_classes_and_a_depth_of_several_chunks(name, config):
    check(get(name), problem(name, 19, 103, 37), config)


def test_gradients_of_deep_products_make_the_logits_for_each_part_of_the_depth():
    for name in HEADS[1:]:
        deep = problem(name, 3, 20, 390)
        config = LinearLossGradConfig(16, 32, 32, 256, 1, 4, 1)
        (launch,) = get(name).program(deep, config).launches
        assert 2 in launch.grid
        check(get(name), deep, config)
        ratio = get(name).work(deep).flops / get(name).work(problem(name, 3, 20, 384)).flops
        assert ratio > 1.4


def test_the_loss_carries_nan_and_infinity_as_torch_does():
    x = torch.eye(5, 8)
    w = torch.randn(8, 40, generator=torch.Generator().manual_seed(0))
    w[0, 3], w[1, 37], w[2], w[3, :38] = NAN, INF, -INF, -INF
    w[4, 5] = w[4, 21] = 7.0
    x[:, 5:] = 0
    target, bias = torch.tensor([1, 2, 0, 39, 40]), torch.zeros(40)
    # Products by 0 spoil what they meet, so each row has the logits of one row of w.
    for row in range(5):
        loss, lse, best = get("linear_cross_entropy").run(
            problem("linear_cross_entropy", 1, 40, 1),
            LinearLossConfig(16, 16, 16, 2, 4, 1),
            (torch.ones(1, 1), w[row : row + 1], bias, target[row : row + 1]),
            interpret=True,
        )
        torch.testing.assert_close(lse, torch.logsumexp(w[row : row + 1], -1), equal_nan=True)
        assert best.item() == w[row].argmax().item()
        if row == 4:
            assert loss.isnan().all()  # no class has that number


def test_gradients_of_a_target_out_of_range_are_nan():
    name = HEADS[1]
    given = list(inputs(get(name), problem(name, 3, 5, 4)))
    given[3] = torch.tensor([1, 5, -1])
    config = LinearLossGradConfig(16, 16, 16, 16, 1, 4, 1)
    (dx,) = get(name).run(problem(name, 3, 5, 4), config, tuple(given), interpret=True)
    assert dx.isnan().all(1).tolist() == [False, True, True]


def stage(body, signature, results):
    return parse(
        f'module attributes {{keras.stage = "keras"}} {{ func.func @main({signature}) -> ({results}) {{ {body} }} }}'
    )


def head(dtype="f32", rows=16, classes=300, depth=8, tail="", more=""):
    """A product, its loss and all gradients; `tail` stands before the return, of `more`."""
    x, w, z = f"{rows}x{depth}x{dtype}", f"{depth}x{classes}x{dtype}", f"{rows}x{classes}x{dtype}"
    wide, row = f"tensor<{rows}x{classes}xf32>", f"tensor<{rows}xf32>"
    x, w, z = (f"tensor<{kind}>" for kind in (x, w, z))
    widened = f'%z = "keras.cast"(%h) {{dtype = "f32"}} : ({z}) -> {wide}' if dtype != "f32" else ""
    narrowed = (
        f'%d = "keras.cast"(%dz) {{dtype = "{dtype}"}} : ({wide}) -> {z}' if dtype != "f32" else ""
    )
    logits, dz = ("%z", "%d") if dtype != "f32" else ("%h", "%dz")
    return stage(
        f"""%h = "keras.matmul"(%x, %w) {{transpose_a = false, transpose_b = false}} : ({x}, {w}) -> {z} loc("m/dense")
        {widened}
        %l:2 = "keras.cross_entropy"({logits}, %t) : ({wide}, tensor<{rows}xi64>) -> ({row}, {row}) loc("m/loss")
        %dz = "keras.cross_entropy_grad"(%g, {logits}, %t, %l#1) : ({row}, {wide}, tensor<{rows}xi64>, {row}) -> {wide}
        {narrowed}
        %dw = "keras.matmul"(%x, {dz}) {{transpose_a = true, transpose_b = false}} : ({x}, {z}) -> {w}
        %dx = "keras.matmul"({dz}, %w) {{transpose_a = false, transpose_b = true}} : ({z}, {w}) -> {x}
        {tail}
        return %l#0, %dw, %dx{"".join(f", {name}" for name, _ in more)} : {row}, {w}, {x}{"".join(f", {kind}" for _, kind in more)}""",
        f"%x: {x}, %w: {w}, %t: tensor<{rows}xi64>, %g: {row}",
        ", ".join([row, w, x, *(kind for _, kind in more)]),
    )


def told(module, **options):
    (sentence,) = told_of(RecomputeLogits(**options).run(module))
    return sentence


def test_values_are_equal_before_and_after():
    draw = torch.Generator().manual_seed(0)
    shapes = [(16, 8), (8, 300), (300,), (300, 8), (16,)]
    x, w, b, e, g = (torch.randn(s, generator=draw) for s in shapes)
    given = [x, w, b, torch.randint(5, (16,), generator=draw), e, g]
    module = parse(golden_input("recompute-logits"))
    for when in ("faster", "always"):
        after = RecomputeLogits(when).run(module)
        pairs = zip(
            interpret.run(module, given, exact=True),
            interpret.run(after, given, exact=True),
            strict=True,
        )
        for before, now in pairs:
            torch.testing.assert_close(now, before, rtol=1e-10, atol=1e-12)


def test_values_are_equal_in_half_precision_and_of_a_transposed_matrix():
    draw = torch.Generator().manual_seed(1)
    x, w, g = (torch.randn(s, generator=draw) for s in ((16, 8), (8, 300), (16,)))
    t = torch.randint(300, (16,), generator=draw)
    turned = stage(
        """%h = "keras.matmul"(%x, %e) {transpose_a = false, transpose_b = true} : (tensor<16x8xf32>, tensor<300x8xf32>) -> tensor<16x300xf32>
        %l:2 = "keras.cross_entropy"(%h, %t) : (tensor<16x300xf32>, tensor<16xi64>) -> (tensor<16xf32>, tensor<16xf32>)
        %dz = "keras.cross_entropy_grad"(%g, %h, %t, %l#1) : (tensor<16xf32>, tensor<16x300xf32>, tensor<16xi64>, tensor<16xf32>) -> tensor<16x300xf32>
        %dw = "keras.matmul"(%x, %dz) {transpose_a = true, transpose_b = false} : (tensor<16x8xf32>, tensor<16x300xf32>) -> tensor<8x300xf32>
        %w = "keras.transpose"(%e) {permutation = array<i64: 1, 0>} : (tensor<300x8xf32>) -> tensor<8x300xf32>
        %dx = "keras.matmul"(%dz, %w) {transpose_a = false, transpose_b = true} : (tensor<16x300xf32>, tensor<8x300xf32>) -> tensor<16x8xf32>
        return %l#0, %dw, %dx : tensor<16xf32>, tensor<8x300xf32>, tensor<16x8xf32>""",
        "%x: tensor<16x8xf32>, %e: tensor<300x8xf32>, %t: tensor<16xi64>, %g: tensor<16xf32>",
        "tensor<16xf32>, tensor<8x300xf32>, tensor<16x8xf32>",
    )
    half = head("bf16")
    for module, given in (
        (turned, [x, w.T.contiguous(), t, g]),
        (half, [x.bfloat16(), w.bfloat16(), t, g]),
    ):
        after = RecomputeLogits().run(module)
        assert "never stored" in told_of(after)[0]
        pairs = zip(interpret.run(module, given), interpret.run(after, given), strict=True)
        for before, now in pairs:
            torch.testing.assert_close(now, before)


def test_each_cross_entropy_says_what_became_of_its_logits():
    first, reused, few = told_of(RecomputeLogits().run(parse(golden_input("recompute-logits"))))
    assert "model/logits: logits are never stored: to make them takes 0." in first
    assert reused == "model/reused: logits are stored: keras.exp of model/odds reads the logits too"
    assert few == (
        "model/few: logits are stored: rows of 5 are no longer than those of 8 they are made of"
    )


def test_a_roofline_a_target_or_a_budget_decides():
    small, deep = head(), head(rows=900, classes=30000, depth=700)
    assert "never stored: to make them takes 0." in told(small)
    assert "stored: this target multiplies no faster than it stores" in told(small, when="never")
    assert "dense: logits are stored: to make them again takes" in told(deep)
    assert "never stored: there is a budget of memory" in told(deep, when="always")
    assert "stored: to make them again takes" in told(head("f32", 90, 30000, 100))
    assert "never stored: to make them takes" in told(head("f32", 90, 30000, 100), precision="tf32")
    assert "never stored: to make them takes" in told(head("bf16", 90, 30000, 100))
    assert "all that the step is given takes less memory" in told(head("bf16", 4096, 30000, 250))


def test_a_word_that_is_no_choice_is_refused():
    with pytest.raises(LoweringError, match="when 'sometimes'; allowed: never, faster, always"):
        RecomputeLogits("sometimes").run(head())


WIDE = "tensor<16x300xf32>"
REFUSED = [
    ('%o = "keras.exp"(%dz) : (WIDE) -> WIDE', "keras.exp reads the gradient of the logits too"),
    ('%o = "keras.relu"(%h) : (WIDE) -> WIDE', "keras.relu reads the logits too"),
    (
        '%u:2 = "keras.cross_entropy"(%h, %t) : (WIDE, tensor<16xi64>) -> (tensor<16xf32>, tensor<16xf32>)\n'
        '%o = "keras.cross_entropy_grad"(%u#0, %h, %t, %u#1) : (tensor<16xf32>, WIDE, tensor<16xi64>, tensor<16xf32>) -> WIDE',
        "another loss",
    ),
]


@pytest.mark.parametrize(("tail", "reason"), REFUSED)
def test_what_reads_logits_or_their_gradient_keeps_them(tail, reason):
    module = head(tail=tail.replace("WIDE", WIDE), more=[("%o", WIDE)])
    sentences = told_of(RecomputeLogits().run(module))
    assert any(reason in sentence for sentence in sentences)
    assert not any("never" in sentence for sentence in sentences)


def small_gpt(policy="float32", tied=False, vocabulary=1100):
    """A causal block between an embedding and the next token of each place."""
    inputs = keras.Input((12,), dtype="int32")
    table = keras.layers.ReversibleEmbedding(vocabulary, 24, dtype=policy)
    x = table(inputs)
    h = keras.layers.LayerNormalization(dtype=policy)(x)
    h = keras.layers.MultiHeadAttention(2, 12, dtype=policy)(h, h, use_causal_mask=True)
    x = keras.layers.LayerNormalization(dtype=policy)(keras.layers.Add(dtype=policy)([x, h]))
    y = table(x, reverse=True) if tied else keras.layers.Dense(vocabulary, dtype=policy)(x)
    return keras.Model(inputs, y)


def trained(jit_compile, batches=(3, 2), **options):
    keras.utils.set_random_seed(2)
    model = small_gpt(**options)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.5), loss, metrics=["accuracy"], jit_compile=jit_compile)
    draw = np.random.default_rng(0)
    x = draw.integers(0, 1100, (sum(batches), 12))
    y = (7 * x + 3) % 1100
    history = model.fit(x, y, batch_size=batches[0], epochs=1, shuffle=False, verbose=0).history
    tested = model.evaluate(x, y, batch_size=batches[0], verbose=0)
    return model, [*history["loss"], *history["accuracy"], *tested]


@pytest.mark.parametrize("tied", [False, True])
def test_a_language_model_trains_as_op_by_op_and_stores_no_logits(tied, forced):
    forced("interpret")
    model, figures = trained(True, tied=tied)
    eager, expected = trained(False, tied=tied)
    np.testing.assert_allclose(figures, expected, rtol=1e-5)
    for mine, theirs in zip(model.get_weights(), eager.get_weights(), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-6)
    x = np.zeros((3, 12), "int32")
    report = keras_triton.explain(model, x, x)
    assert [row.how.split()[-1] for row in report.rows if "cross_entropy" in row.how] == HEADS
    assert "never stored" in report.logits[0]
    assert _elements(model, x, 3 * 12 * 1100) == []


def _elements(model, x, count):
    """The kernels of a train step that touch a tensor of so many elements."""
    module = import_captured(capture_example(model, x, x))
    plan = read_plan(lower(module, rows=8192))
    calls = [item for item, _ in walk(plan.steps) if isinstance(item, Call)]
    assert set(HEADS) <= {kernel_kind(plan.kernels[call.kernel]) for call in calls}
    return [c.kernel for c in calls if any(ref.type.size == count for ref in c.operands)]


def test_the_pass_can_be_left_out(forced):
    forced("interpret")
    model, _ = trained(True, batches=(2,))
    x = np.zeros((2, 12), "int32")
    with pipeline.without("recompute-logits"):
        report = keras_triton.explain(model, x, x)
    assert not report.logits
    assert not any("linear_cross_entropy" in row.how for row in report.rows)
