"""What ``keras.config.backend()`` returns: a name that equals "torch" too."""

import sys
from types import FrameType

# Where Keras 3.16 takes the parts of a backend from: module and function ("<module>": its own code).
# A name that equals "torch" there gets torch's parts instead of a plugin's.
PLUG_POINTS = {
    ("keras.src.backend", "<module>"),
    ("keras.src.layers.layer", "<module>"),
    ("keras.src.models.model", "<module>"),
    ("keras.src.export.saved_model", "<module>"),
    ("keras.src.utils.backend_utils", "_get_module"),
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


class PluginName(BackendName):
    """A ``BackendName`` that does not equal "torch" where Keras chooses between the two."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return self._equals(other, sys._getframe(1))

    def __ne__(self, other: object) -> bool:
        return not self._equals(other, sys._getframe(1))

    __hash__ = BackendName.__hash__

    def _equals(self, other: object, asker: FrameType) -> bool:
        place = asker.f_globals.get("__name__"), asker.f_code.co_name
        return str.__eq__(self, other) is True or (other == "torch" and place not in PLUG_POINTS)
