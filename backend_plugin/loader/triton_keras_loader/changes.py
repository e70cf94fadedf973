"""What no version of Keras lets a backend choose, changed after its module has run."""

from collections.abc import Callable
from functools import wraps
from importlib import import_module
from inspect import signature
from types import ModuleType
from typing import Any

# module of keras-hub: its class with `make_generate_function`
GENERATING_CLASSES = {
    "keras_hub.src.models.causal_lm": "CausalLM",
    "keras_hub.src.models.image_to_image": "ImageToImage",
    "keras_hub.src.models.inpaint": "Inpaint",
    "keras_hub.src.models.text_to_image": "TextToImage",
}


def replace_optimizer(module: Any) -> None:
    """Put our base of all optimizers where Keras imports torch's from."""
    module.TorchOptimizer = import_module("keras_triton.src.optimizer").BackendOptimizer


def plain_name_in_metadata(module: Any) -> None:
    """Let the metadata of an ``.h5`` file name the backend by a `str`: h5py takes no subclass."""
    original = module.model_metadata

    @wraps(original)
    def model_metadata(*args: Any, **kwargs: Any) -> dict[str, Any]:
        return {**original(*args, **kwargs), "backend": "triton"}

    module.model_metadata = model_metadata


def allow_profiling(module: Any) -> None:
    """Let the TensorBoard callback profile: with torch it refuses any ``profile_batch``."""
    original = module.TensorBoard.__init__

    @wraps(original)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        given = signature(original).bind(self, *args, **kwargs)
        profile_batch = given.arguments.pop("profile_batch", 0)
        original(*given.args, **given.kwargs)
        self._init_profile_batch(profile_batch)

    module.TensorBoard.__init__ = __init__


def allow_nasnet(module: Any) -> None:
    """Let NASNetMobile be built: Keras refuses it by torch's name, for an error torch has no more."""
    view = ModuleType(module.backend.__name__)
    vars(view).update(vars(module.backend), backend=lambda: "triton")
    module.backend = view


def compile_generation(module: ModuleType) -> None:
    """Have keras-hub's class of the module generate compiled."""
    generation = import_module("keras_triton.src.generation")
    generation.compile_generation(getattr(module, GENERATING_CLASSES[module.__name__]))


ACTIONS: dict[str, Callable[[ModuleType], None]] = {
    "keras.src.applications.nasnet": allow_nasnet,
    "keras.src.backend.torch.optimizers": replace_optimizer,
    "keras.src.legacy.saving.saving_utils": plain_name_in_metadata,
    "keras.src.callbacks.tensorboard": allow_profiling,
    **dict.fromkeys(GENERATING_CLASSES, compile_generation),
}
