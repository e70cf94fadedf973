"""Backbones of keras-hub: what each predicts for its inputs."""

from typing import Any

import keras
import numpy as np
from hub_models import BACKBONES, backbone, inputs

NAMES = BACKBONES
# Float32 sums in another order, through two layers.
TOLERANCE = 5e-6


def run(name: str) -> tuple[list[np.ndarray], Any]:
    """The outputs of a second call, since some layers are built by the first."""
    model = backbone(name)
    for _ in range(2):
        outputs = model.predict(inputs(model), verbose=0)
    return keras.tree.flatten(outputs), model.predict_function
