"""The driver: what a compiled step does to memory, dtypes and threads, and how a failure is met."""

import re
import shlex
import warnings

import keras
import numpy as np
import pytest
import torch
from keras import layers, ops

from keras_triton import cli, ready
from keras_triton import compile as driver
from keras_triton.capture import capture
from keras_triton.journal import stats
from keras_triton.lowering import emit_llvm, mlir
from keras_triton.lowering.errors import EmitError
from keras_triton.settings import settings

# Both compute in float32; only the order of roundings differs.
TOLERANCE = 1e-5
REPRODUCE = re.compile(r"Reproduce with: keras-triton (.+)$")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache folder of the test's own, and no failure warned of yet."""
    monkeypatch.setattr(ready, "_warned", set())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_TRITON_CACHE", str(tmp_path / "cache"))
        settings.cache_clear()
        yield tmp_path / "cache"
    settings.cache_clear()


def classifier(**options):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((6,)), layers.Dense(8, activation="tanh", name="hidden"), layers.Dense(3)]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), loss, **options)
    return model


def samples(count):
    generator = np.random.default_rng(0)
    x = generator.normal(size=(count, 6)).astype("float32")
    return x, generator.integers(0, 3, count)


def losses(model, counts=(8, 8, 8, 5, 5)):
    """The losses of steps over batches of these sizes: two signatures."""
    return [float(model.train_on_batch(*samples(count))) for count in counts]


def eager(model, x):
    """What the model predicts op by op."""
    model.run_eagerly, model.predict_function = True, None
    return model.predict_on_batch(x)


def failures(caught):
    return [str(w.message) for w in caught if "could not compile" in str(w.message)]


def fail_for(monkeypatch, part):
    """Lets no kernel compile whose name holds `part`."""
    compile_kernels = emit_llvm.compile_kernels

    def failing(functions, folder):
        if any(part in name for name in functions):
            raise EmitError("the loops do not lower to LLVM:\nerror: a reason")
        return compile_kernels(functions, folder)

    monkeypatch.setattr(emit_llvm, "compile_kernels", failing)


def test_a_kernel_that_fails_runs_on_torch_with_one_warning(cache, monkeypatch, capsys):
    fail_for(monkeypatch, "optimizer_x")
    before = len(stats().reports)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = losses(classifier())
        found_again = losses(classifier())
    np.testing.assert_allclose(found, losses(classifier(run_eagerly=True)), rtol=TOLERANCE)
    np.testing.assert_allclose(found_again, found, rtol=TOLERANCE)
    (message,) = failures(caught)
    assert "the loops do not lower to LLVM: error: a reason." in message
    for report in stats().reports[before:]:
        (row,) = report.fallbacks
        assert row.how == "torch (meaning of the kernel)"
        assert row.layers == ("optimizer",)
    assert len(stats().reports) == before + 4, "two models of two signatures"

    command = shlex.split(REPRODUCE.search(message)[1])
    (saved,) = (cache / "failed").iterdir()
    assert command == ["compile", str(saved), "--target", "cpu"]
    mlir.parse(saved.read_text())
    assert cli.main(command) == 0
    # A table folds its cells at any letter.
    assert "areason" in re.sub(r"\W", "", capsys.readouterr().out)


@pytest.mark.parametrize("broken", ["import_graph", "lower"])
def test_a_step_that_fails_runs_as_captured_with_one_warning(broken, cache, monkeypatch):
    def fail(*args, **options):
        raise RuntimeError("no such thing.")

    monkeypatch.setattr(driver, broken, fail)
    before = len(stats().reports)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = losses(classifier())
    np.testing.assert_allclose(found, losses(classifier(run_eagerly=True)), rtol=TOLERANCE)
    (message,) = failures(caught)
    assert "could not compile train_step and runs it on torch: no such thing." in message
    for report in stats().reports[before:]:
        (row,) = report.fallbacks
        assert (row.how, row.fallback) == ("torch (captured graph)", "no such thing.")
    # Before the import there is no module that could reproduce anything.
    assert bool(REPRODUCE.search(message)) == (broken == "lower")
    monkeypatch.undo()
    if broken == "lower":
        assert cli.main(shlex.split(REPRODUCE.search(message)[1])) == 0


def test_a_module_that_cannot_be_kept_ends_no_run(cache, monkeypatch):
    fail_for(monkeypatch, "optimizer_x")
    cache.mkdir()
    (cache / "failed").write_text("a file where the folder should be")
    with pytest.warns(RuntimeWarning, match=r"could not be kept in .*failed \(File exists\)"):
        found = losses(classifier())
    np.testing.assert_allclose(found, losses(classifier(run_eagerly=True)), rtol=TOLERANCE)


def test_state_is_updated_in_place():
    model = classifier()
    losses(model, (8,))
    variables = [*model.variables, *model.optimizer.variables]
    places = [variable.value.data_ptr() for variable in variables]
    before = [variable.numpy().copy() for variable in variables]
    losses(model, (8, 8, 5))
    assert [variable.value.data_ptr() for variable in variables] == places
    changed = [not np.array_equal(old, v.numpy()) for old, v in zip(before, variables, strict=True)]
    assert sum(changed) >= 9, "4 weights, their 4 velocities, the iteration"


@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_data_need_not_be_contiguous(kind):
    x = samples(8)[0]
    turned = np.asfortranarray(x) if kind == "numpy" else torch.as_tensor(x.T.copy()).T
    model = classifier()
    found = [model.predict_on_batch(turned), model.predict_on_batch(x)]
    np.testing.assert_array_equal(*found)
    np.testing.assert_allclose(found[0], eager(model, x), rtol=TOLERANCE, atol=1e-6)


def test_state_need_not_be_contiguous():
    models = [classifier(), classifier(run_eagerly=True)]
    for model in models:
        kernel = model.get_layer("hidden").kernel.value
        kernel.data = kernel.data.T.contiguous().T
        assert not kernel.is_contiguous()
    np.testing.assert_allclose(losses(models[0]), losses(models[1]), rtol=TOLERANCE)


class AddsConstant(layers.Layer):
    """Adds a tensor of its own that is no variable."""

    table = torch.arange(12.0).reshape(3, 4).T[1]

    def call(self, x):
        return x + self.table


def test_constants_need_not_be_contiguous():
    model = keras.Sequential([keras.Input((3,)), AddsConstant()])
    x = np.ones((4, 3), "float32")
    np.testing.assert_array_equal(model.predict_on_batch(x), x + AddsConstant.table.numpy())


def test_results_of_two_calls_share_no_memory():
    model = classifier()
    model.make_predict_function()
    x = torch.as_tensor(samples(8)[0])
    first = model.predict_function([(x,)])
    kept = first.clone()
    second = model.predict_function([(2 * x,)])
    assert first.data_ptr() != second.data_ptr()
    assert torch.equal(first, kept)
    assert not torch.equal(first, second)


def test_a_new_batch_size_compiles_once_more():
    model, before = classifier(), len(stats().reports)
    losses(model, (8, 5, 8, 5, 5))
    assert len(stats().reports) == before + 2
    assert vars(model.train_function.step.counts) == {"captures": 2, "compiled": 5, "op_by_op": 0}


def test_kernels_get_as_many_threads_as_torch_has(monkeypatch):
    """Those of a step get what its one call is given."""
    given, threads = [], torch.get_num_threads()
    model, x = classifier(), samples(8)[0]
    model.predict_on_batch(x)
    make, run = emit_llvm.driver.driver(), emit_llvm.driver.driver().run
    monkeypatch.setattr(make, "run", lambda *call: given.append(call[-1]) or run(*call))
    seen = []
    try:
        for count in (1, 2, 1):
            torch.set_num_threads(count)
            given.clear()
            model.predict_on_batch(x)
            seen.append(set(given))
    finally:
        torch.set_num_threads(threads)
    assert seen == [{1}, {2}, {1}]


@pytest.mark.parametrize(
    ("policy", "tolerance"),
    [
        ("float32", 1e-5),
        # Keras rounds sums and products to float32 under float64, too, except on TensorFlow.
        ("float64", 1e-5),
        # Eager rounds to 8 bits after every op, a fused kernel once at its end.
        ("mixed_bfloat16", 3e-2),
        ("bfloat16", 3e-2),
    ],
)
def test_predictions_under_a_dtype_policy_equal_the_eager_ones(policy, tolerance):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(16, activation="gelu", dtype=policy),
            layers.LayerNormalization(dtype=policy),
            layers.Dense(4, activation="softmax", dtype=policy),
        ]
    )
    before = len(stats().reports)
    found = model.predict_on_batch(samples(8)[0])
    assert stats().reports[before].fallbacks == ()
    wanted = eager(model, samples(8)[0])
    assert found.dtype == wanted.dtype
    # Probabilities: the tolerance is relative to 1.
    np.testing.assert_allclose(
        found.astype("float64"), wanted.astype("float64"), rtol=0, atol=tolerance
    )


def test_what_keras_keeps_in_float64_is_computed_in_float64():
    names = ("gelu", "softmax")
    model = keras.Sequential(
        [keras.Input((6,)), *(layers.Activation(name, dtype="float64") for name in names)]
    )
    x = samples(8)[0]
    found = model.predict_on_batch(x)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, eager(model, x), rtol=1e-14)


def images():
    return np.arange(2 * 6 * 6, dtype="uint8").reshape(2, 6, 6, 1) * 7


def test_uint8_images_are_compiled():
    """Bytes above 127 are negative where they are read as int8."""
    model = keras.Sequential(
        [
            keras.Input((6, 6, 1), dtype="uint8"),
            layers.Rescaling(1 / 255),
            layers.Flatten(),
            layers.Dense(3),
        ]
    )
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    assert images().max() > 127
    before = len(stats().reports)
    found = model.predict_on_batch(images())
    (report,) = stats().reports[before:]
    assert report.fallbacks == ()
    assert "andi" in report.rows[0].ops
    weights = model.get_weights()
    trained = [float(model.train_on_batch(images(), np.array([0, 2], "uint8"))) for _ in range(3)]
    assert stats().reports[-1].fallbacks == ()
    model.set_weights(weights)
    np.testing.assert_allclose(found, eager(model, images()), rtol=TOLERANCE, atol=1e-6)
    model.train_function = None
    again = [float(model.train_on_batch(images(), np.array([0, 2], "uint8"))) for _ in range(3)]
    np.testing.assert_allclose(trained, again, rtol=TOLERANCE)


class Wraps(layers.Layer):
    """Arithmetic in uint8, which wraps at 256."""

    def call(self, x):
        return ops.cast(ops.add(x, x), "float32")


def test_uint8_arithmetic_runs_on_torch_and_is_reported(cache):
    model = keras.Sequential([keras.Input((6, 6, 1), dtype="uint8"), Wraps(dtype="uint8")])
    before = len(stats().reports)
    found = model.predict_on_batch(images())
    np.testing.assert_array_equal(found, (images() + images()).astype("float32"))
    fallbacks = [row.fallback for row in stats().reports[before].fallbacks]
    assert "aten.add.Tensor on uint8" in fallbacks


@pytest.mark.parametrize("masked", [False, True])
def test_attention_runs_on_torchs_own_kernels(masked):
    keras.utils.set_random_seed(0)
    x = np.random.default_rng(0).normal(size=(2, 6, 8)).astype("float32")
    found = []
    for eagerly in (False, True):
        keras.utils.set_random_seed(0)
        inputs = keras.Input((6, 8))
        attend = layers.MultiHeadAttention(2, 4, flash_attention=False)
        model = keras.Model(inputs, attend(inputs, inputs, use_causal_mask=masked))
        model.compile(keras.optimizers.SGD(0.5), "mse", run_eagerly=eagerly)
        before = len(stats().reports)
        found.append([float(model.train_on_batch(x, x)) for _ in range(3)])
        if not eagerly:
            (report,) = stats().reports[before:]
    np.testing.assert_allclose(*found, rtol=TOLERANCE)
    assert report.fallbacks == ()
    ran = {row.how for row in report.rows}
    assert {f"torch attention{part}" for part in ("", "_grad")} <= ran


def test_values_read_by_two_folds_of_the_leading_axis():
    """Inside the kernel such a value lies in the kernel's order of axes, not in its own."""

    def fn(x):
        y = ops.log(x * 3 + 1)
        least = ops.min(y, axis=0, keepdims=True)
        hit = ops.logical_and(y == least, x > 0.1)
        return ops.sum(ops.where(hit, y * y, 0.0), axis=0), ops.sum(ops.exp(y - least), axis=0)

    x = torch.rand((8, 6, 3), generator=torch.Generator().manual_seed(0))
    compiled = driver.compile_quietly(capture(fn, (x,), name="folds"))
    assert not compiled.report.fallbacks
    torch.testing.assert_close(tuple(compiled([x])), fn(x))
