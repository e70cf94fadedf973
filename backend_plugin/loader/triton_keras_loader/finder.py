"""The import finder: waits for Keras, and acts on its modules when they have run."""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

    Action = Callable[[ModuleType], None]

# Imported by the last statement of keras.src.backend.config, when the name is known but unused.
FIRST_AFTER_CONFIG = "keras.src.backend.common"


class Finder:
    """A meta-path finder that watches Keras being imported; it finds no module of its own.

    Attributes:
        actions: module of Keras -> what is done once it has run; empty while Keras is not loaded or
            another backend selected.
    """

    def __init__(self) -> None:
        self.actions: dict[str, Action] = {}

    def find_spec(
        self, name: str, path: "Sequence[str] | None" = None, target: "ModuleType | None" = None
    ) -> "ModuleSpec | None":
        if name == FIRST_AFTER_CONFIG:
            from .selection import select_backend

            self.actions = select_backend()
        elif name in self.actions:
            return self.after_import(name, path, target, self.actions[name])
        return None

    def after_import(
        self,
        name: str,
        path: "Sequence[str] | None",
        target: "ModuleType | None",
        action: "Action",
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


FINDER = Finder()


def install() -> None:
    """Add the finder to ``sys.meta_path``, once."""
    if FINDER not in sys.meta_path:
        sys.meta_path.insert(0, FINDER)
