"""The models by name, in the order in which they are registered."""

from collections.abc import Callable

MODELS: dict[str, Callable] = {}
DRAWS: set[str] = set()


def model(make=None, *, draws=False):
    """Registers a maker: `make(random)` gives a compiled model and its batches (x, y[, weights])."""
    if make is None:
        return lambda make: model(make, draws=draws)
    MODELS[make.__name__] = make
    if draws:
        DRAWS.add(make.__name__)
    return make
