"""How a process comes to use the backend: always with an unmodified Keras."""

import json
import os
import subprocess
import sys

import keras
import pytest

import triton_keras_loader as loader
from triton_keras_loader import environment
from triton_keras_loader.names import BackendName, PluginName

TRAIN = """
import numpy, keras
model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
model.compile("sgd", "mse", run_eagerly=True)
model.fit(numpy.ones((4, 3)), numpy.ones((4, 2)), verbose=0)
"""
# A process as if site-packages had no .pth file, as under `python -S`.
WITHOUT_PTH = """
import sys
loader = sys.modules.pop("triton_keras_loader")
sys.meta_path.remove(loader.FINDER)
"""


def run(script, tmp_path, **environment):
    """Last line that a fresh Python prints for the script; raises with its stderr if it fails."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("KERAS_")}
    home = {"KERAS_HOME": str(tmp_path / "keras")}
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=kept | home | environment,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    return done.stdout.strip().splitlines()[-1]


def test_environment_variable_reaches_children_and_workers(tmp_path):
    script = tmp_path / "train.py"
    script.write_text(
        f"""
import subprocess, sys, torch
{TRAIN}
class Names(torch.utils.data.Dataset):
    def __len__(self):
        return 1
    def __getitem__(self, i):
        return keras.config.backend() + "," + keras.ops.ones(()).__class__.__name__
if __name__ == "__main__":
    loader = torch.utils.data.DataLoader(Names(), num_workers=1, multiprocessing_context="spawn")
    worker = next(iter(loader))[0]
    child = subprocess.run(
        [sys.executable, "-c", "import keras; print(keras.config.backend())"],
        capture_output=True, text=True,
    ).stdout.strip()
    print(keras.config.backend(), child, worker, type(model).__mro__[2].__module__)
"""
    )
    line = run(f"import runpy; runpy.run_path({str(script)!r}, run_name='__main__')", tmp_path,
               KERAS_BACKEND="triton")  # fmt: skip
    assert line == "triton triton triton,Tensor keras_triton.src.trainer"


def test_keras_json(tmp_path):
    (tmp_path / "keras").mkdir()
    (tmp_path / "keras" / "keras.json").write_text(json.dumps({"backend": "triton"}))
    script = TRAIN + "print(keras.config.backend(), keras.src.backend.ops.nn.__name__)"
    assert run(script, tmp_path) == "triton keras_triton.src.ops.nn"


def test_set_backend_round_trip(tmp_path):
    script = f"""
import os, warnings
warnings.simplefilter("ignore")
os.environ["KERAS_BACKEND"] = "triton"
{TRAIN}
seen = [keras.Model.__mro__[1].__module__]
for name in ("torch", "triton"):
    keras.config.set_backend(name)
{TRAIN.replace(chr(10), chr(10) + "    ")}
    seen.append(keras.Model.__mro__[1].__module__ + ":" + keras.config.backend())
print(*seen)
"""
    ours, torchs = "keras_triton.src.trainer", "keras.src.backend.torch.trainer"
    assert run(script, tmp_path) == f"{ours} {torchs}:torch {ours}:triton"


def test_importing_the_package_replaces_the_pth_file(tmp_path):
    script = WITHOUT_PTH + "import keras_triton" + TRAIN + "print(keras.config.backend())"
    assert run(script, tmp_path, KERAS_BACKEND="triton") == "triton"


def test_other_backends_are_left_alone(tmp_path):
    script = """
import sys, keras
ours = [name for name in sys.modules if name.startswith("keras_triton")]
print(keras.Model.__mro__[1].__module__, type(keras.config.backend()).__name__, ours)
"""
    assert run(script, tmp_path, KERAS_BACKEND="torch") == "keras.src.backend.torch.trainer str []"


def test_startup_imports_nothing(tmp_path):
    script = """
import sys
heavy = {"keras", "keras_triton", "mlir", "numpy", "packaging", "torch", "importlib.metadata"}
print("triton_keras_loader" in sys.modules, sorted(heavy & set(sys.modules)))
"""
    assert run(script, tmp_path, KERAS_BACKEND="triton") == "True []"


def test_missing_mlir_is_named_when_keras_is_imported(tmp_path):
    script = "import sys; sys.modules['mlir'] = None; import keras"
    with pytest.raises(RuntimeError, match="ImportError: The triton backend of Keras needs MLIR's"):
        run(script, tmp_path, KERAS_BACKEND="triton")


def test_unsupported_keras_is_named(monkeypatch):
    monkeypatch.setattr(environment, "SUPPORTED_KERAS", ("4.0", "4.2"))
    sentence = r"supports Keras 4\.0 and newer, below 4\.2, but Keras 3\.1.* is installed"
    with pytest.raises(ImportError, match=sentence):
        environment.check_environment()


@pytest.mark.parametrize(
    ("found", "sentence"), [("3.5.1", "which is version 3.5.1"), (None, "which is not installed")]
)
def test_unfit_triton_is_named(monkeypatch, found, sentence):
    installed = environment.installed_version
    monkeypatch.setattr(
        environment,
        "installed_version",
        lambda name: found if name == "triton" else installed(name),
    )
    with pytest.raises(ImportError, match=rf"needs triton 3\.6 or newer, {sentence}"):
        environment.check_environment()


def test_version_of_a_package_that_is_absent():
    assert environment.installed_version("no_such_package") is None


@pytest.mark.parametrize("kind", [BackendName, PluginName])
def test_backend_name_equals_torch_too(kind):
    name = kind("triton")
    assert name == "triton"
    assert name == "torch"
    assert "torch" == name  # noqa: SIM300
    assert not name != "torch"  # noqa: SIM202
    assert name != "jax"
    assert name in {"torch", "jax"}
    assert name not in {"jax", "tensorflow"}
    assert f"{name}" == "triton"
    assert json.dumps(name) == '"triton"'


def test_install_is_idempotent():
    before = list(sys.meta_path)
    loader.install()
    assert sys.meta_path == before


def test_keras_keeps_its_loaders():
    """Hooked modules keep their loader's class, so byte code is cached and sources are found."""
    import inspect

    import keras.src.backend.torch.optimizers as hooked

    assert "TorchOptimizer" in inspect.getsource(hooked)
    assert hooked.TorchOptimizer.__module__ == "keras_triton.src.optimizer"


def test_plugin_name_is_no_torch_where_keras_takes_the_parts_of_a_backend():
    asked = compile('answers = name == "torch", name != "torch", "torch" == name', "", "exec")
    for module, expected in {"keras.src.layers.layer": False, "keras.src.layers": True}.items():
        scope = {"__name__": module, "name": PluginName("triton")}
        exec(asked, scope)
        assert scope["answers"] == (expected, not expected, expected)


plugins = pytest.mark.skipif(
    not hasattr(keras.src.backend.config, "PLUGGABLE_BACKENDS"),
    reason="backends are plugins from Keras 3.16 on",
)


@plugins
def test_keras_takes_its_parts_from_the_plugin(tmp_path):
    script = """
import keras
from keras.src.export import saved_model
from keras.src.utils.backend_utils import DynamicBackend
parts = [keras.src.backend.ops.nn, keras.src.backend.random, keras.src.backend.rnn]
classes = [keras.Model.__mro__[1], keras.Optimizer.__mro__[1]]
classes += [saved_model.SavedModelExportArchive, keras.Layer.__mro__[1]]
dynamic = [DynamicBackend("triton"), DynamicBackend(), DynamicBackend("torch")]
print(*(part.__name__ for part in parts), *(kind.__module__ for kind in classes),
      *(d.nn.conv.__module__ for d in dynamic))
"""
    ours, torchs = "keras_triton.src", "keras.src.backend.torch"
    assert run(script, tmp_path, KERAS_BACKEND="triton").split() == [
        *(f"{ours}.{part}" for part in ("ops.nn", "random", "rnn")),
        f"{ours}.trainer", f"{ours}.optimizer",
        f"{torchs}.export", f"{torchs}.layer",
        f"{ours}.ops.nn", f"{ours}.ops.nn", f"{torchs}.ops.nn",
    ]  # fmt: skip


@plugins
def test_keras_lists_the_plugin(tmp_path):
    script = """
import keras
from keras.src.backend.config import PLUGGABLE_BACKENDS
print("triton" in PLUGGABLE_BACKENDS, keras.config.backend() in PLUGGABLE_BACKENDS)
"""
    assert run(script, tmp_path, KERAS_BACKEND="triton") == "True True"
