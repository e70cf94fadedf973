"""Language models of keras-hub: what each generates, taking the likeliest token."""

from typing import Any

import numpy as np
from hub_models import CAUSAL, language_model, prompt

NAMES = tuple(CAUSAL)
TOLERANCE = 0.0  # tokens


def run(name: str) -> tuple[list[np.ndarray], Any]:
    """The tokens for two prompts of one shape."""
    model = language_model(name, "greedy")
    tokens = [model.generate(prompt(seed), stop_token_ids=None)["token_ids"] for seed in range(2)]
    return tokens, model.generate_function
